"""Train the U-Net, from scratch or from a base, on cached latents and text embeddings (both encoders are fixed)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.checkpoints.module_identity import plain_config
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import hash_json
from explorer.iconworld.autoencoder import encode_images
from explorer.iconworld.denoiser import TRAIN_TIMESTEPS, DenoisingLoss, use_fused_attention, use_training_attention
from explorer.iconworld.tokenizer import encode
from explorer.pairs.pair_set import PairSet
from explorer.training.trainer import TrainingConfig, train

CAPTION_DROPOUT = 0.1


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """The fixed parts of a Stable Diffusion pipeline."""

    autoencoder: Any
    """AutoencoderKL with its scaling factor set."""
    text_encoder: Any
    """CLIPTextModel."""
    tokenizer: Any
    """CLIPTokenizer."""


@dataclass(frozen=True, kw_only=True)
class EncodedPairs:
    """A pair set as the U-Net sees it."""

    latents: torch.Tensor
    """fp16 ``[pictures, 4, 16, 16]``, scaled."""
    picture: torch.Tensor
    """int64 ``[pairs]``: row of ``latents``."""
    text: torch.Tensor
    """fp16 ``[distinct captions + 1, L, d]``; the last is the empty caption, for classifier-free guidance."""
    caption: torch.Tensor
    """int64 ``[pairs]``: row of ``text``."""


def encode_pairs(pairs: PairSet, encoders: Encoders, device: str = "cpu") -> EncodedPairs:
    """Encode the training split's pictures and distinct captions once.

    Raises:
        ManifestError: if the pictures are not those that the set's manifest describes.
    """
    pairs.check_images()
    rows = pairs.training_rows
    captions = pairs.table["caption"].to_numpy()[rows].tolist()
    distinct = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    indices, picture = np.unique(pairs.table["image_index"].to_numpy()[rows], return_inverse=True)
    images = torch.from_numpy(np.ascontiguousarray(pairs.images[indices])).to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        latents = encode_images(encoders.autoencoder.to(device), images)
    text = encode_captions(encoders, [*distinct, ""], device)
    return EncodedPairs(
        latents=latents.half().cpu(),
        picture=torch.from_numpy(picture.reshape(-1).astype(np.int64)),
        text=text.half().cpu(),
        caption=torch.tensor([distinct[caption] for caption in captions]),
    )


@torch.no_grad()
def encode_captions(encoders: Encoders, captions: list[str], device: str = "cpu") -> torch.Tensor:
    """Last hidden states of captions, float32 ``[n, L, d]``."""
    tokens = encode(encoders.tokenizer, captions).to(device)
    text_encoder = encoders.text_encoder.to(device)
    return torch.cat([text_encoder(part).last_hidden_state for part in tokens.split(512)])


class DenoiserTask:
    """Noise, timestep and caption dropout are drawn per step; everything else is cached."""

    def __init__(self, network: DenoisingLoss, encoded: EncodedPairs) -> None:
        self.network = network
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded.picture)

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Inputs of :class:`DenoisingLoss`."""
        encoded = self.encoded
        latents = encoded.latents[encoded.picture[indices]].float()
        dropped = torch.rand(len(indices), generator=generator) < CAPTION_DROPOUT
        captions = torch.where(dropped, len(encoded.text) - 1, encoded.caption[indices])
        return {
            "latents": latents,
            "noise": torch.randn(latents.shape, generator=generator),
            "timesteps": torch.randint(TRAIN_TIMESTEPS, (len(indices),), generator=generator),
            "text": encoded.text[captions].float(),
        }


def train_denoiser(
    unet: Any,
    scheduler: Any,
    pairs: PairSet,
    encoders: Encoders,
    config: TrainingConfig,
    folder: Path,
    *,
    start: str,
    device: str = "cpu",
    on_progress: OnProgress = unheard,
    should_stop: Callable[[], bool] | None = None,
) -> Any:
    """Train ``unet`` on ``pairs`` and return it with its averaged weights.

    Args:
        start: names the initial weights (``seed 0``, or the base's hash); part of the run's identity.
    """
    encoded = encode_pairs(pairs, encoders, device)
    use_training_attention(unet)
    # Convolutions on a CPU without matrix units gain a fifth from this layout; the others lose nothing.
    unet.to(memory_format=torch.channels_last)
    task = DenoiserTask(DenoisingLoss(unet, scheduler), encoded)
    identity = {"data": pairs.data_hash, "start": start, "unet": hash_json(plain_config(unet))}
    trained = train(
        task, config, folder, identity=identity, device=device, on_progress=on_progress, should_stop=should_stop
    ).unet
    use_fused_attention(trained)
    return trained
