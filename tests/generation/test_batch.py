"""Many prompts in one run: the pictures of the stock pipeline, the maps of the words named, the same refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.generation.batch import generate_batch
from explorer.generation.generate import GenerationRequest, generate, initial_noise

PROMPTS = ["a photo of a turtle", "a photo of a hat"]
WORDS = [("turtle",), ("hat",)]
REQUEST = GenerationRequest(prompt=PROMPTS[0], seed=3, steps=2, guidance_scale=4.0)
SMALL = replace(REQUEST, height=32, width=32)


def test_a_batch_is_the_stock_pipelines_own(make_pipeline):
    pipeline = make_pipeline()
    images, cube, steps = generate_batch(pipeline, REQUEST, PROMPTS, WORDS)
    noise = initial_noise(pipeline, REQUEST).repeat(2, 1, 1, 1)
    stock = pipeline(
        PROMPTS, num_inference_steps=2, guidance_scale=4.0, latents=noise, output_type="np"
    ).images  # fmt: skip
    assert np.array_equal(images, (stock * 255).round().astype(np.uint8))
    assert cube.maps(image=1).shape[0] == 2
    assert steps.guidance.shape == (2, 2, 16, 16)


@pytest.fixture(params=["sd1", "guided in one call", "sdxl", "sd3", "flux"])
def pipeline(request, make_pipeline, make_xl_pipeline, make_sd3_pipeline, make_flux_pipeline):
    def distilled():
        from diffusers import LCMScheduler

        found = make_pipeline(time_cond_proj_dim=8)
        found.scheduler = LCMScheduler()
        return found

    make = {"sd1": make_pipeline, "guided in one call": distilled, "sdxl": make_xl_pipeline, "sd3": make_sd3_pipeline,
            "flux": make_flux_pipeline}  # fmt: skip
    found = make[request.param]()
    found.set_progress_bar_config(disable=True)
    return found


@pytest.mark.parametrize("row", [0, 1])
def test_a_prompt_is_drawn_as_it_is_alone(pipeline, row):
    images, cube, steps = generate_batch(pipeline, SMALL, PROMPTS, WORDS)
    request = replace(SMALL, prompt=PROMPTS[row])
    alone = generate(pipeline, request)
    assert np.abs(images[row].astype(int) - alone.images[0].astype(int)).max() <= 1
    word = alone.words.indices_of(WORDS[row][0])
    assert torch.allclose(cube.maps(image=row)[0], alone.cube.map(word), atol=1e-3)
    assert steps.no_guidance == alone.steps.no_guidance
    if alone.steps.guidance is None:
        assert steps.guidance is None
    else:
        assert torch.allclose(steps.guidance[:, row], alone.steps.guidance[:, 0], rtol=1e-3, atol=1e-4)


def test_a_batch_of_no_numbers_is_refused(make_pipeline):
    pipeline = make_pipeline()
    pipeline.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="model broken made non-finite pixels: its weights or its precision fail"):
        generate_batch(pipeline, REQUEST, PROMPTS, WORDS, "broken")


def test_what_a_model_cannot_read_is_refused_by_name(make_pipeline):
    pipeline = make_pipeline()
    with pytest.raises(ValueError, match="does not know the word 'zebra'"):
        generate_batch(pipeline, REQUEST, [PROMPTS[0], "a photo of a zebra"], [("turtle",), ("zebra",)])
    with pytest.raises(ValueError, match=r"does not hold \['hat'\]"):
        generate_batch(pipeline, REQUEST, PROMPTS[:1], [("hat",)])
