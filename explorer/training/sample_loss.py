"""The denoising loss of single pairs: how badly a diffusion model fits each caption with its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.checkpoints.joint_pipelines import require_one_text_encoder
from explorer.checkpoints.reasons import enough_memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

DRAWS = 4
BATCH_SIZE = 64
_loss_memory = enough_memory(
    f"denoising losses of {BATCH_SIZE} pairs at once",
    "--precision fp16 or bf16 on a GPU, one that nothing else computes on, or --device cpu",
)


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
            or was trained otherwise, see :func:`~explorer.checkpoints.noise_schedule.training_noise`; if memory does
            not suffice.
    """
    if len(images) != len(captions) or len(images) == 0:
        raise ValueError(f"got {len(images)} pictures and {len(captions)} captions: expected as many, at least one")
    parts = [slice(first, first + BATCH_SIZE) for first in range(0, len(images), BATCH_SIZE)]
    losses = [
        latent_losses(pipeline, encoded_pictures(pipeline, images[part]), captions[part], seed=seed, draws=draws)
        for part in parts
    ]
    return np.concatenate(losses)


@_loss_memory
def encoded_pictures(pipeline: DiffusionPipeline, images: np.ndarray) -> np.ndarray:
    """Pictures, uint8 ``[n, H, W, 3]``, as the autoencoder sees them: scaled, fp32 ``[n, 4, h, w]``, the same
    for every model that has this autoencoder."""
    import torch

    from explorer.iconworld.autoencoder import encode_images

    parts = []
    for first in range(0, len(images), BATCH_SIZE):
        pixels = torch.from_numpy(np.ascontiguousarray(images[first : first + BATCH_SIZE])).to(pipeline.device)
        parts.append(encode_images(pipeline.vae, pixels).float().cpu().numpy())
    return np.concatenate(parts)


@_loss_memory
def latent_losses(
    pipeline: DiffusionPipeline, latents: np.ndarray, captions: list[str], *, seed: int = 0, draws: int = DRAWS
) -> np.ndarray:
    """:func:`sample_losses` of pictures that are encoded already (:func:`encoded_pictures`)."""
    import torch

    from explorer.training.loss import DiffusionLoss

    if draws < 1:
        raise ValueError(f"draws is {draws}: expected at least 1")
    require_one_text_encoder(pipeline)
    loss = DiffusionLoss(pipeline.unet, pipeline.scheduler)
    timesteps = ((torch.arange(draws) + 0.5) / draws * loss.timesteps).long().to(pipeline.device)
    losses = []
    for first in range(0, len(latents), BATCH_SIZE):
        part = torch.from_numpy(latents[first : first + BATCH_SIZE]).to(pipeline.device, pipeline.unet.dtype)
        noise = torch.randn((draws, *part.shape[1:]), generator=torch.Generator().manual_seed(seed)).to(part)
        with torch.no_grad():
            text = pipeline.encode_prompt(captions[first : first + BATCH_SIZE], pipeline.device, 1, False)[0]
            batch = {"latents": part, "text": text}
            parts = [
                loss.errors(batch | {"noise": one.expand_as(part), "timesteps": timestep.expand(len(part))})
                for timestep, one in zip(timesteps, noise, strict=True)
            ]
        losses.append(torch.stack(parts).mean(dim=0))
    return torch.cat(losses).double().cpu().numpy()
