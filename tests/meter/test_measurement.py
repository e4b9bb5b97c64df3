"""What is measured of each family is what a loop over places, one concept and one draw at a time, says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.attention.prompts import is_joint
from explorer.attention.replaced_words import dictionary_rows
from explorer.generation.given_pictures import encode_exactly
from explorer.meter.measurement import read_model
from explorer.meter.request import MeterRequest
from explorer.meter.shown import Shown, pure_noise
from explorer.pairs.concept_list import Concept, ConceptList

CONCEPTS = ConceptList(concepts=(Concept(name="dog"), Concept(name="hat")))
PROMPT = "a photo of a dog"
ARTICLE, NOUN = 4, 5
"""Positions of CLIP's tokens; T5 has no start token, so that its are one less."""
REQUEST = MeterRequest(timesteps=(300, 600), draws=2, seed=3, batch_size=4, size=64)


def slow_amplitude(one, other):
    """Root of the sum over channels of squares, place by place."""
    (channels, height, width), total = one.shape[1:], 0.0
    for y in range(height):
        for x in range(width):
            total += math.sqrt(sum(float(one[0, c, y, x] - other[0, c, y, x]) ** 2 for c in range(channels)))
    return total / (height * width)


@pytest.fixture(scope="module")
def measured(family):
    return read_model(family.pipeline, CONCEPTS, pure_noise(), REQUEST, model=family.name)


@pytest.mark.parametrize("which", ["sensitivity", "word_before"])
@torch.no_grad()
def test_sensitivity_is_what_a_loop_says(family, measured, which):
    pipeline = family.pipeline
    position = NOUN if which == "sensitivity" else ARTICLE
    tokenizers = [getattr(pipeline, each, None) for each in ("tokenizer", "tokenizer_2", "tokenizer_3")]
    rows = dictionary_rows(tokenizers[0], PROMPT, (2, 1), 3)[:, 0].tolist()
    t5_rows = dictionary_rows(tokenizers[-1] or tokenizers[1] or tokenizers[0], PROMPT, (2, 1), 3)[:, 0].tolist()
    noise = torch.randn(measured.kind[1:], generator=torch.Generator().manual_seed(3))[None]
    for at, timestep in enumerate(REQUEST.timesteps):
        own = family.noise(noise, timestep, PROMPT)
        for draw, (row, t5_row) in enumerate(zip(rows, t5_rows, strict=True)):
            expected = slow_amplitude(family.noise(noise, timestep, PROMPT, position, row, t5_row), own)
            assert float(getattr(measured, which)[at, 0, draw]) == pytest.approx(expected, rel=1e-3, abs=1e-6)
            assert expected > 0


@torch.no_grad()
def test_the_guidance_vector_is_prompt_less_none(family, measured):
    if family.name == "flux":
        assert measured.guidance is None
        return
    noise = torch.randn(measured.kind[1:], generator=torch.Generator().manual_seed(3))[None]
    one, none = (family.noise(noise, 600, text) for text in (PROMPT, ""))
    assert torch.allclose(measured.guidance[1, 0], (one - none)[0], atol=1e-5)
    assert (one - none).abs().max() > 1e-4


def test_the_same_request_gives_the_same_numbers(family, measured):
    pipeline = family.pipeline
    again = read_model(pipeline, CONCEPTS, pure_noise(), REQUEST)
    assert torch.equal(again.sensitivity, measured.sensitivity)
    assert not torch.equal(read_model(pipeline, CONCEPTS, pure_noise(), replace(REQUEST, seed=4)).sensitivity,
                           measured.sensitivity)  # fmt: skip


def test_no_hook_is_left_behind(family, measured):
    pipeline = family.pipeline
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        if (encoder := getattr(pipeline, name, None)) is not None:
            embeddings = [module for module in encoder.modules() if isinstance(module, torch.nn.Embedding)]
            assert not any(module._forward_hooks for module in embeddings)


@torch.no_grad()
def test_pictures_are_encoded_and_noised_as_in_training(family):
    if family.name != "sd2":
        pytest.skip("one family is enough: pictures are encoded in one way")
    pipeline = family.pipeline
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    shown = Shown(words="random", same_for_all=True, pictures=lambda pipeline, model: pictures)
    found = read_model(pipeline, CONCEPTS, shown, REQUEST)
    pixels = torch.from_numpy(pictures[:1]).permute(0, 3, 1, 2) / 127.5 - 1
    latents = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(3))[None]
    noisy = pipeline.scheduler.add_noise(latents, noise, torch.tensor([300]))
    one, none = (family.noise(noisy, 300, text) for text in (PROMPT, ""))
    assert torch.allclose(found.guidance[0, 0], (one - none)[0], atol=1e-5)


@torch.no_grad()
def test_the_error_is_of_the_noise_that_the_prediction_amounts_to(family):
    pipeline = family.pipeline
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    shown = Shown(words="random", same_for_all=True, pictures=lambda pipeline, model: pictures)
    found = read_model(pipeline, CONCEPTS, shown, REQUEST)
    latents = encode_exactly(pipeline.vae, torch.from_numpy(pictures[:1]), 1)
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(3))[None]
    for at, timestep in enumerate(REQUEST.timesteps):
        if is_joint(pipeline):
            noisy = (1 - timestep / 1000) * latents + timestep / 1000 * noise
        else:
            signal = float(pipeline.scheduler.alphas_cumprod[timestep])
            noisy = math.sqrt(signal) * latents + math.sqrt(1 - signal) * noise
        expected = slow_amplitude(family.noise(noisy, timestep, PROMPT), noise)
        assert float(found.denoising_error[at, 0]) == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def test_joint_pipelines_shift_their_latents(make_sd3_pipeline):
    from explorer.iconworld.autoencoder import encode_images

    autoencoder = make_sd3_pipeline().vae
    pictures = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean = autoencoder.encode(pictures.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mean
    assert torch.allclose(encode_images(autoencoder, pictures), (mean - 0.06) * 1.5, atol=1e-6)


def test_draws_follow_from_seed_prompt_and_dictionary_alone(make_pipeline):
    tokenizer = make_pipeline().tokenizer
    rows = dictionary_rows(tokenizer, PROMPT, (500, 2), 0)
    assert torch.equal(rows, dictionary_rows(tokenizer, PROMPT, (500, 2), 0))
    assert not torch.equal(rows, dictionary_rows(tokenizer, "a photo of a hat", (500, 2), 0))
    assert not set(rows.flatten().tolist()) & set(tokenizer.all_special_ids)
    assert len(set(rows.flatten().tolist())) > 0.9 * (tokenizer.vocab_size - 2)


def test_a_prompt_that_begins_with_its_concept_has_no_word_before(make_pipeline):
    concepts = ConceptList(concepts=(Concept(name="dog", phrase="dog"),), template="{phrase} photo")
    found = read_model(make_pipeline(), concepts, pure_noise(), REQUEST)
    assert found.word_before.isnan().all()
    assert found.sensitivity.min() > 0


def test_what_cannot_be_measured_is_refused_in_words(make_pipeline):
    pipeline = make_pipeline()
    with pytest.raises(ValueError, match="timestep is 1000: expected 1 to 999"):
        read_model(pipeline, CONCEPTS, pure_noise(), replace(REQUEST, timesteps=(1000,)))
    unknown = ConceptList(concepts=(Concept(name="zebra"),))
    with pytest.raises(ValueError, match="does not know the word 'zebra'"):
        read_model(pipeline, unknown, pure_noise(), REQUEST)
    pipeline.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="model broken predicts numbers that are not finite"):
        read_model(pipeline, CONCEPTS, pure_noise(), REQUEST, model="broken")
    with pytest.raises(ValueError, match="reads a guidance scale"):
        read_model(make_pipeline(time_cond_proj_dim=8), CONCEPTS, pure_noise(), REQUEST)
    with pytest.raises(ValueError, match="draws is 0: expected a whole number from 1"):
        MeterRequest(draws=0)
    with pytest.raises(ValueError, match=r"timesteps are \[300, 300\]: expected at least one, each once"):
        MeterRequest(timesteps=(300, 300))
