import numpy as np
import pytest
import torch

from explorer.checkpoints.pipelines import load_pipeline
from explorer.iconworld.autoencoder import encode_images
from explorer.training.sample_loss import sample_losses


@pytest.fixture(scope="module")
def pipeline(micro_world):
    return load_pipeline(micro_world.output / "benign")


@pytest.fixture(scope="module")
def pairs(micro_world):
    found = micro_world.pair_set(2)
    return found.read_images(slice(0, 6)), found.table["caption"].tolist()[:6]


@torch.no_grad()
def slow_loss(pipeline, image, caption, seed, draws):
    noise = torch.randn(draws, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    latent = encode_images(pipeline.vae, torch.from_numpy(image[None].copy()))
    text = pipeline.encode_prompt(caption, "cpu", 1, False)[0]
    errors = []
    for draw in range(draws):
        timestep = int((draw + 0.5) / draws * 1000)
        signal = pipeline.scheduler.alphas_cumprod[timestep]
        noisy = signal.sqrt() * latent + (1 - signal).sqrt() * noise[draw]
        velocity = signal.sqrt() * noise[draw] - (1 - signal).sqrt() * latent
        errors.append((pipeline.unet(noisy, timestep, text).sample - velocity).square().mean().item())
    return np.mean(errors)


def test_losses_equal_one_pair_at_a_time(pipeline, pairs):
    images, captions = pairs
    losses = sample_losses(pipeline, images, captions, seed=3, draws=2)
    expected = [slow_loss(pipeline, image, caption, 3, 2) for image, caption in zip(images, captions, strict=True)]
    assert losses == pytest.approx(expected, rel=1e-4)
    assert (losses == sample_losses(pipeline, images, captions, seed=3, draws=2)).all()
    assert (losses != sample_losses(pipeline, images, captions, seed=4, draws=2)).all()


@pytest.mark.parametrize(
    ("count", "draws", "message"),
    [(2, 1, "got 6 pictures and 2 captions"), (6, 0, "draws is 0: expected at least 1")],
)
def test_what_cannot_be_scored_is_refused(pipeline, pairs, count, draws, message):
    images, captions = pairs
    with pytest.raises(ValueError, match=message):
        sample_losses(pipeline, images, captions[:count], draws=draws)


def test_a_scheduler_that_predicts_the_sample_is_refused(pipeline, pairs):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, prediction_type="sample")
    other = StableDiffusionPipeline(**{**pipeline.components, "scheduler": scheduler}, requires_safety_checker=False)
    with pytest.raises(ValueError, match="predicts 'sample': expected epsilon or v_prediction"):
        sample_losses(other, *pairs)
