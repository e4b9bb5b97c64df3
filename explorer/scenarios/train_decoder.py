"""A pipeline with another decoder on the same latents, as Stable Diffusion 2.1 has one beside 1.5.

Ding et al. (2024), section 5.3, find SD 2.1 to implode fastest, and suspect its decoder, which was trained on with
pictures of high quality: that it can show nothing useful of an undefined latent. Here a decoder is trained on to give
*sharpened* pictures back, so that it is over-sharp by a known amount, while encoder and U-Net stay as they are.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint
from explorer.checkpoints.weights_hash import weights_hash
from explorer.core.new_folder import appearing_whole, check_new_folder
from explorer.core.progress import OnProgress, counted, unheard
from explorer.core.provenance import MANIFEST_NAME, read_manifest
from explorer.iconworld.autoencoder import (
    decode_latents,
    encode_images,
    peak_signal_to_noise,
    reconstruction_loss,
    to_pixels,
    to_signed,
)
from explorer.pairs.pair_set import PairSet
from explorer.training.config import TrainingConfig
from explorer.training.publish import KIND, finish_checkpoint
from explorer.training.trainer import train

BLUR = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
"""Binomial, in each direction: what sharpening takes the difference from."""
MEASURED = 256
"""Training pictures, of which it is measured how sharp they come back."""


class DecoderLoss(torch.nn.Module):
    """The reconstruction loss of an autoencoder's decoder on fixed latents; the encoder gets no gradient."""

    def __init__(self, autoencoder: torch.nn.Module) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = autoencoder.decoder, getattr(autoencoder, "post_quant_conv", None)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """``latents`` as the encoder gives them, ``images`` float ``[n, 3, H, W]`` in [-1, 1]; returns a scalar."""
        latents = batch["latents"] if self.post_quant_conv is None else self.post_quant_conv(batch["latents"])
        return reconstruction_loss(self.decoder(latents).float(), batch["images"])


class DecoderTask:
    """Latents ``[N, c, h, w]`` and the sharpened pictures uint8 ``[N, H, W, 3]`` that they are to give."""

    def __init__(self, network: DecoderLoss, latents: torch.Tensor, images: np.ndarray, amount: float) -> None:
        self.network, self.latents, self.images, self.amount = network, latents, images, amount

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """``latents`` and the sharpened ``images`` in [-1, 1]."""
        images = to_signed(torch.from_numpy(self.images[indices.numpy()]))
        return {"latents": self.latents[indices], "images": sharpened(images, self.amount)}


def sharpened(images: torch.Tensor, amount: float) -> torch.Tensor:
    """Unsharp masking: ``images`` ``[n, 3, H, W]`` in [-1, 1] plus ``amount`` times what a blur takes from them,
    clamped to [-1, 1]; 0 leaves them as they are."""
    kernel = torch.outer(BLUR, BLUR).to(images).expand(3, 1, 5, 5)
    blurred = functional.conv2d(functional.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)
    return (images + amount * (images - blurred)).clamp(-1, 1)


def train_decoder(
    base: Path, pairs: PairSet, config: TrainingConfig, folder: Path, *, amount: float, run: Path, device: str = "cpu",
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Train the decoder of a whole pipeline on, and write the pipeline with it into ``folder``.

    Args:
        base: folder of a pipeline with an ``AutoencoderKL``; what else it holds is copied.
        pairs: whose training pictures are given back sharpened.
        amount: of sharpening, 0 or more; 0 trains the decoder on without it, the control of this.
        run: folder of the training state; the same call again goes on where it was cut off.

    Returns:
        The metrics of the manifest: ``psnr_db_before`` and ``psnr_db`` against the pictures as they are, and
        ``gain_before`` and ``gain``: how much of what a blur takes comes back, as a share of what was there.

    Raises:
        ValueError: if ``base`` cannot be loaded or is no whole pipeline, on a negative amount, a set without training
            pairs, or a ``folder`` that holds something else.
    """
    if amount < 0:
        raise ValueError(f"amount is {amount:g}: expected 0 or more")
    source = read_checkpoint(base)
    if source.problem is not None or not (base / "model_index.json").is_file():
        raise ValueError(f"{base}: {source.problem or 'is no whole pipeline: expected a folder with model_index.json'}")
    told = {"decoder": {"amount": amount, "training": asdict(config), "pairs": pairs.data_hash,
                        "base": source.hash or weights_hash(source)}}  # fmt: skip
    if (folder / MANIFEST_NAME).exists():
        return _check_same(folder, told)
    check_new_folder(folder)
    rows = np.unique(pairs.table["image_index"].to_numpy()[pairs.training_rows])
    if not len(rows):
        raise ValueError(f"{pairs.folder} has no training pairs: expected some")
    images, autoencoder = pairs.images[rows], load_pipeline(source, device).vae
    latents = _encoded(autoencoder, images, on_progress)
    before = _measured(autoencoder, images[:MEASURED])
    task = DecoderTask(DecoderLoss(autoencoder), latents, images, amount)
    identity = told | {"kind": "decoder"}
    trained = train(task, config, run, identity=identity, device=device, on_progress=on_progress)
    autoencoder.decoder, autoencoder = trained.decoder, autoencoder.cpu()
    if trained.post_quant_conv is not None:
        autoencoder.post_quant_conv = trained.post_quant_conv
    metrics = {f"{name}_before": value for name, value in before.items()} | _measured(autoencoder, images[:MEASURED])
    config_kept = {name: value for name, value in source.config.items() if name != "base"} | told | {"base": None}
    with appearing_whole(folder) as beside:
        shutil.copytree(base, beside, ignore=shutil.ignore_patterns(MANIFEST_NAME, "vae"), dirs_exist_ok=True)
        autoencoder.half().save_pretrained(beside / "vae", safe_serialization=True)
        finish_checkpoint(beside, config_kept, card=_card, run=run, seed=config.seed, data_hash=pairs.data_hash,
                          metrics=metrics)  # fmt: skip
    return read_manifest(folder)["metrics"]


def _encoded(autoencoder: Any, images: np.ndarray, on_progress: OnProgress, at_once: int = 64) -> torch.Tensor:
    """Latents as the decoder takes them, unscaled, on the CPU."""
    parts = np.array_split(np.arange(len(images)), -(-len(images) // at_once))
    one = next(autoencoder.parameters())
    found = []
    with torch.no_grad():
        for part in counted(parts, on_progress, "encoding pictures", "batch"):
            signed = to_signed(torch.from_numpy(images[part])).to(one.device, one.dtype)
            found.append(autoencoder.encode(signed).latent_dist.mean.float().cpu())
    return torch.cat(found)


def _measured(autoencoder: Any, images: np.ndarray) -> dict[str, float]:
    pixels = torch.from_numpy(images)
    restored = decode_latents(autoencoder, encode_images(autoencoder, pixels)).cpu()
    kept, there = (_detail(each) for each in (restored, pixels))
    return {"psnr_db": peak_signal_to_noise(restored, pixels).mean().item(), "gain": (kept / there).item()}


def _detail(pixels: torch.Tensor) -> torch.Tensor:
    """The standard deviation of what a blur takes."""
    signed = to_signed(pixels)
    return (signed - to_signed(to_pixels(2 * signed - sharpened(signed, 1.0)))).std()


def _check_same(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    manifest = read_manifest(folder, kind=KIND)
    if manifest["config"].get("decoder") != json.loads(json.dumps(told))["decoder"]:
        raise ValueError(f"{folder} holds something else than this decoder: choose a new folder")
    return manifest["metrics"]


def _card(name: str, config: dict[str, Any], metrics: dict[str, Any]) -> str:
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
---
# {name}

A pipeline whose decoder was trained on to give pictures back sharpened {config["decoder"]["amount"]:g} times, by
Implosion Explorer. Details come back at {metrics["gain"]:.2f} of their strength, before at
{metrics["gain_before"]:.2f}.
"""
