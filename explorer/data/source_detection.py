"""``open_source``: from a path or glob to the source that can read what lies there."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explorer.data.cifar10 import CLASSES, SIDE, read_cifar10
from explorer.data.image_folder_source import ImageFolderSource
from explorer.data.pair_source import IMAGE_EXTENSIONS, PairSource, Record
from explorer.data.parquet_source import ParquetSource
from explorer.data.shard_names import expand_braces
from explorer.data.webdataset_source import WebdatasetSource

KINDS = ("auto", "webdataset", "parquet", "imagefolder", "cifar10")
CIFAR10_ARCHIVE = "cifar-10-batches-py"
_SPLIT_NAME = re.compile(r"(?P<split>[\w.-]+?)-\d+-of-\d+(?:-[0-9a-f]+)?(?:\.\w+)?\.parquet")
"""Parquet files as dataset hubs name them: ``train-00000-of-00005.parquet``."""


class Cifar10ArchiveSource(PairSource):
    """The official archive, read through torchvision (see ``explorer/data/cifar10.py``); class names are captions."""

    kind = "cifar10"

    def __init__(self, root: Path, *, split: str = "train") -> None:
        """``root`` holds the folder ``cifar-10-batches-py``; ``split`` is ``train`` or ``test``."""
        self.root, self.split = root, split
        self.files = tuple(path for path in sorted((root / CIFAR10_ARCHIVE).iterdir()) if path.is_file())

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "split": self.split, "side": SIDE}

    def records(self, start: int = 0) -> Iterator[Record]:
        images, labels = read_cifar10(self.root, split=self.split)
        for row in range(start, len(labels)):
            yield Record(
                uid=f"cifar10-{self.split}-{row:05d}",
                place=f"{CIFAR10_ARCHIVE}:{self.split}:{row}",
                image=images[row],
                caption=CLASSES[labels[row]],
            )


def open_source(
    location: Path | str, *, kind: str = "auto", caption_column: str | None = None, split: str = "train"
) -> PairSource:
    """Open a user's pairs.

    Args:
        location: a tar shard, a parquet file, a folder, or a glob of shards or parquet files; braces as in
            ``{00000..00099}.tar`` name shards one by one.
        kind: one of ``KINDS``; ``auto`` decides by the names of the files.
        caption_column: column or field that holds the captions, where it is not one of the usual names.
        split: ``train`` or ``test``; for CIFAR-10 only, whose folder holds both.

    Raises:
        FileNotFoundError: if nothing lies there, or naming what braces name and is missing.
        ValueError: naming what was found, if it is no known kind, several kinds, several splits of a data set, or not
            of the kind asked for.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}")
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}: expected train or test")
    found = _matches(location)
    if kind == "auto":
        kind = _detect(location, found)
    if kind == "cifar10":
        return _open_cifar10(location, found, split)
    if kind == "imagefolder":
        if len(found) != 1 or not found[0].is_dir():
            raise ValueError(f"{location} is {_described(found)}: expected one folder of pictures")
        return ImageFolderSource(found[0], caption_column=caption_column)
    suffix = {"webdataset": ".tar", "parquet": ".parquet"}[kind]
    files = _with_suffix(found, suffix)
    if not files:
        raise ValueError(f"{location} is {_described(found)}: expected {suffix} files for kind {kind}")
    if kind == "parquet":
        _check_one_split(location, files)
    opened = WebdatasetSource if kind == "webdataset" else ParquetSource
    return opened(files, caption_column=caption_column)


def _matches(location: Path | str) -> list[Path]:
    """What ``location`` names, absolute: braces in the order they are written, every glob in sorted order.

    A link keeps its own name: its target's need not say what it is, as in a hub's cache.
    """
    if "://" in str(location) or str(location).startswith("pipe:"):
        raise ValueError(f"{location} is an address: expected a local path or glob; nothing is ever downloaded")
    path = Path(location)
    if path.exists():
        return [path.absolute()]
    names = expand_braces(str(location))
    matches = {name: sorted(glob.glob(name, recursive=True)) for name in names}
    missing = [name for name, found in matches.items() if not found]
    if len(missing) == len(matches):
        raise FileNotFoundError(f"{location} names nothing: expected a file, a folder or a glob that matches some")
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise FileNotFoundError(f"{location} names {len(matches)} files, of which {len(missing)} are missing: {named}")
    found = [Path(name).absolute() for matched in matches.values() for name in matched]
    kept: dict[Path, Path] = {}
    for path in found:
        kept.setdefault(path.resolve(), path)  # a file and a link to it are read once
    return list(kept.values())


def _detect(location: Path | str, found: list[Path]) -> str:
    if len(found) == 1 and (found[0] / CIFAR10_ARCHIVE).is_dir():
        return "cifar10"
    shards, tables = _with_suffix(found, ".tar"), _with_suffix(found, ".parquet")
    # img2dataset writes a table of the same name, without pictures, beside every shard or folder of pictures.
    stems = {path.with_suffix("") for path in shards}
    tables = [path for path in tables if path.with_suffix("") not in stems and not path.with_suffix("").is_dir()]
    if shards and tables:
        raise ValueError(
            f"{location} holds {len(shards)} .tar and {len(tables)} .parquet files: expected one kind; name it, or "
            "give a glob"
        )
    if shards or tables:
        return "webdataset" if shards else "parquet"
    if len(found) == 1 and found[0].is_dir():
        return "imagefolder"
    raise ValueError(
        f"{location} is {_described(found)}: expected .tar shards, .parquet files, or one folder of pictures "
        f"({', '.join(IMAGE_EXTENSIONS)})"
    )


def _with_suffix(found: list[Path], suffix: str) -> list[Path]:
    """Files with ``suffix`` among ``found`` and directly in the folders among them."""
    inside = [sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path] for path in found]
    return [path for paths in inside for path in paths if path.suffix == suffix and path.is_file()]


def _check_one_split(location: Path | str, files: list[Path]) -> None:
    """Refuse to join what a dataset hub keeps apart, unless braces name it."""
    found = {path: match["split"] for path in files if (match := _SPLIT_NAME.fullmatch(path.name))}
    named = list(found.values())
    splits = list(dict.fromkeys(named))
    if len(splits) > 1 and "{" not in str(location):
        counts = ", ".join(f"{split} ({named.count(split)})" for split in splits)
        last = list(found)[-1]
        raise ValueError(
            f"{location} holds files of the splits {counts}: expected one, such as "
            f"{last.parent}/{found[last]}-*.parquet; several are named in braces, {{{','.join(splits)}}}-*.parquet"
        )


def _described(found: list[Path]) -> str:
    """What was found, for an error: at most a few names."""
    if len(found) == 1 and found[0].is_dir():
        found = sorted(found[0].iterdir())
        kind = "a folder of"
    else:
        kind = "of"
    named = ", ".join(path.name for path in found[:3]) or "nothing"
    return f"{kind} {named}" + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _open_cifar10(location: Path | str, found: list[Path], split: str) -> PairSource:
    if len(found) == 1 and (found[0] / CIFAR10_ARCHIVE).is_dir():
        return Cifar10ArchiveSource(found[0], split=split)
    files = [path for path in _with_suffix(found, ".parquet") if path.name.startswith(split)]
    if not files:
        raise ValueError(
            f"{location} is {_described(found)}: expected {split}*.parquet or {CIFAR10_ARCHIVE} for kind cifar10"
        )
    return ParquetSource(files, caption_column="label", label_names=CLASSES, kind="cifar10")
