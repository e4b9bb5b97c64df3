"""The variational autoencoder of IconWorld: diffusers' AutoencoderKL, 64 x 64 RGB to 4 x 16 x 16 latents."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

LATENT_CHANNELS = 4
DOWNSAMPLING = 4


def build_autoencoder(channels: tuple[int, int, int] = (32, 64, 128), seed: int = 0, *, side: int = 64) -> Any:
    """A freshly initialised ``AutoencoderKL`` with downsampling factor 4 and 4 latent channels, for pictures of
    ``side`` x ``side``."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=side,
        mid_block_add_attention=False,
    )


def to_signed(images: torch.Tensor) -> torch.Tensor:
    """uint8 ``[n, H, W, 3]`` to float ``[n, 3, H, W]`` in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_pixels(signed: torch.Tensor) -> torch.Tensor:
    """Float ``[n, 3, H, W]`` in [-1, 1] (clamped) to uint8 ``[n, H, W, 3]``."""
    return signed.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class AutoencoderLoss(torch.nn.Module):
    """L1 + squared error + L1 of image gradients + KL (Rombach et al. 2022, without the adversarial term)."""

    def __init__(self, autoencoder: Any, kl_weight: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.kl_weight = kl_weight

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """``images`` float ``[n, 3, H, W]`` in [-1, 1], ``noise`` ``[n, 4, H/4, W/4]``; returns a scalar."""
        images = batch["images"]
        posterior = self.autoencoder.encode(images).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        latents = mean + batch["noise"] * torch.exp(0.5 * log_variance)
        restored = self.autoencoder.decode(latents).sample.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return reconstruction_loss(restored, images) + self.kl_weight * kl


def reconstruction_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """L1 + twice the squared error + half of the L1 of image gradients, of pictures ``[n, 3, H, W]``; a scalar."""
    pixel = functional.l1_loss(restored, images) + 2 * functional.mse_loss(restored, images)
    return pixel + 0.5 * _gradient_loss(restored, images)


def _gradient_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    horizontal = functional.l1_loss(restored.diff(dim=-1), images.diff(dim=-1))
    vertical = functional.l1_loss(restored.diff(dim=-2), images.diff(dim=-2))
    return horizontal + vertical


@torch.no_grad()
def encode_images(autoencoder: Any, images: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
    """Latents float32 ``[n, 4, H/4, W/4]`` of uint8 ``[n, H, W, 3]``: the posterior mean, scaled for a U-Net; on the
    autoencoder's device."""
    one = next(autoencoder.parameters())
    parts = [
        autoencoder.encode(to_signed(part.to(one.device)).to(one.dtype)).latent_dist.mean.float()
        for part in images.split(batch_size)
    ]
    latents = torch.cat(parts)
    shift, scale = _latent_scale(autoencoder, latents)
    return (latents - shift) * scale


@torch.no_grad()
def decode_latents(autoencoder: Any, latents: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
    """Pictures uint8 ``[n, H, W, 3]`` of scaled latents ``[n, 4, h, w]``."""
    shift, scale = _latent_scale(autoencoder, latents)
    parts = [autoencoder.decode(part).sample for part in (latents / scale + shift).split(batch_size)]
    return to_pixels(torch.cat(parts).float())


def _latent_scale(autoencoder: Any, latents: torch.Tensor) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """What is taken from latents, and what they are multiplied by then: as the pipelines of SDXL, SD3 and Flux undo it.

    Whether a pipeline follows shift, mean and standard deviation, ``noise_schedule.check_noise`` says.
    """
    factor, mean = autoencoder.config.scaling_factor, getattr(autoencoder.config, "latents_mean", None)
    if mean is None:
        return getattr(autoencoder.config, "shift_factor", None) or 0.0, factor
    mean, deviation = (
        torch.tensor(values, dtype=latents.dtype, device=latents.device)[:, None, None]
        for values in (mean, autoencoder.config.latents_std)
    )
    return mean, factor / deviation


def peak_signal_to_noise(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of each uint8 picture ``[n, H, W, 3]`` against its original: float64 ``[n]``."""
    error = (restored.double() - images.double()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(255.0**2 / error.clamp_min(1e-8))
