"""The training loss of a Stable Diffusion of any family: SD 1.x, SD 2.x with v-prediction, SDXL with its conditions."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

PREDICTION_TYPES = ("epsilon", "v_prediction")


class DiffusionLoss(torch.nn.Module):
    """Squared error of what the U-Net predicts: the noise (Ho et al. 2020, Eq. 14) or the velocity (Salimans & Ho
    2022), whichever the scheduler says it was trained for."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        """``scheduler`` is any diffusers one that came with the checkpoint; only its noise schedule is used.

        Raises:
            ValueError: if it predicts something else.
        """
        super().__init__()
        from diffusers import DDPMScheduler

        # Samplers round the schedule in their own ways (SDXL's Euler works on sigmas); training has one definition.
        schedule = DDPMScheduler.from_config(scheduler.config)
        self.prediction_type = schedule.config.prediction_type
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction_type is {self.prediction_type!r}: expected one of {PREDICTION_TYPES}")
        self.unet = unet
        self.register_buffer("alphas_cumprod", schedule.alphas_cumprod.float(), persistent=False)

    @property
    def timesteps(self) -> int:
        """Length of the noise schedule, 1000 in Stable Diffusion."""
        return len(self.alphas_cumprod)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of a batch, a scalar.

        ``latents`` ``[n, 4, h, w]`` (scaled), ``noise`` of the same shape, ``timesteps`` int64 ``[n]``, ``text``
        ``[n, L, d]``; for SDXL also ``pooled`` ``[n, p]`` and ``time_ids`` ``[n, 6]`` (Podell et al. 2023, section 2).
        """
        latents, noise, timesteps = batch["latents"].float(), batch["noise"], batch["timesteps"]
        signal = self.alphas_cumprod[timesteps][:, None, None, None]
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        added = None
        if "pooled" in batch:
            added = {"text_embeds": batch["pooled"].float(), "time_ids": batch["time_ids"].float()}
        predicted = self.unet(
            noisy, timesteps, encoder_hidden_states=batch["text"].float(), added_cond_kwargs=added, return_dict=False
        )[0]
        target = noise
        if self.prediction_type == "v_prediction":
            target = signal.sqrt() * noise - (1 - signal).sqrt() * latents
        return functional.mse_loss(predicted.float(), target)
