"""A pair set as a U-Net of any Stable Diffusion family sees it: latents, conditioning, SDXL's added conditions.

The autoencoder stays fixed, and in fine-tuning so do the text encoders (Ding et al. 2024, section 2.3): encoding at
every step, as training scripts commonly do, only repeats itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from explorer.checkpoints.module_identity import module_identity
from explorer.core.block_files import BLOCK_ROWS, BlockArray, BlockFiles
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import hash_json
from explorer.iconworld.autoencoder import encode_images
from explorer.pairs.pair_set import PairSet
from explorer.training.conditioning import (
    CachedConditioning,
    LiveConditioning,
    cached_captions,
    live_captions,
    on_device,
)

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PICTURES_AT_ONCE = 4
GPU_PIXELS_AT_ONCE = PICTURES_AT_ONCE * 512**2
"""On a GPU, which small pictures a few at a time would leave idle."""


@dataclass(frozen=True, kw_only=True)
class EncodedPairs:
    """The training split of a pair set, encoded."""

    latents: BlockArray
    """``[pictures, 4, h, w]``, the posterior's mean, scaled."""
    picture: torch.Tensor
    """int64 ``[pairs]``: row of ``latents``."""
    conditioning: CachedConditioning | LiveConditioning
    """The distinct captions, and no prompt as the last row."""
    caption: torch.Tensor
    """int64 ``[pairs]``: row of ``conditioning``."""
    time_ids: torch.Tensor | None
    """float32 ``[6]`` for SDXL: original height and width, top and left of the crop, target height and width."""
    identity: dict[str, str]
    """Names latents, text, and which pair has which of them."""

    def subset(self, rows: np.ndarray) -> EncodedPairs:
        """The pairs at positions ``rows`` of these alone, in their order; nothing is encoded or copied."""
        picture, caption = self.picture[rows], self.caption[rows]
        identity = self.identity | {"pairs": hash_json([picture.tolist(), caption.tolist()])}
        return replace(self, picture=picture, caption=caption, identity=identity)


def encode_pair_set(
    pipeline: DiffusionPipeline,
    pairs: PairSet,
    resolution: int,
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    processes: int = 1,
    live: bool = False,
    on_progress: OnProgress = unheard,
) -> EncodedPairs:
    """Encode what ``cache`` does not hold yet; afterwards no encoder is on ``device``.

    Args:
        resolution: side of the square pictures; see :func:`fit_pictures`.
        on_progress: told about every encoded block.
        cache: folder shared by all runs; entries are keyed by weights, pictures, token ids and resolution.
        live: keep captions as tokens, for the pipeline's text encoders inside the step.

    Raises:
        ManifestError: if the pictures are not those that the set's manifest describes.
        ValueError: if the set has no training pairs, or a value does not fit fp16.
    """
    pairs.check_images()
    rows = pairs.training_rows
    if not len(rows):
        raise ValueError(f"{pairs.folder} has no pairs of the split 'train': expected at least one")
    captions = pairs.table["caption"].to_numpy()[rows].tolist()
    distinct = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    images, picture = np.unique(pairs.table["image_index"].to_numpy()[rows], return_inverse=True)
    picture, caption = torch.from_numpy(picture.reshape(-1)), torch.tensor([distinct[caption] for caption in captions])
    is_xl = getattr(pipeline, "text_encoder_2", None) is not None
    shares = {"rank": rank, "processes": processes}
    latents = _latent_files(pipeline, pairs, images, resolution, cache)
    with on_device(pipeline.vae, device):
        encode = _picture_encoder(pipeline.vae, pairs, images, resolution, device)
        latents.fill(encode, **shares, on_progress=on_progress, task="encoding pictures")
    if live:
        conditioning = live_captions(pipeline, list(distinct))
    else:
        conditioning = cached_captions(
            pipeline, list(distinct), cache, device=device, **shares, on_progress=on_progress
        )
    return EncodedPairs(
        latents=latents.open()["latents"],
        picture=picture,
        conditioning=conditioning,
        caption=caption,
        time_ids=time_ids(pairs.images.shape[1:3], resolution) if is_xl else None,
        identity={
            "latents": latents.key,
            "text": conditioning.identity,
            "pairs": hash_json([picture.tolist(), caption.tolist()]),
        },
    )


def random_encoded_pairs(
    count: int,
    *,
    latents: tuple[int, int, int],
    text: tuple[int, int],
    pooled: int | None = None,
    time_ids: torch.Tensor | None = None,
) -> EncodedPairs:
    """Random numbers in place of encoded pictures and captions, to time steps with: they take as long.

    Args:
        latents: channels, height and width.
        text: tokens and width.
        pooled: width of SDXL's pooled text.
    """
    draw = np.random.default_rng(0)

    def rows(number: int, *shape: int) -> BlockArray:
        drawn = draw.standard_normal((number, *shape), dtype=np.float32).astype(np.float16)
        return BlockArray(np.split(drawn, range(BLOCK_ROWS, number, BLOCK_ROWS)))

    conditioning = CachedConditioning(
        text=rows(count + 1, *text), pooled=None if pooled is None else rows(count + 1, pooled),
        identity="random", truncated=0,
    )  # fmt: skip
    return EncodedPairs(
        latents=rows(count, *latents), picture=torch.arange(count), conditioning=conditioning,
        caption=torch.arange(count), time_ids=time_ids, identity=dict.fromkeys(("latents", "text", "pairs"), "random"),
    )  # fmt: skip


def fit_pictures(images: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 ``[n, H, W, 3]`` as ``[n, resolution, resolution, 3]``: the shorter side resized by Lanczos, then the
    centre cropped."""
    (height, width), (top, left) = _resized(images.shape[1:3], resolution)
    if images.shape[1:3] != (height, width):
        resized = [Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS) for image in images]
        images = np.stack([np.asarray(image) for image in resized])
    return np.ascontiguousarray(images[:, top : top + resolution, left : left + resolution])


def time_ids(size: tuple[int, int], resolution: int) -> torch.Tensor:
    """SDXL's size and crop conditions (Podell et al. 2023, section 2.2) of a picture of ``size`` (height, width) after
    :func:`fit_pictures`: float32 ``[6]``."""
    _, (top, left) = _resized(size, resolution)
    return torch.tensor([*size, top, left, resolution, resolution], dtype=torch.float32)


def _resized(size: tuple[int, int], resolution: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width once the shorter side is ``resolution``, and the corner of the centre crop."""
    shorter = min(size)
    height, width = (round(side * resolution / shorter) for side in size)
    return (height, width), ((height - resolution) // 2, (width - resolution) // 2)


def _latent_files(
    pipeline: DiffusionPipeline, pairs: PairSet, images: np.ndarray, resolution: int, cache: Path
) -> BlockFiles:
    config = {
        "autoencoder": module_identity(pipeline.vae),
        "pictures": pairs.data_hash,
        "rows": hash_json(images.tolist()),
        "resolution": resolution,
    }
    return BlockFiles(root=cache, config=config, names=("latents",), rows=len(images))


def _picture_encoder(
    autoencoder: Any, pairs: PairSet, images: np.ndarray, resolution: int, device: torch.device | str
) -> Callable[[range], dict[str, np.ndarray]]:
    at_once = PICTURES_AT_ONCE
    if torch.device(device).type != "cpu":
        at_once = max(at_once, GPU_PIXELS_AT_ONCE // resolution**2)

    def encode(rows: range) -> dict[str, np.ndarray]:
        fitted = torch.from_numpy(fit_pictures(np.asarray(pairs.images[images[rows.start : rows.stop]]), resolution))
        latents = [encode_images(autoencoder, part.to(device)).cpu() for part in fitted.split(at_once)]
        return {"latents": torch.cat(latents).numpy()}

    return encode
