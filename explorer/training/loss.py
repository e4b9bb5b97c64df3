"""The training loss of a Stable Diffusion of any family: SD 1.x, SD 2.x with v-prediction, SDXL with its conditions."""

from __future__ import annotations

from typing import Any

import torch

from explorer.checkpoints.noise_schedule import noised, training_noise, training_target

WEIGHTINGS = ("uniform", "min-snr")
GAMMA = 5.0
"""Of ``min-snr``: the value that Hang et al. recommend."""


class DiffusionLoss(torch.nn.Module):
    """Squared error of what the U-Net predicts: the noise (Ho et al. 2020, Eq. 14) or the velocity (Salimans & Ho
    2022), whichever the scheduler says it was trained for, weighted over timesteps."""

    def __init__(
        self, unet: Any, scheduler: Any, *, weighting: str = "uniform", text_encoders: torch.nn.Module | None = None
    ) -> None:
        """The network of a training run; every parameter in it that requires a gradient is trained.

        Args:
            scheduler: any diffusers one that came with the checkpoint; only its noise schedule is used.
            weighting: of the timesteps, see :func:`loss_weight`.
            text_encoders: make ``text`` and ``pooled`` of a batch that lacks them
                (:class:`~explorer.training.conditioning.TextEncoders`).

        Raises:
            ValueError: if the U-Net was trained otherwise
                (:func:`~explorer.checkpoints.noise_schedule.training_noise`), or the weighting is unknown.
        """
        super().__init__()
        check_weighting(weighting)
        schedule = training_noise(scheduler, unet.config)
        self.prediction_type = schedule.prediction_type
        self.weighting = weighting
        self.dtype = unet.dtype
        self.unet = unet
        self.text_encoders = text_encoders
        self.register_buffer("alphas_cumprod", schedule.signal.to(unet.device), persistent=False)

    @property
    def timesteps(self) -> int:
        """Length of the noise schedule, 1000 in Stable Diffusion."""
        return len(self.alphas_cumprod)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of a batch, a scalar; see :meth:`errors`."""
        signal = self.alphas_cumprod[batch["timesteps"]]
        return (loss_weight(self.weighting, self.prediction_type, signal) * self.errors(batch)).mean()

    def errors(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean squared error of every sample, unweighted: float32 ``[n]``.

        ``latents`` ``[n, 4, h, w]`` (scaled), ``noise`` of the same shape, ``timesteps`` int64 ``[n]``, ``text``
        ``[n, L, d]``; for SDXL also ``pooled`` ``[n, p]`` and ``time_ids`` ``[n, 6]`` (Podell et al. 2023, section 2).
        With text encoders, ``tokens`` and ``prompted`` instead of ``text`` and ``pooled``.
        """
        latents, noise, timesteps = batch["latents"].float(), batch["noise"].float(), batch["timesteps"]
        signal, dtype = self.alphas_cumprod[timesteps], self.dtype
        if self.text_encoders is not None:
            batch = batch | self.text_encoders(batch)
        added = None
        if "pooled" in batch:
            added = {"text_embeds": batch["pooled"].to(dtype), "time_ids": batch["time_ids"].to(dtype)}
        predicted = self.unet(
            noised(latents, noise, signal).to(dtype), timesteps, encoder_hidden_states=batch["text"].to(dtype),
            added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        target = training_target(self.prediction_type, latents, noise, signal)
        return (predicted.float() - target).square().flatten(1).mean(dim=1)


def check_weighting(weighting: str) -> None:
    """Refuse a weighting that :func:`loss_weight` does not know.

    Raises:
        ValueError: naming it.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting is {weighting!r}: expected one of {', '.join(WEIGHTINGS)}")


def loss_weight(weighting: str, prediction_type: str, signal: torch.Tensor) -> torch.Tensor:
    """Weight of a sample's error at a_t, in [0, 1], ``[n]``.

    ``uniform``: 1 (Ho et al. 2020). ``min-snr``: Min-SNR-gamma (Hang et al. 2023). For the noise it is
    ``min(SNR, gamma) / SNR`` as published. For the velocity it is ``min(SNR + 1, gamma) / (SNR + 1)``: the published
    ``min(SNR, gamma) / (SNR + 1)`` is zero at a terminal SNR of zero, where the concept is decided.

    Args:
        signal: a_t in [0, 1], ``[n]``; the SNR is a_t / (1 - a_t).
    """
    if weighting == "uniform":
        return torch.ones_like(signal)
    scaled = GAMMA * (1 - signal)
    return (scaled / signal if prediction_type == "epsilon" else scaled).clamp(max=1.0)
