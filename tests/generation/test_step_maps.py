"""Guidance and sensitivity maps of each family are what a loop over places, one text at a time, says."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from explorer.attention.replaced_words import dictionary_rows
from explorer.generation.generate import GenerationRequest, generate, initial_noise
from explorer.generation.sensitivity import sensitivity_maps
from explorer.generation.step_maps import spread_steps

PROMPT = "a photo of a dog"
NOUN = 5
"""Among CLIP's tokens; T5 has no start token, and the references know that."""
REQUEST = GenerationRequest(prompt=PROMPT, seed=3, steps=3, guidance_scale=3.5)


def slow_map(one, other):
    """Root of the sum over channels of squares, place by place."""
    channels, height, width = one.shape[1:]
    squares = [[[float(one[0, c, y, x] - other[0, c, y, x]) ** 2 for c in range(channels)] for x in range(width)]
               for y in range(height)]  # fmt: skip
    return torch.tensor([[math.sqrt(sum(place)) for place in row] for row in squares])


@pytest.fixture(scope="module")
def drawn(family):
    return generate(family.pipeline, dataclasses.replace(REQUEST, images=2), keep_heads=False)


@torch.no_grad()
def test_guidance_maps_are_what_two_plain_calls_say(family, drawn):
    if family.name == "flux":
        assert drawn.steps.guidance is None
        assert "distilled into one call" in drawn.steps.no_guidance
        return
    steps = drawn.steps
    assert steps.guidance.shape == (3, 2, *steps.trajectory.samples.shape[-2:])
    for step, image in ((0, 0), (2, 1)):
        noisy, timestep = steps.trajectory.samples[step, image, None], float(steps.trajectory.timesteps[step])
        expected = slow_map(family.noise(noisy, timestep, PROMPT), family.noise(noisy, timestep, ""))
        torch.testing.assert_close(steps.guidance[step, image], expected, rtol=1e-3, atol=1e-5)
    assert expected.max() > 1e-4, "at the first step flow matching knows the noise whatever the text says"


def test_the_way_begins_at_the_noise_and_goes_down(family, drawn):
    trajectory = drawn.steps.trajectory
    noise = initial_noise(family.pipeline, drawn.request)
    ratio = trajectory.samples[0] / noise  # some samplers scale it
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=1e-4)
    assert (trajectory.timesteps.diff() < 0).all()
    assert trajectory.at([1]).timesteps.tolist() == trajectory.timesteps[1:2].tolist()
    with pytest.raises(ValueError, match="step 3 does not exist: expected 0 to 2"):
        trajectory.at([3])


@torch.no_grad()
def test_sensitivity_maps_are_what_a_loop_over_draws_says(family, drawn):
    pipeline, trajectory = family.pipeline, drawn.steps.trajectory.at([0, 2])
    maps = sensitivity_maps(pipeline, drawn.request, "dog", trajectory, draws=2)
    assert maps.shape == (2, 2, *trajectory.samples.shape[-2:])
    tokenizers = [getattr(pipeline, each, None) for each in ("tokenizer", "tokenizer_2", "tokenizer_3")]
    rows, t5_rows = (
        dictionary_rows(tokenizer, PROMPT, (2, 1), REQUEST.seed)[:, 0].tolist()
        for tokenizer in (tokenizers[0], tokenizers[-1] or tokenizers[1] or tokenizers[0])
    )
    for at, timestep in enumerate(trajectory.timesteps.tolist()):
        noisy = trajectory.samples[at, 0, None]
        own = family.noise(noisy, timestep, PROMPT)
        for draw in range(2):
            changed = family.noise(noisy, timestep, PROMPT, NOUN, rows[draw], t5_rows[draw])
            torch.testing.assert_close(maps[at, draw], slow_map(changed, own), rtol=2e-3, atol=1e-5)
    assert maps.max() > 1e-4
    smaller = sensitivity_maps(pipeline, drawn.request, "dog", trajectory, draws=2, batch_size=1)
    torch.testing.assert_close(smaller, maps, rtol=1e-3, atol=1e-5)


def test_pictures_are_the_same_to_the_bit_and_no_hook_is_left(family, drawn):
    plain = generate(family.pipeline, drawn.request, capture=False)
    assert np.array_equal(plain.images, drawn.images)
    assert plain.steps is None
    denoiser = getattr(family.pipeline, "unet", None) or family.pipeline.transformer
    assert not denoiser._forward_hooks


def test_without_guidance_there_is_no_map_and_it_says_why(make_pipeline):
    unguided = generate(make_pipeline(), dataclasses.replace(REQUEST, guidance_scale=1.0)).steps
    assert unguided.guidance is None
    assert "the guidance scale is 1, and up to 1" in unguided.no_guidance
    assert unguided.no_sensitivity == ""
    assert unguided.trajectory.samples.shape[:2] == (3, 1)


def test_noise_of_another_kind_draws_without_guidance_maps(make_pipeline):
    pipeline = make_pipeline()
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, timestep_type="continuous")
    steps = generate(pipeline, REQUEST).steps
    assert steps.guidance is None
    assert "another noise parameterisation than betas" in steps.no_guidance
    assert steps.no_sensitivity == steps.no_guidance


def test_what_cannot_be_measured_is_refused(make_pipeline):
    pipeline = make_pipeline()
    trajectory = generate(pipeline, REQUEST).steps.trajectory
    with pytest.raises(ValueError, match="does not hold 'hat'"):
        sensitivity_maps(pipeline, REQUEST, "hat", trajectory)
    with pytest.raises(ValueError, match="draws is 0: expected at least 1"):
        sensitivity_maps(pipeline, REQUEST, "dog", trajectory, draws=0)


def test_steps_are_spread():
    assert spread_steps(3) == (0, 1, 2)
    assert spread_steps(20) == (2, 6, 10, 14, 18)
