"""``record`` around stock pipelines of every family, called as in a notebook."""

import numpy as np
import pytest
import torch

from explorer.attention.capture import capture_attention
from explorer.attention.prompts import denoiser_of, prompt_words
from explorer.attention.record import record

PROMPT = "a photo of a turtle, dog"
FAMILIES = ("sd", "sdxl", "sd3", "flux")


def draw(pipeline, prompt=PROMPT, seed=0, steps=2, **options):
    generator = torch.Generator().manual_seed(seed)
    settings = {"height": 32, "width": 32, "num_inference_steps": steps, "generator": generator, "output_type": "np"}
    return pipeline(prompt, **settings | options).images


def hook_count(pipeline):
    modules = denoiser_of(pipeline).modules()
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def test_three_lines_of_a_notebook(make_pipeline):
    """docs/api.md shows these lines."""
    pipeline = make_pipeline()
    with record(pipeline, "a photo of a dog") as maps:
        pipeline("a photo of a dog", num_inference_steps=3)
    assert maps["dog"].shape == (16, 16)
    assert list(maps) == ["a", "photo", "of", "dog"]


OPTIONS = {
    "guided": {"guidance_scale": 4.0},
    "unguided": {"guidance_scale": 1.0},
    "two images": {"guidance_scale": 4.0, "num_images_per_prompt": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_finds_what_the_lower_level_is_told(pipelines, family, options):
    pipeline, batch = pipelines[family], options.get("num_images_per_prompt", 1)
    plain, hooks = draw(pipeline, **options), hook_count(pipeline)
    with record(pipeline, PROMPT, keep_heads=True) as maps:
        recorded = draw(pipeline, **options)
    assert np.array_equal(recorded, plain), "recording changes no bit"
    assert hook_count(pipeline) == hooks
    assert "check_inputs" not in vars(pipeline)
    words = prompt_words(pipeline, PROMPT)
    guidance = options["guidance_scale"] > 1 and family != "flux"
    with capture_attention(
        denoiser_of(pipeline), words.matrix, batch=batch, guidance=guidance, steps=2, columns=words.columns
    ) as capture:
        draw(pipeline, **options)
    expected = capture.cube()
    assert (maps.cube.steps, maps.cube.images) == (2, batch)
    assert torch.equal(maps.cube.maps(image=batch - 1), expected.maps(image=batch - 1))
    assert torch.equal(maps["turtle"], expected.map(words.indices_of("turtle")))
    assert torch.equal(maps.map("a", (20, 20), step=1), expected.map(words.indices_of("a"), (20, 20), step=1))
    assert maps.capture._capacity == 2, "as much room is reserved as is needed"


def test_flux_with_a_negative_prompt_is_recorded_where_it_reads_the_prompt(pipelines):
    pipeline = pipelines["flux"]
    with record(pipeline, PROMPT) as plain:
        draw(pipeline, steps=1)
    with record(pipeline, PROMPT) as guided:
        draw(pipeline, steps=1, negative_prompt="a hat", true_cfg_scale=3.0)
        draw(pipeline, steps=2, negative_prompt="a hat", true_cfg_scale=3.0)
    assert guided.cube.steps == 3
    assert torch.equal(guided.map("dog", step=0), plain.map("dog"))


def test_what_would_be_labelled_wrongly_is_refused(pipelines):
    pipeline = pipelines["sd"]
    hooks = hook_count(pipeline)
    with (
        pytest.raises(ValueError, match="the pipeline draws 'a photo of a hat': expected 'a photo of a turtle, dog'"),
        record(pipeline, PROMPT),
    ):
        draw(pipeline, "a photo of a hat")
    with record(pipeline, PROMPT):
        draw(pipeline)
        with pytest.raises(ValueError, match="1 images without guidance are drawn after 1 images with guidance"):
            draw(pipeline, guidance_scale=1.0)
    with record(pipeline, PROMPT) as maps:
        with pytest.raises(ValueError, match="the denoiser was called without its pipeline"):
            pipeline.unet(torch.zeros(1, 4, 8, 8), 1, encoder_hidden_states=torch.zeros(1, 16, 32))
        with pytest.raises(ValueError, match="nothing was captured"):
            maps["dog"]
        with pytest.raises(KeyError, match="does not hold 'cat': expected one of"):
            maps["cat"]
    assert hook_count(pipeline) == hooks
    assert "check_inputs" not in vars(pipeline)


def test_a_denoiser_alone_says_how_it_is_called(pipelines):
    unet, words = pipelines["sd"].unet, prompt_words(pipelines["sd"], PROMPT)
    sample, text = torch.randn(4, 4, 16, 16), torch.randn(4, 16, 32)
    with record(unet, words, guidance=True) as maps, torch.no_grad():
        for timestep in (900, 500, 100):
            unet(sample, timestep, encoder_hidden_states=text)
    assert (maps.cube.steps, maps.cube.images) == (3, 2)
    with pytest.raises(ValueError, match="has no tokenizer, expected PromptWords"), record(unet, PROMPT):
        pytest.fail("accepted")
    with pytest.raises(ValueError, match="expected True or False"), record(unet, words):
        pytest.fail("accepted")
    with pytest.raises(ValueError, match="a str is given: expected a pipeline of SD1"), record("folder", PROMPT):
        pytest.fail("accepted")
    with pytest.raises(ValueError, match="says itself"), record(pipelines["sd"], words, guidance=True):
        pytest.fail("accepted")


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_the_gradient_of_a_map_reaches_the_text(pipelines, family):
    """Against finite differences, in the direction of the gradient."""
    pipeline = pipelines[family]
    denoiser, words = denoiser_of(pipeline), prompt_words(pipeline, PROMPT)
    arguments = inputs_of(family, len(words.matrix))
    text = arguments.pop("encoder_hidden_states")

    def mass(text, gradient):
        with record(denoiser, words, guidance=False, gradient=gradient) as maps:
            denoiser(**arguments, encoder_hidden_states=text)
            denoiser(**arguments, encoder_hidden_states=text)  # room doubles
        return maps["dog"].square().mean()

    text.requires_grad_()
    loss = mass(text, gradient=True)
    (gradient,) = torch.autograd.grad(loss, text)
    assert not mass(text, gradient=False).requires_grad, "only on request"
    with torch.no_grad():
        step = 0.3 * gradient / gradient.norm()
        slope = (mass(text + step, gradient=True) - mass(text - step, gradient=True)) / 0.6
    assert slope.item() == pytest.approx(gradient.norm().item(), rel=0.05)


def inputs_of(family, tokens):
    """Arguments of a call of the tiny denoisers; the first text is random."""
    torch.manual_seed(0)
    if family == "sd":
        return {
            "sample": torch.randn(1, 4, 16, 16), "timestep": 500, "encoder_hidden_states": torch.randn(1, tokens, 32)
        }  # fmt: skip
    from diffusers import FluxPipeline

    return {
        "hidden_states": torch.randn(1, 16, 16), "timestep": torch.tensor([0.5]), "guidance": torch.tensor([3.5]),
        "encoder_hidden_states": torch.randn(1, tokens, 72), "pooled_projections": torch.randn(1, 32),
        "txt_ids": torch.zeros(tokens, 3),
        "img_ids": FluxPipeline._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float32),
    }  # fmt: skip
