"""The denoising loss of single pairs: how badly a diffusion model fits each caption with its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.noise_schedule import TrainingNoise

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
        ValueError: if pictures and captions differ in number, ``draws`` is below 1, or the model has two text encoders
            or was trained otherwise, see :func:`~explorer.checkpoints.noise_schedule.training_noise`.
    """
    import torch

    from explorer.checkpoints.joint_pipelines import require_one_text_encoder
    from explorer.checkpoints.noise_schedule import training_noise
    from explorer.iconworld.autoencoder import encode_images

    if len(images) != len(captions) or len(images) == 0:
        raise ValueError(f"got {len(images)} pictures and {len(captions)} captions: expected as many, at least one")
    if draws < 1:
        raise ValueError(f"draws is {draws}: expected at least 1")
    require_one_text_encoder(pipeline)
    schedule = training_noise(pipeline.scheduler, pipeline.unet.config)
    timesteps = ((torch.arange(draws) + 0.5) / draws * len(schedule.signal)).long()
    losses = []
    for first in range(0, len(images), BATCH_SIZE):
        pixels = torch.from_numpy(np.ascontiguousarray(images[first : first + BATCH_SIZE])).to(pipeline.device)
        latents = encode_images(pipeline.vae, pixels).to(pipeline.unet.dtype)
        text = _encode_captions(pipeline, captions[first : first + BATCH_SIZE])
        noise = torch.randn((draws, *latents.shape[1:]), generator=torch.Generator().manual_seed(seed))
        draw = zip(timesteps, noise.to(latents), strict=True)
        parts = [_errors(pipeline.unet, schedule, latents, text, *each) for each in draw]
        losses.append(torch.stack(parts).mean(dim=0))
    return torch.cat(losses).double().cpu().numpy()


def _encode_captions(pipeline: DiffusionPipeline, captions: list[str]) -> torch.Tensor:
    return pipeline.encode_prompt(captions, pipeline.device, 1, False)[0]


def _errors(
    unet: Any,
    schedule: TrainingNoise,
    latents: torch.Tensor,
    text: torch.Tensor,
    timestep: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """Squared error of each latent's prediction at one timestep and noise, fp32 ``[n]``."""
    import torch

    from explorer.checkpoints.noise_schedule import noised, training_target

    latents, noise = latents.float(), noise.float().expand_as(latents)
    signal = schedule.signal[timestep].to(latents.device).expand(len(latents))
    noisy = noised(latents, noise, signal).to(unet.dtype)
    with torch.no_grad():
        predicted = unet(noisy, timestep.to(latents.device), encoder_hidden_states=text).sample
    target = training_target(schedule.prediction_type, latents, noise, signal)
    return (predicted.float() - target).square().flatten(1).mean(dim=1)
