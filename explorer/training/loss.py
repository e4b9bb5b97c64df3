"""The training loss of a Stable Diffusion of any family: SD 1.x, SD 2.x with v-prediction, SDXL with its conditions."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from explorer.checkpoints.noise_schedule import noised, training_noise, training_target


class DiffusionLoss(torch.nn.Module):
    """Squared error of what the U-Net predicts: the noise (Ho et al. 2020, Eq. 14) or the velocity (Salimans & Ho
    2022), whichever the scheduler says it was trained for."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        """``scheduler`` is any diffusers one that came with the checkpoint; only its noise schedule is used.

        Raises:
            ValueError: if the U-Net was trained otherwise
                (:func:`~explorer.checkpoints.noise_schedule.training_noise`).
        """
        super().__init__()
        schedule = training_noise(scheduler, unet.config)
        self.prediction_type = schedule.prediction_type
        self.unet = unet
        self.register_buffer("alphas_cumprod", schedule.signal, persistent=False)

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
        signal = self.alphas_cumprod[timesteps]
        added = None
        if "pooled" in batch:
            added = {"text_embeds": batch["pooled"].float(), "time_ids": batch["time_ids"].float()}
        predicted = self.unet(
            noised(latents, noise, signal), timesteps, encoder_hidden_states=batch["text"].float(),
            added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        return functional.mse_loss(predicted.float(), training_target(self.prediction_type, latents, noise, signal))
