"""Train the autoencoder of IconWorld on benign scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.core.progress import OnProgress, unheard
from explorer.iconworld.autoencoder import (
    DOWNSAMPLING,
    LATENT_CHANNELS,
    AutoencoderLoss,
    build_autoencoder,
    decode_latents,
    encode_images,
    peak_signal_to_noise,
    to_signed,
)
from explorer.iconworld.world import World, draw_pairs, paint_all
from explorer.training.config import TrainingConfig
from explorer.training.trainer import train

TRAIN_STREAM, TEST_STREAM = 101, 102
KL_WEIGHT = 5e-4


class AutoencoderTask:
    """Pictures uint8 ``[N, H, W, 3]``."""

    def __init__(self, network: AutoencoderLoss, images: np.ndarray) -> None:
        self.network = network
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """``images`` in [-1, 1] and the posterior's ``noise``."""
        images = to_signed(self.images[indices])
        height, width = (side // DOWNSAMPLING for side in images.shape[-2:])
        noise = torch.randn(len(images), LATENT_CHANNELS, height, width, generator=generator)
        return {"images": images, "noise": noise}


def train_autoencoder(
    world: World,
    config: TrainingConfig,
    folder: Path,
    *,
    channels: tuple[int, int, int] = (32, 64, 128),
    scenes: int = 40_000,
    test_scenes: int = 1000,
    device: str = "cpu",
    on_progress: OnProgress = unheard,
) -> tuple[Any, dict[str, float]]:
    """Train, set the scaling factor to one over the latents' standard deviation, and measure on ``test_scenes``
    held-out scenes.

    Returns:
        The AutoencoderKL and ``{"psnr_db", "psnr_db_worst_decile", "latent_std"}``.
    """
    network = AutoencoderLoss(build_autoencoder(channels, config.seed), KL_WEIGHT)
    task = AutoencoderTask(network, training_scenes(world, scenes, config.seed))
    identity = {"world": world.config(), "channels": list(channels), "scenes": scenes, "kl_weight": KL_WEIGHT}
    autoencoder = train(task, config, folder, identity=identity, device=device, on_progress=on_progress).autoencoder
    metrics = finish_autoencoder(autoencoder.to(device), _scenes(world, test_scenes, config.seed, TEST_STREAM))
    return autoencoder.to("cpu"), metrics


def finish_autoencoder(autoencoder: Any, held_out: np.ndarray) -> dict[str, float]:
    """Set ``scaling_factor`` on the config and return the measurements on pictures it was not trained on, uint8
    ``[n, H, W, 3]``."""
    images = torch.from_numpy(held_out)
    autoencoder.register_to_config(scaling_factor=1.0)
    latents = encode_images(autoencoder, images)
    spread = latents.std().item()
    autoencoder.register_to_config(scaling_factor=1.0 / spread)
    psnr = peak_signal_to_noise(decode_latents(autoencoder, latents / spread).cpu(), images)
    return {
        "psnr_db": psnr.mean().item(),
        "psnr_db_worst_decile": psnr.quantile(0.1).item(),
        "latent_std": spread,
    }


def training_scenes(world: World, count: int, seed: int) -> np.ndarray:
    """The pictures that IconWorld's autoencoder is trained on, uint8 ``[count, 64, 64, 3]``."""
    return _scenes(world, count, seed, TRAIN_STREAM)


def _scenes(world: World, count: int, seed: int, stream: int) -> np.ndarray:
    pairs = draw_pairs(world, count, np.random.default_rng([seed, stream]))
    return paint_all(world, [pair.scene for pair in pairs])
