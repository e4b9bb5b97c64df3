"""``open_source``: from a path or glob to the source that can read what lies there."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explorer.pairs.sources.base import IMAGE_EXTENSIONS, Fields, PairSource, Record, is_address
from explorer.pairs.sources.cifar10 import CLASSES, SIDE, read_cifar10
from explorer.pairs.sources.image_folder import ImageFolderSource
from explorer.pairs.sources.parquet import ParquetSource
from explorer.pairs.sources.remote import RemoteFile, find_remote
from explorer.pairs.sources.shard_listing import all_files, companions, is_picture_name, is_shard, not_read
from explorer.pairs.sources.shard_names import expand_braces
from explorer.pairs.sources.splits import ALL, check_numbering, choose_split, left_out, named_in_braces, split_of_file
from explorer.pairs.sources.webdataset import WebdatasetSource

KINDS = ("auto", "webdataset", "parquet", "imagefolder", "cifar10")
CIFAR10_ARCHIVE = "cifar-10-batches-py"
_SUFFIXES = {"webdataset": ".tar", "parquet": ".parquet"}


class Cifar10ArchiveSource(PairSource):
    """The official archive, read through torchvision (see ``cifar10.py``); class names are captions."""

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
                caption_source="class names",
                split=self.split,
            )


def open_source(
    location: Path | str,
    *,
    kind: str = "auto",
    split: str | None = None,
    captions: str = "auto",
    fields: Fields | None = None,
) -> PairSource:
    """Open a user's pairs.

    Args:
        location: a tar shard, a parquet file, a folder, or a glob of shards or parquet files; braces as in
            ``{00000..00099}.tar`` name shards one by one. Shards and parquet files may lie at an address that fsspec
            opens, as ``s3://bucket/*.tar``.
        kind: one of ``KINDS``; ``auto`` decides by the names of the files.
        split: which split to read where there are several: ``train``, ``validation``, ``test``, another that is
            found, or ``all``; CIFAR-10, whose folder holds both, gives ``train`` unasked. Where no name says a split,
            it is what the pairs become.
        captions: of a folder of pictures, one of :data:`~explorer.pairs.sources.image_folder.CAPTIONS`.
        fields: columns or fields that have none of the usual names.

    Raises:
        FileNotFoundError: if nothing lies there, or naming what braces name and is missing.
        ValueError: naming what was found, if it is no known kind, several kinds, several splits of a data set, or not
            of the kind asked for.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}")
    found = _matches(location)
    files = [] if kind == "imagefolder" else all_files(found)
    if kind == "auto":
        kind = _detect(location, found, files)
    if kind == "cifar10":
        return _open_cifar10(location, found, files, split or "train")
    if kind == "imagefolder":
        if len(found) != 1 or not found[0].is_dir():
            raise ValueError(f"{location} is {_described(found)}: expected one folder of pictures")
        return ImageFolderSource(found[0], split=split, captions=captions, fields=fields)
    if captions != "auto":
        raise ValueError(f"captions is {captions!r} and kind {kind}: expected it for a folder of pictures")
    return _open_shards(location, found, files, kind, split, fields)


def _open_shards(
    location: Path | str,
    found: list[Path],
    files: list[tuple[Path, str]],
    kind: str,
    split: str | None,
    fields: Fields | None,
) -> PairSource:
    suffix = _SUFFIXES[kind]
    beside = companions(files)
    shards = {path: name for path, name in files if path not in beside and is_shard(path, name, suffix)}
    if not shards:
        raise ValueError(f"{location} is {_described(found)}: expected {suffix} files for kind {kind}")
    if len(found) > 1:  # a glob's matches: their folders may name splits
        shared = os.path.commonpath([path.parent for path in shards])
        shards = {path: path.relative_to(shared).as_posix() for path in shards}
    check_numbering(shards.values(), str(location))
    splits = {path: split_of_file(name) for path, name in shards.items()}
    counts = Counter(splits.values())
    asked = ALL if split is None and named_in_braces(str(location), counts) else split
    kept = choose_split(counts, asked, str(location))
    source = (WebdatasetSource if kind == "webdataset" else ParquetSource)(
        [path for path in shards if splits[path] in kept],
        fields=fields, split=split, splits=splits, aside=not_read(files, {*shards, *beside}),
    )  # fmt: skip
    source.left_out = {**source.left_out, **left_out(counts, kept)}
    return source


def _matches(location: Path | str) -> list[Path] | list[RemoteFile]:
    """What ``location`` names, absolute: braces in the order they are written, every glob in sorted order.

    A link keeps its own name: its target's need not say what it is, as in a hub's cache.
    """
    if str(location).startswith("pipe:"):
        raise ValueError(f"{location} is a command: expected a path, a glob or an address")
    location = str(location).removeprefix("file://")
    remote = is_address(location)
    if not remote and Path(location).exists():
        return [Path(location).absolute()]
    names = expand_braces(location)
    matches = {name: find_remote(name) if remote else sorted(glob.glob(name, recursive=True)) for name in names}
    missing = [name for name, found in matches.items() if not found]
    if len(missing) == len(matches):
        raise FileNotFoundError(f"{location} names nothing: expected a file, a folder or a glob that matches some")
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise FileNotFoundError(f"{location} names {len(matches)} files, of which {len(missing)} are missing: {named}")
    if remote:
        return list(dict.fromkeys(path for matched in matches.values() for path in matched))
    found = [Path(name).absolute() for matched in matches.values() for name in matched]
    kept: dict[Path, Path] = {}
    for path in found:
        kept.setdefault(path.resolve(), path)  # a file and a link to it are read once
    return list(kept.values())


def _detect(location: Path | str, found: list[Path], files: list[tuple[Path, str]]) -> str:
    if len(found) == 1 and (found[0] / CIFAR10_ARCHIVE).is_dir():
        return "cifar10"
    beside = companions(files)
    own = [(path, name) for path, name in files if path not in beside]
    counts = {suffix: sum(is_shard(path, name, suffix) for path, name in own) for suffix in _SUFFIXES.values()}
    pictures = sum(is_picture_name(path) for path, _ in own)
    if pictures and all(path.stem == "metadata" for path, name in own if is_shard(path, name, ".parquet")):
        counts[".parquet"] = 0  # a table of captions
    there = [f"{count} {suffix}" for suffix, count in {**counts, "picture": pictures}.items() if count]
    if len(there) > 1:
        raise ValueError(f"{location} holds {' and '.join(there)} files: expected one kind; name it, or give a glob")
    if any(counts.values()):
        return next(kind for kind, suffix in _SUFFIXES.items() if counts[suffix])
    if len(found) == 1 and found[0].is_dir():
        return "imagefolder"
    raise ValueError(
        f"{location} is {_described(found)}: expected .tar shards, .parquet files, or one folder of pictures "
        f"({', '.join(IMAGE_EXTENSIONS)})"
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


def _open_cifar10(location: Path | str, found: list[Path], files: list[tuple[Path, str]], split: str) -> PairSource:
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}: expected train or test")
    if len(found) == 1 and (found[0] / CIFAR10_ARCHIVE).is_dir():
        return Cifar10ArchiveSource(found[0], split=split)
    shards = [path for path, name in files if is_shard(path, name, ".parquet") and path.name.startswith(split)]
    if not shards:
        raise ValueError(
            f"{location} is {_described(found)}: expected {split}*.parquet or {CIFAR10_ARCHIVE} for kind cifar10"
        )
    return ParquetSource(
        shards, fields=Fields(caption="label"), split=split, label_names=CLASSES, kind="cifar10",
        splits=dict.fromkeys(shards, split),
    )  # fmt: skip
