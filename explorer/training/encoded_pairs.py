"""A pair set as a U-Net of any Stable Diffusion family sees it, encoded once: latents, text, SDXL's added conditions.

Autoencoder and text encoders stay fixed in fine-tuning (Ding et al. 2024, section 2.3), so that encoding at every step,
as training scripts commonly do, only repeats itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.checkpoints.module_identity import module_identity
from explorer.core.block_files import BlockArray, BlockFiles
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import hash_json
from explorer.iconworld.autoencoder import encode_images
from explorer.pairs.pair_set import PairSet

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PICTURES_AT_ONCE = 4
CAPTIONS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class EncodedPairs:
    """The training split of a pair set, encoded."""

    latents: BlockArray
    """``[pictures, 4, h, w]``, the posterior's mean, scaled."""
    picture: torch.Tensor
    """int64 ``[pairs]``: row of ``latents``."""
    text: BlockArray
    """``[distinct captions + 1, L, d]``; the last is what the pipeline uses for no prompt."""
    pooled: BlockArray | None
    """``[distinct captions + 1, p]`` for SDXL."""
    caption: torch.Tensor
    """int64 ``[pairs]``: row of ``text``."""
    time_ids: torch.Tensor | None
    """float32 ``[6]`` for SDXL: original height and width, top and left of the crop, target height and width."""
    identity: dict[str, str]
    """Keys of both caches."""
    truncated_captions: int
    """Distinct captions longer than the text encoder's context, which sees only their beginning."""


def encode_pair_set(
    pipeline: DiffusionPipeline,
    pairs: PairSet,
    resolution: int,
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    processes: int = 1,
    on_progress: OnProgress = unheard,
) -> EncodedPairs:
    """Encode what ``cache`` does not hold yet; afterwards no encoder is on ``device``.

    Args:
        resolution: side of the square pictures; see :func:`fit_pictures`.
        on_progress: told about every encoded block.
        cache: folder shared by all runs; entries are keyed by weights, pictures, token ids and resolution.

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
    shares = {"rank": rank, "processes": processes}
    latents = _latent_files(pipeline, pairs, images, resolution, cache)
    with _on_device([pipeline.vae], device):
        encode = _picture_encoder(pipeline.vae, pairs, images, resolution, device)
        latents.fill(encode, **shares, on_progress=on_progress, task="encoding pictures")
    text, truncated = _text_files(pipeline, list(distinct), cache)
    with _on_device(_text_encoders(pipeline).values(), device), _without_truncation_warnings():
        encode = _caption_encoder(pipeline, list(distinct), device)
        text.fill(encode, **shares, on_progress=on_progress, task="encoding captions")
    texts = text.open()
    return EncodedPairs(
        latents=latents.open()["latents"],
        picture=torch.from_numpy(picture.reshape(-1).astype(np.int64)),
        text=texts["text"],
        pooled=texts.get("pooled"),
        caption=torch.tensor([distinct[caption] for caption in captions]),
        time_ids=time_ids(pairs.images.shape[1:3], resolution) if "pooled" in texts else None,
        identity={"latents": latents.key, "text": text.key},
        truncated_captions=truncated,
    )


def fit_pictures(images: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 ``[n, H, W, 3]`` as ``[n, resolution, resolution, 3]``: the shorter side resized by Lanczos, then the
    centre cropped."""
    from PIL import Image

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
    def encode(rows: range) -> dict[str, np.ndarray]:
        fitted = torch.from_numpy(fit_pictures(np.asarray(pairs.images[images[rows.start : rows.stop]]), resolution))
        latents = [encode_images(autoencoder, part.to(device)).cpu() for part in fitted.split(PICTURES_AT_ONCE)]
        return {"latents": torch.cat(latents).numpy()}

    return encode


def _text_encoders(pipeline: DiffusionPipeline) -> dict[str, Any]:
    names = ("text_encoder", "text_encoder_2")
    return {name: getattr(pipeline, name) for name in names if getattr(pipeline, name, None) is not None}


def _text_files(pipeline: DiffusionPipeline, captions: list[str], cache: Path) -> tuple[BlockFiles, int]:
    """The cache of ``captions``, and how many of them are longer than the context."""
    encoders, ids, truncated = _text_encoders(pipeline), {}, np.zeros(len(captions), bool)
    for name in encoders:
        tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
        read = captions
        if len(tokenizer) > tokenizer.vocab_size:  # textual inversions, whose further vectors count
            read = pipeline.maybe_convert_prompt(captions, tokenizer)
        ids[name] = tokenizer(read, padding=False, truncation=False, verbose=False).input_ids
        truncated |= np.array([len(row) > tokenizer.model_max_length for row in ids[name]])
    config = {
        "encoders": {name: module_identity(encoder) for name, encoder in encoders.items()},
        "tokens": hash_json(ids),
        "zeros_for_no_prompt": bool(pipeline.config.get("force_zeros_for_empty_prompt", False)),
    }
    names = ("text", "pooled") if "text_encoder_2" in encoders else ("text",)
    return BlockFiles(root=cache, config=config, names=names, rows=len(captions) + 1), int(truncated.sum())


def _caption_encoder(
    pipeline: DiffusionPipeline, captions: list[str], device: torch.device | str
) -> Callable[[range], dict[str, np.ndarray]]:
    def encode(rows: range) -> dict[str, np.ndarray]:
        part = captions[rows.start : rows.stop]
        parts = [part[start : start + CAPTIONS_AT_ONCE] for start in range(0, len(part), CAPTIONS_AT_ONCE)]
        encoded = [encode_prompts(pipeline, some, device) for some in parts]
        if rows.stop == len(captions) + 1:
            encoded.append(encode_no_prompt(pipeline, device))
        return {name: torch.cat([one[name] for one in encoded]).float().cpu().numpy() for name in encoded[0]}

    return encode


@torch.no_grad()
def encode_prompts(
    pipeline: DiffusionPipeline, prompts: list[str], device: torch.device | str
) -> dict[str, torch.Tensor]:
    """``text`` ``[n, L, d]`` and for SDXL ``pooled`` ``[n, p]``, as the pipeline itself makes them when it draws."""
    encoded = pipeline.encode_prompt(
        prompt=prompts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return dict(zip(("text", "pooled"), encoded[0::2], strict=False))


@torch.no_grad()
def encode_no_prompt(pipeline: DiffusionPipeline, device: torch.device | str) -> dict[str, torch.Tensor]:
    """The same for the unguided half of classifier-free guidance: the empty caption, or zeros where SDXL says so."""
    encoded = pipeline.encode_prompt(
        prompt=[""], device=device, num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    return dict(zip(("text", "pooled"), encoded[1::2], strict=False))


@contextmanager
def _on_device(modules: Sequence[Any], device: torch.device | str) -> Iterator[None]:
    modules = list(modules)
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.to("cpu")


@contextmanager
def _without_truncation_warnings() -> Iterator[None]:
    """Long captions are counted once and reported with the result; diffusers would warn of every one."""
    logger = logging.getLogger("diffusers.pipelines")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
