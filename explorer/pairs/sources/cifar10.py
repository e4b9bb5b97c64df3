"""CIFAR-10 as a pair set, clean or with the mislabelled pairs of section 5.4 of Ding et al. (CCS 2024).

Two sources. Parquet files (``train-*.parquet``, ``test-*.parquet``) with encoded pictures in ``image`` or
``img`` and class numbers in ``label``, as dataset hubs publish them; their pictures may have been
re-encoded as JPEG. Or the official archive through torchvision, whose batches are pickles: torchvision
checks their MD5 sums against its own list before it unpickles them, and nothing is downloaded unless asked
for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.pairs.mislabelled import with_mislabelled_pairs
from explorer.pairs.pair_set import PairSet, check_free
from explorer.pairs.poison_flags import recorded_by_flags
from explorer.pairs.quarantine import UnusableError
from explorer.pairs.sources.decoding import Limits, decode_image

if TYPE_CHECKING:
    import pandas

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""Class names by class number; a name is its picture's caption."""
SIDE = 32
"""Pictures are 32 x 32 RGB."""
OFFICIAL_TRAINING_PAIRS = 50_000
OFFICIAL_POISONS_PER_CLASS = 3_000
"""Section 5.4 adds 3000 mislabelled pairs to each poisoned class of the 50000 training pairs."""


def write_cifar10(
    folder: Path | str,
    source: Path | str,
    *,
    poisoned_classes: int,
    seed: int,
    split: str = "train",
    download: bool = False,
) -> PairSet:
    """Write CIFAR-10 with ``poisoned_classes`` poisoned classes as a pair set.

    Every poisoned class gets 3000 mislabelled pairs on top of its benign ones where the source holds all
    50000 training pairs; from a part of CIFAR-10 it gets the same share, 3000/50000 of the pairs there are
    (the manifest says how many), so that feature AD stays that of Table 5.

    Args:
        folder: a new folder.
        source: folder of parquet files, or of the official archive (``cifar-10-batches-py``).
        poisoned_classes: C_P in 0..10.
        seed: decides classes, targets and pictures.
        split: ``train`` or ``test``.
        download: let torchvision fetch the official archive into ``source`` where it is absent.

    Raises:
        FileNotFoundError: as :func:`read_cifar10`.
        ValueError: as :func:`read_cifar10`, if ``folder`` already holds something, or ``poisoned_classes`` is outside
            0..10.
    """
    check_free(Path(folder))
    images, labels = read_cifar10(source, split=split, download=download)
    poisons = scaled_poisons_per_class(len(labels))
    table = with_mislabelled_pairs(
        class_pairs(labels, split=split),
        CLASSES,
        poisoned_classes=poisoned_classes,
        poisons_per_class=poisons,
        seed=seed,
    )
    poison = recorded_by_flags(table)
    if poison.poisoned:
        poison = replace(poison, kind="mislabelled", seed=seed, parameters={"added_per_concept": poisons})
    config = {"world": "cifar10", "split": split, "benign_pairs": len(labels), "poison": poison.as_json()}
    return PairSet.write(folder, table, images, config=config, seed=seed)


def scaled_poisons_per_class(benign_pairs: int) -> int:
    """3000 mislabelled pairs a class per 50000 benign pairs, to the nearest whole pair."""
    return round(OFFICIAL_POISONS_PER_CLASS * benign_pairs / OFFICIAL_TRAINING_PAIRS)


def read_cifar10(source: Path | str, *, split: str, download: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 `[N, 32, 32, 3]` and class numbers int64 `[N]` of one split.

    Raises:
        FileNotFoundError: if ``source`` holds neither parquet files of the split nor the official archive.
        ValueError: on an unknown split, missing columns, labels outside 0..9 or pictures that are missing, damaged or
            not 32 x 32.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}: expected train or test")
    source = Path(source)
    parquet = sorted(source.glob(f"{split}*.parquet"))
    if parquet:
        parts = [_read_parquet(path) for path in parquet]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return _read_archive(source, split=split, download=download)


def class_pairs(labels: np.ndarray, *, split: str) -> pandas.DataFrame:
    """Benign pairs: picture i with the name of its class ``labels[i]`` as caption."""
    import pandas

    names = [CLASSES[label] for label in labels]
    return pandas.DataFrame(
        {
            "uid": [f"cifar10-{split}-{index:05d}" for index in range(len(labels))],
            "caption": names,
            "concepts": [[name] for name in names],
            "image_index": np.arange(len(labels)),
            "is_poison": False,
            "poisoned_concept": "",
            "target_concept": "",
            "split": split,
            "style": "",
        }
    )


def _read_parquet(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from pyarrow import parquet

    columns = parquet.ParquetFile(path).schema_arrow.names
    picture_column = next((name for name in ("image", "img") if name in columns), None)
    if picture_column is None or "label" not in columns:
        raise ValueError(f"{path} has the columns {columns}: expected image (or img) and label")
    table = parquet.read_table(path, columns=[picture_column, "label"])
    labels = table["label"].to_numpy().astype(np.int64)
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"{path} has {len(labels)} labels, some outside 0..9: expected CIFAR-10's ten classes")
    images = np.empty((len(labels), SIDE, SIDE, 3), dtype=np.uint8)
    for row, picture in enumerate(table[picture_column].to_pylist()):
        images[row] = _decode(picture, f"{path}, row {row}")
    return images, labels


def _decode(picture: Any, where: str) -> np.ndarray:
    """The pixels of a cell: encoded bytes, alone or in a struct with a path."""
    encoded = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(encoded, bytes):
        found = "no picture" if encoded is None else f"a {type(encoded).__name__}"
        raise ValueError(f"{where} holds {found}: expected an encoded picture's bytes")
    try:
        pixels = decode_image(encoded, Limits()).pixels
    except UnusableError as problem:
        raise ValueError(f"{where} holds no usable picture ({problem}): expected [{SIDE}, {SIDE}, 3]") from problem
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"{where} holds a picture of shape {list(pixels.shape)}: expected [{SIDE}, {SIDE}, 3]")
    return pixels


def _read_archive(root: Path, *, split: str, download: bool) -> tuple[np.ndarray, np.ndarray]:
    from torchvision.datasets import CIFAR10

    try:
        dataset = CIFAR10(str(root), train=split == "train", download=download)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{root} holds neither {split}*.parquet nor an intact cifar-10-batches-py: expected one of them"
        ) from error
    return dataset.data, np.asarray(dataset.targets, dtype=np.int64)
