import dataclasses

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, HeunDiscreteScheduler, LCMScheduler, PNDMScheduler

from explorer.attention.capture import capture_attention
from explorer.checkpoints.joint_pipelines import denoiser_calls
from explorer.generation.generate import (
    GenerationRequest,
    GenerationStopped,
    compare,
    encode_prompts,
    generate,
    initial_noise,
)

REQUEST = GenerationRequest(prompt="a photo of a turtle, dog", seed=3, steps=3, guidance_scale=4.0)


@pytest.fixture(scope="module")
def pipeline(make_pipeline):
    return make_pipeline()


def altered(**changes):
    return dataclasses.replace(REQUEST, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "  "}, "the prompt is '  ': expected at least one word"),
        ({"steps": 0}, "steps is 0: expected a whole number from 1 to 1000"),
        ({"steps": 10**9}, "steps is 1000000000: expected a whole number from 1 to 1000"),
        ({"steps": 2.5}, "steps is 2.5: expected a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"guidance_scale": 51.0}, "guidance scale is 51.0: expected 0 to 50"),
        ({"guidance_scale": float("nan")}, "guidance scale is nan"),
        ({"images": 65}, "images is 65: expected a whole number from 1 to 64"),
        ({"height": 64}, "only one of height and width"),
        ({"height": 60, "width": 64}, "height is 60: expected a multiple of 8"),
        ({"height": 64, "width": 4096}, "width is 4096: expected a whole number from 8 to 2048"),
    ],
)
def test_requests_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        altered(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "a zebra"}, "does not know the word 'zebra'"),
        ({"negative_prompt": "a zebra"}, "does not know the word 'zebra'"),
        ({"prompt": "dog " * 15}, "the prompt 'dog dog.*' has 15 tokens: expected at most 14"),
        ({"negative_prompt": "dog " * 15}, "the prompt 'dog dog.*' has 15 tokens"),
    ],
)
def test_prompts_the_model_cannot_read_are_refused(pipeline, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(pipeline, altered(**changes))


def test_maps_behind_a_textual_inversion_are_of_the_tokens_that_the_unet_reads(make_pipeline):
    pipeline = make_pipeline()
    pipeline.tokenizer.add_tokens(["<cat>", "<cat>_1", "<cat>_2"])
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer), mean_resizing=False)
    request = altered(prompt="a <cat>, dog", steps=1)
    made = generate(pipeline, request)
    with capture_attention(pipeline.unet, torch.eye(16), batch=1, guidance=True, steps=1) as capture:
        pipeline(request.prompt, num_inference_steps=1, guidance_scale=4.0, latents=initial_noise(pipeline, request))
    tokens = capture.cube().maps()  # start, a, three vectors, the comma, dog
    assert made.words.words == ("a", "<cat>", "dog")
    for column, positions in enumerate(([1], [2, 3, 4], [6], [0], [5, *range(7, 16)])):
        assert torch.allclose(made.cube.maps()[column], tokens[positions].sum(0), atol=2e-3)
    for prompts in ({"prompt": "<cat> " * 5}, {"negative_prompt": "<cat> " * 5}):
        with pytest.raises(ValueError, match=r"the prompt '<cat> .*' has 15 tokens: expected at most 14"):
            generate(pipeline, altered(**prompts))


def test_images_equal_the_stock_call(pipeline):
    stock = pipeline(
        REQUEST.prompt,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    found = generate(pipeline, REQUEST)
    assert found.images.dtype == np.uint8
    assert np.array_equal(found.images, (stock * 255).round().astype(np.uint8))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance_scale": 1.0},
        {"images": 2},
        {"height": 32, "width": 64},
        {"negative_prompt": "hat", "images": 2},
    ],
)
def test_bit_identical_with_and_without_capture(pipeline, changes):
    request = altered(**changes)
    with_maps, without = generate(pipeline, request), generate(pipeline, request, capture=False)
    assert np.array_equal(with_maps.images, without.images)
    assert without.cube is None
    cube = with_maps.cube
    assert (cube.steps, cube.images) == (3, request.images)
    assert cube.columns == ("a", "photo", "of", "a", "turtle", "dog", "[start]", "[end]")
    height, width = request.height or 64, request.width or 64
    assert cube.resolutions[0] == (height // 4, width // 4)
    assert with_maps.images.shape == (request.images, height, width, 3)


def test_each_image_of_a_batch_starts_from_its_own_seed(pipeline):
    batch = generate(pipeline, altered(images=3))
    third = generate(pipeline, altered(seed=5))
    assert torch.equal(initial_noise(pipeline, altered(images=3))[2], initial_noise(pipeline, altered(seed=5))[0])
    assert np.abs(batch.images[2].astype(int) - third.images[0]).max() <= 1
    assert torch.allclose(batch.cube.maps(image=2), third.cube.maps(), atol=1e-3)


@pytest.mark.parametrize(
    ("scheduler", "options", "calls"),
    [
        (HeunDiscreteScheduler, {}, 5),
        (EulerAncestralDiscreteScheduler, {}, 3),
        (PNDMScheduler, {"skip_prk_steps": True}, 4),
    ],
)
def test_other_schedulers(make_pipeline, scheduler, options, calls):
    pipeline = make_pipeline()
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, timestep_spacing="linspace", **options)
    assert denoiser_calls(pipeline, 3) == calls, "as much room is reserved as is needed"
    found, again = generate(pipeline, altered(images=2)), generate(pipeline, altered(images=2), capture=False)
    assert found.cube.steps == calls, "U-Net calls are counted, not scheduler steps"
    assert np.array_equal(found.images, again.images)


def test_progress_and_stop(pipeline):
    seen = []
    generate(pipeline, REQUEST, on_progress=lambda progress: seen.append((progress.done, progress.total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    hooks = sum(len(module._forward_hooks) for module in pipeline.unet.modules())
    with pytest.raises(GenerationStopped, match="stopped after 2 of 3 steps"):
        generate(pipeline, REQUEST, should_stop=iter([False, True]).__next__)
    assert sum(len(module._forward_hooks) for module in pipeline.unet.modules()) == hooks


def test_compare_equals_single_generations_and_encodes_once(make_pipeline, monkeypatch):
    first, second = make_pipeline(0), make_pipeline(1)
    second.text_encoder, second.tokenizer = first.text_encoder, first.tokenizer
    encoded, seen = [], []
    monkeypatch.setattr(
        "explorer.generation.generate.encode_prompts",
        lambda pipeline, request: encoded.append(pipeline) or encode_prompts(pipeline, request),
    )
    models = {"one": first, "two": second}
    results = list(compare(models, REQUEST, on_progress=lambda progress: seen.append((progress.task, progress.done))))
    assert encoded == [first]
    assert [result.model for result in results] == ["one", "two"]
    assert seen == [(name, done) for name in models for done in (1, 2, 3)]
    for result, pipeline in zip(results, models.values(), strict=True):
        alone = generate(pipeline, REQUEST)
        assert np.array_equal(result.images, alone.images)
        assert torch.equal(result.cube.maps(), alone.cube.maps())
    assert not np.array_equal(results[0].images, results[1].images)


def test_compare_checks_every_model_before_it_generates(make_pipeline, tmp_path):
    from transformers import CLIPTokenizer

    first, second = make_pipeline(0), make_pipeline(1)
    first.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "lexicon.json").write_text('["a"]')
    second.tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not know the words 'photo', 'of', 'turtle', 'dog'"):
        next(compare({"one": first, "two": second}, REQUEST))


def test_a_model_that_makes_no_numbers_is_refused(make_pipeline):
    pipeline = make_pipeline()
    pipeline.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="model broken made non-finite pixels"):
        generate(pipeline, REQUEST, model="broken")


def test_sdxl_equals_the_stock_call_and_is_captured(make_xl_pipeline):
    pipeline, request = make_xl_pipeline(), altered(images=2)
    stock = pipeline(
        request.prompt,
        num_inference_steps=3,
        guidance_scale=4.0,
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        output_type="np",
    ).images
    found = generate(pipeline, request)
    assert np.array_equal(found.images, (stock * 255).round().astype(np.uint8))
    assert found.cube.resolutions == ((8, 8),)
    assert (found.cube.maps(image=1).sum(0) - 1).abs().max() < 2e-3


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_a_unet_that_reads_the_guidance_scale_draws_as_the_stock_pipeline_does(
    make_pipeline, make_xl_pipeline, make_unet, xl, scale
):
    pipeline = make_xl_pipeline() if xl else make_pipeline()
    config = {name: value for name, value in pipeline.unet.config.items() if not name.startswith("_")}
    pipeline.unet = make_unet(**config | {"time_cond_proj_dim": 8})
    pipeline.scheduler = LCMScheduler(beta_schedule="scaled_linear", steps_offset=1)
    request = altered(guidance_scale=scale, images=2)
    found, again = generate(pipeline, request), generate(pipeline, request, capture=False)
    generators = [torch.Generator().manual_seed(request.seed + index) for index in range(2)]
    stock = pipeline(
        request.prompt, num_inference_steps=3, guidance_scale=scale, num_images_per_prompt=2, generator=generators,
        latents=initial_noise(pipeline, request), output_type="np",
    ).images  # fmt: skip
    assert np.array_equal(found.images, again.images)
    assert np.array_equal(found.images, (stock * 255).round().astype(np.uint8))
    assert found.cube.images == 2
    with pytest.raises(ValueError, match="steps is 60, which the sampler LCMScheduler does not take: expected at most"):
        list(compare({"one": pipeline}, altered(steps=60)))
    with pytest.raises(ValueError, match="a U-Net that reads the guidance scale reads none"):
        generate(pipeline, altered(negative_prompt="a hat"))


def test_parts_that_do_not_work_together_are_a_sentence(make_pipeline):
    pipeline = make_pipeline(encoder_hid_dim=16, encoder_hid_dim_type="text_proj")
    with pytest.raises(ValueError, match="model one cannot draw this: "):
        list(compare({"one": pipeline}, REQUEST))
