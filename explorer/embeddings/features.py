"""Features of a pair set, computed once and kept beside it: fp16, unit length, row-aligned with ``pairs.parquet``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from explorer.core.progress import OnProgress, counted, unheard
from explorer.core.provenance import MANIFEST_NAME, read_manifest, replacing, write_manifest
from explorer.pairs.pair_set import IMAGES_NAME, PairSet

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor

KIND = "features"
ROWS_AT_ONCE = 1024
IMAGE_NAME, TEXT_NAME = "image.npy", "text.npy"


def pair_features(
    pair_set: PairSet, extractor: UniversalExtractor, on_progress: OnProgress = unheard
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and text features of every pair, float32 ``[N, d]`` each, rows of unit length.

    Cached under ``features/<extractor name>`` of the set; a cache of other weights or of other pairs is replaced.

    Raises:
        ManifestError: if the set's pictures are not those that its manifest describes.
    """
    folder = pair_set.folder / "features" / extractor.name
    wanted = {"extractor": extractor.identity, "pairs": pair_set.data_hash}
    current = _is_current(folder, wanted, len(pair_set))
    if not current or read_manifest(folder).get("pictures") != _stamp(pair_set):
        pair_set.check_images()
    if not current:
        _extract(pair_set, extractor, folder, wanted, on_progress)
    image, text = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (IMAGE_NAME, TEXT_NAME))
    # fp16 leaves a length error of about 1e-4, which AD would take for structure.
    return _unit(image), _unit(text)


def _unit(stored: np.ndarray) -> torch.Tensor:
    return functional.normalize(torch.from_numpy(np.array(stored)).float(), dim=-1)


def _is_current(folder: Path, wanted: dict[str, str], pairs: int) -> bool:
    if not (folder / MANIFEST_NAME).is_file() or read_manifest(folder, kind=KIND)["config"] != wanted:
        return False
    return all(
        len(np.load(folder / name, mmap_mode="r", allow_pickle=False)) == pairs for name in (IMAGE_NAME, TEXT_NAME)
    )


def _stamp(pair_set: PairSet) -> list[int]:
    """Size and time of change of the pictures' file: while these stay, it is taken for what it was."""
    status = (pair_set.folder / IMAGES_NAME).stat()
    return [status.st_size, status.st_mtime_ns]


def _extract(
    pair_set: PairSet, extractor: UniversalExtractor, folder: Path, wanted: dict[str, str], on_progress: OnProgress
) -> None:
    # Pairs may share a picture; each picture is encoded once.
    rows, position = np.unique(pair_set.table["image_index"].to_numpy(), return_inverse=True)
    chunks = [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
    chunks = counted(chunks, on_progress, f"features of {pair_set.folder.name}", "block")
    parts = [extractor.encode_images(np.asarray(pair_set.images[part])) for part in chunks]
    image = torch.cat(parts)[torch.from_numpy(position.reshape(-1))]
    text = extractor.encode_texts(pair_set.table["caption"].tolist())
    folder.mkdir(parents=True, exist_ok=True)
    # The manifest vouches for both files: cut off between them, it would vouch for new images beside old text.
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for name, features in ((IMAGE_NAME, image), (TEXT_NAME, text)):
        with replacing(folder / name) as temporary, open(temporary, "wb") as stream:
            np.save(stream, features.half().numpy(), allow_pickle=False)
    write_manifest(
        folder,
        kind=KIND,
        config=wanted,
        seed=None,
        data_hash=pair_set.data_hash,
        files=[IMAGE_NAME, TEXT_NAME],
        pictures=_stamp(pair_set),
    )
