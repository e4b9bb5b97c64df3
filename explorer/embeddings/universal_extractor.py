"""The universal feature extractor of Ding et al. (2024), section 5.1: one CLIP for pictures and captions.

IconWorld's own is a small CLIP, defined by a config of ours and built by open_clip. ``open_clip_extractor`` loads any
other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from explorer.checkpoints.placement import check_place
from explorer.checkpoints.reasons import enough_memory
from explorer.checkpoints.weight_files import read_config
from explorer.core.provenance import MANIFEST_NAME, check_files, read_manifest, write_manifest
from explorer.iconworld.tokenizer import encode

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_FOLDER = "tokenizer"
KIND = "extractor"
SMALL_SIDE = 64
"""Pixels a side that the small CLIP reads."""
embedding_memory = enough_memory(
    "embedding by the universal extractor",
    "fewer pairs at once (--batch-size, where the command has it), fewer --processes, or --device cpu",
)
"""A decorator of what runs a universal extractor."""


def small_clip_config(vocabulary_size: int, context_length: int) -> dict[str, Any]:
    """open_clip model config of IconWorld's CLIP: 64 x 64 pictures, a narrow text tower of width 128."""
    return {
        "embed_dim": 128,
        "quick_gelu": False,
        "vision_cfg": {"image_size": 64, "layers": 5, "width": 192, "head_width": 48, "patch_size": 8},
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": vocabulary_size,
            "width": 128,
            "heads": 4,
            "layers": 3,
        },
    }


def build_clip(config: dict[str, Any], seed: int = 0) -> Any:
    """A freshly initialised ``open_clip.CLIP`` of ``config``."""
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    return CLIP(**config, output_dict=True)


@dataclass(frozen=True, kw_only=True)
class UniversalExtractor:
    """Pictures and captions to unit vectors of one space."""

    name: str
    """Names the feature cache."""
    clip: Any
    """open_clip model in evaluation mode."""
    tokenize: Callable[[list[str]], torch.Tensor]
    """Captions to token ids int64 ``[n, context_length]``."""
    preprocess: Callable[[np.ndarray], torch.Tensor]
    """uint8 ``[n, H, W, 3]`` to the image tower's input."""
    feature_range: tuple[float, float] | None
    """(lo, hi) cosines that feature distance maps to 1 and 0: calibrated once on benign pairs and frozen; None where
    only features are wanted."""
    identity: str
    """SHA-256 of the weights, of an open_clip model also of its architecture and of how it prepares pictures: features
    cached under another are computed again."""
    device: str = "cpu"
    preparation: dict[str, Any] | None = None
    """How an open_clip model's pictures are prepared: size, mean, deviation, interpolation, resize mode."""
    picture_size: int | None = None
    """Pixels a side of the square that the image tower reads; None where that is not known."""
    overlong: Callable[[list[str]], list[bool]] | None = None
    """Which captions ``tokenize`` cuts off at the context's length; None where it refuses them."""

    @embedding_memory
    @torch.no_grad()
    def encode_images(self, images: np.ndarray, batch_size: int = 256) -> torch.Tensor:
        """Features of uint8 ``[n, H, W, 3]``: float32 ``[n, d]`` on the CPU, unit length.

        Raises:
            ValueError: for another dtype or shape, or if memory does not suffice.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images are {images.dtype} {images.shape}: expected uint8 [n, H, W, 3]")
        parts = [
            self.clip.encode_image(self.preprocess(images[start : start + batch_size]).to(self.device))
            for start in range(0, len(images), batch_size)
        ]
        return functional.normalize(torch.cat(parts).float(), dim=-1).cpu()

    @embedding_memory
    @torch.no_grad()
    def encode_texts(self, captions: list[str], batch_size: int = 256, *, unit: bool = True) -> torch.Tensor:
        """Features of captions: float32 ``[n, d]`` on the CPU, of unit length or as the text tower gives them."""
        # Captions repeat a lot; each distinct one is encoded once.
        distinct = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        listed = list(distinct)
        parts = [
            self.clip.encode_text(self.tokenize(listed[start : start + batch_size]).to(self.device))
            for start in range(0, len(listed), batch_size)
        ]
        features = torch.cat(parts).float().cpu()
        features = functional.normalize(features, dim=-1) if unit else features
        return features[torch.tensor([distinct[caption] for caption in captions])]

    def cut_captions(self, captions: list[str]) -> list[bool]:
        """Which captions lose their end because the context is too short for them."""
        return [False] * len(captions) if self.overlong is None else self.overlong(captions)

    @staticmethod
    def load(folder: Path | str, device: str = "cpu") -> UniversalExtractor:
        """Load an extractor folder of this project (``config.json``, ``model.safetensors``, tokenizer, manifest).

        Raises:
            ManifestError: if a file is missing or changed.
            ValueError: naming a device that this machine lacks.
        """
        check_place(device, None)
        folder = Path(folder)
        manifest = read_manifest(folder, kind=KIND)
        check_files(folder, manifest)
        clip = build_clip(read_config(folder / CONFIG_NAME))
        weights = load_file(folder / WEIGHTS_NAME)
        clip.load_state_dict({name: value.float() for name, value in weights.items()})
        tokenizer = load_tokenizer(folder)
        return UniversalExtractor(
            name=manifest["config"]["name"],
            clip=clip.to(device).eval(),
            tokenize=lambda captions: encode(tokenizer, captions),
            preprocess=small_clip_input,
            feature_range=tuple(manifest["feature_range"]),
            identity=manifest["files"][WEIGHTS_NAME],
            picture_size=SMALL_SIDE,
            device=device,
        )


def load_tokenizer(folder: Path) -> Any:
    """The ``CLIPTokenizer`` of an extractor folder."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder / TOKENIZER_FOLDER)


def small_clip_input(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 ``[n, H, W, 3]`` to float ``[n, 3, 64, 64]`` in [-1, 1]; other sizes are resized with antialiasing."""
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float()
    side = (SMALL_SIDE, SMALL_SIDE)
    if pixels.shape[-2:] != side:
        pixels = functional.interpolate(pixels, size=side, mode="bilinear", antialias=True)
    return pixels / 127.5 - 1


def save_extractor(
    folder: Path,
    clip: Any,
    clip_config: dict[str, Any],
    *,
    name: str,
    feature_range: tuple[float, float],
    config: dict[str, Any],
    seed: int,
    data_hash: str,
    metrics: dict[str, Any],
) -> None:
    """Write an extractor folder in fp16 (the tokenizer must already lie in ``folder/tokenizer``)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).write_text(json.dumps(clip_config, indent=1) + "\n", encoding="utf-8")
    weights = {key: value.half().contiguous().clone() for key, value in clip.state_dict().items()}
    save_file(weights, folder / WEIGHTS_NAME)
    files = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    write_manifest(
        folder,
        kind=KIND,
        config={"name": name, **config},
        seed=seed,
        data_hash=data_hash,
        files=[file for file in files if file != MANIFEST_NAME],
        feature_range=list(feature_range),
        metrics=metrics,
    )
