"""The denoising loss of single pairs: how badly a diffusion model fits each caption with its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

DRAWS = 4
BATCH_SIZE = 64


def sample_losses(
    pipeline: DiffusionPipeline, images: np.ndarray, captions: list[str], *, seed: int = 0, draws: int = DRAWS
) -> np.ndarray:
    """Mean squared error of the U-Net's prediction for every pair, the quantity it was trained to lower.

    Timesteps are the midpoints of ``draws`` equal parts of the schedule, and every pair gets the same noise, so that
    losses differ by the pairs alone. Unweighted over timesteps.

    Args:
        pipeline: a stock Stable Diffusion pipeline with one text encoder.
        images: uint8 ``[n, H, W, 3]``, of the pipeline's own size.
        captions: n captions.
        seed: of the noise.

    Returns:
        fp64 ``[n]``.

    Raises:
        ValueError: if pictures and captions differ in number, ``draws`` is below 1, or the scheduler predicts neither
            noise nor velocity.
    """
    import torch

    from explorer.models.autoencoder import encode_images

    if len(images) != len(captions) or len(images) == 0:
        raise ValueError(f"got {len(images)} pictures and {len(captions)} captions: expected as many, at least one")
    if draws < 1:
        raise ValueError(f"draws is {draws}: expected at least 1")
    levels = pipeline.scheduler.alphas_cumprod
    timesteps = ((torch.arange(draws) + 0.5) / draws * len(levels)).long()
    losses = []
    for first in range(0, len(images), BATCH_SIZE):
        pixels = torch.from_numpy(np.ascontiguousarray(images[first : first + BATCH_SIZE])).to(pipeline.device)
        latents = encode_images(pipeline.vae, pixels).to(pipeline.unet.dtype)
        text = _encode_captions(pipeline, captions[first : first + BATCH_SIZE])
        noise = torch.randn((draws, *latents.shape[1:]), generator=torch.Generator().manual_seed(seed))
        parts = [_errors(pipeline, latents, text, *draw) for draw in zip(timesteps, noise.to(latents), strict=True)]
        losses.append(torch.stack(parts).mean(dim=0))
    return torch.cat(losses).double().cpu().numpy()


def _encode_captions(pipeline: DiffusionPipeline, captions: list[str]) -> torch.Tensor:
    return pipeline.encode_prompt(captions, pipeline.device, 1, False)[0]


def _errors(
    pipeline: DiffusionPipeline, latents: torch.Tensor, text: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Squared error of each latent's prediction at one timestep and noise, fp32 ``[n]``."""
    import torch

    scheduler = pipeline.scheduler
    noise = noise.expand_as(latents)
    steps = timestep.to(latents.device).expand(len(latents))
    with torch.no_grad():
        predicted = pipeline.unet(scheduler.add_noise(latents, noise, steps), steps, encoder_hidden_states=text).sample
    target = _target(scheduler, latents, noise, steps)
    return (predicted.float() - target.float()).square().flatten(1).mean(dim=1)


def _target(scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, steps)
    raise ValueError(f"the scheduler predicts {kind!r}: expected epsilon or v_prediction")
