"""A given picture's maps of each family are what plain calls on the noised picture say."""

import dataclasses

import numpy as np
import pytest
import torch

from explorer.attention.record import record
from explorer.checkpoints.registry import scan_checkpoints
from explorer.generation.columns import describe_generation, read_comparison, write_comparison
from explorer.generation.generate import GenerationRequest
from explorer.generation.given_pictures import GivenPicture, show_picture
from explorer.generation.sensitivity import column_sensitivity
from explorer.iconworld.autoencoder import encode_images

PROMPT = "a photo of a dog"
REQUEST = GenerationRequest(prompt=PROMPT, seed=3, guidance_scale=1.0)
TIMESTEPS = (700, 200)


@pytest.fixture(scope="module")
def shown(family):
    side = 32 if family.name in ("sd3", "flux") else 64
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), bool)
    mask[: side // 2] = True
    given = GivenPicture(pixels=pixels, words="a picture", mask=mask)
    return given, show_picture(family.pipeline, given, REQUEST, timesteps=TIMESTEPS)


def noised(family, pixels, timestep):
    """As each family's training noises a picture."""
    latents = encode_images(family.pipeline.vae, torch.from_numpy(pixels[None]))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(REQUEST.seed))
    if family.name in ("sd3", "flux"):
        return (1 - timestep / 1000) * latents + timestep / 1000 * noise
    signal = family.pipeline.scheduler.alphas_cumprod[timestep]
    return signal.sqrt() * latents + (1 - signal).sqrt() * noise


@torch.no_grad()
def test_guidance_is_there_whatever_the_scale_and_of_the_noised_picture(family, shown):
    given, seen = shown
    assert np.array_equal(seen.images[0], given.pixels)
    assert seen.request.steps == 2
    for step, timestep in enumerate(TIMESTEPS):
        noisy = noised(family, given.pixels, timestep)
        torch.testing.assert_close(seen.steps.trajectory.samples[step], noisy, rtol=1e-3, atol=1e-3)
        if family.name == "flux":
            assert "distilled into one call" in seen.steps.no_guidance
            continue
        change = family.noise(noisy, timestep, PROMPT) - family.noise(noisy, timestep, "")
        expected = change[0].square().sum(0).sqrt()
        torch.testing.assert_close(seen.steps.guidance[step, 0], expected, rtol=2e-3, atol=1e-4)
        assert expected.max() > 1e-4


@torch.no_grad()
def test_attention_is_that_of_a_plain_call(family, shown):
    if family.name == "flux":
        pytest.skip("its plain call is told another guidance scale")
    given, seen = shown
    denoiser = getattr(family.pipeline, "unet", None) or family.pipeline.transformer
    with record(denoiser, seen.words, guidance=False) as maps:
        for timestep in TIMESTEPS:
            family.noise(noised(family, given.pixels, timestep), timestep, PROMPT)
    torch.testing.assert_close(seen.cube.maps(), maps.cube.maps(), rtol=1e-2, atol=2e-3)


def test_what_cannot_be_shown_is_refused(family, shown):
    given, _ = shown
    with pytest.raises(ValueError, match="timestep is 1000: expected 1 to 999"):
        show_picture(family.pipeline, given, REQUEST, timesteps=(1000,))
    cut = dataclasses.replace(given, pixels=given.pixels[:, :-4])
    with pytest.raises(ValueError, match="width is"):
        show_picture(family.pipeline, cut, REQUEST)


def test_a_given_picture_is_a_column_with_its_mask_and_can_be_asked_for_sensitivity(checkpoint_root, tmp_path):
    from explorer.checkpoints.pipelines import load_pipeline

    checkpoint = scan_checkpoints(checkpoint_root)[0]
    pipeline = load_pipeline(checkpoint)
    given = GivenPicture(pixels=np.full((64, 64, 3), 90, np.uint8), words="grey", mask=np.eye(64, dtype=bool))
    seen = show_picture(pipeline, given, REQUEST, model=checkpoint.name, timesteps=TIMESTEPS)
    write_comparison(tmp_path, [describe_generation(seen, checkpoint, concepts=("dog",), given=given)])
    (column,) = read_comparison(tmp_path)
    assert (column.given, column.latents.steps) == ("grey", (0, 1))
    assert np.array_equal(column.mask, given.mask)
    assert column.guidance.values.shape[0] == 3
    assert column_sensitivity(pipeline, column, 4).draws.min() > 0
