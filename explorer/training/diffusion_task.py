"""What a diffusion model is trained on, step by step: one task for the embedded world and for a user's checkpoint."""

from __future__ import annotations

from typing import Any

import torch

from explorer.checkpoints.module_identity import plain_config
from explorer.core.provenance import hash_json
from explorer.training.encoded_pairs import EncodedPairs
from explorer.training.loss import DiffusionLoss
from explorer.training.timesteps import check_distribution, drawn_timesteps


class DiffusionTask:
    """Noise, timestep and caption dropout are drawn per step; everything else is there already.

    With live conditioning the pipeline's text encoders are part of the network: what of it requires a gradient is
    trained, and the rest stays as it is.
    """

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        encoded: EncodedPairs,
        *,
        caption_dropout: float = 0.0,
        weighting: str = "uniform",
        timesteps: str = "uniform",
    ) -> None:
        """
        Args:
            caption_dropout: share of samples trained without a prompt, in [0, 1), for classifier-free guidance.
            weighting: see :func:`~explorer.training.loss.loss_weight`.
            timesteps: see :func:`~explorer.training.timesteps.drawn_timesteps`.

        Raises:
            ValueError: as :class:`~explorer.training.loss.DiffusionLoss`, or if the distribution is unknown.
        """
        check_distribution(timesteps)
        encoders = encoded.conditioning.encoders
        self.network = DiffusionLoss(unet, scheduler, weighting=weighting, text_encoders=encoders)
        self.encoded = encoded
        self.caption_dropout = caption_dropout
        self.timesteps = timesteps

    def __len__(self) -> int:
        return len(self.encoded.picture)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the result besides the initial weights and how long and fast is trained; JSON-serialisable."""
        network, known = self.network, {}
        # None is said where it is what it always was, so that runs from before there was a choice go on.
        if network.weighting != "uniform":
            known["weighting"] = network.weighting
        if self.timesteps != "uniform":
            known["timesteps"] = self.timesteps
        if network.text_encoders is not None:
            trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
            known["trained"] = hash_json(trained)
        return {
            **self.encoded.identity,
            **known,
            "unet": hash_json(plain_config(network.unet)),
            "prediction_type": network.prediction_type,
            "caption_dropout": self.caption_dropout,
        }

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Inputs of :class:`~explorer.training.loss.DiffusionLoss`; latents and cached text stay fp16."""
        encoded = self.encoded
        latents = torch.from_numpy(encoded.latents[encoded.picture[indices].numpy()])
        dropped = torch.rand(len(indices), generator=generator) < self.caption_dropout
        captions = torch.where(dropped, len(encoded.conditioning) - 1, encoded.caption[indices])
        batch = {
            "latents": latents,
            "noise": torch.randn(latents.shape, generator=generator),
            "timesteps": drawn_timesteps(self.timesteps, len(indices), self.network.timesteps, generator),
            **encoded.conditioning.rows(captions),
        }
        if encoded.time_ids is not None:
            batch["time_ids"] = encoded.time_ids.expand(len(indices), -1)
        return batch
