"""What every source of a user's pairs gives: a stream of records in a fixed order, and a fingerprint for resuming.

A record that cannot be read is a record all the same, with its problem instead of its content, so that the n-th
record of a source is always the n-th, whatever is broken before it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explorer.data.quarantine import Reason, UnusableError
from explorer.provenance import hash_json

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
UID_FIELD = "uid"
"""Where sources name their pairs, as DataComp does."""
MAX_IMAGE_BYTES = 64 * 2**20
"""Longer encoded images are set aside unread."""
MAX_TEXT_BYTES = 2**20
"""Longer captions and metadata are set aside unread."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One pair as it lies in the source: not decoded yet."""

    uid: str
    """Names the pair; unique in a healthy source."""
    place: str
    """Where it lies, as in ``00003.tar:000030017``."""
    image: bytes | np.ndarray | None = None
    """The encoded picture, or RGB uint8 ``[H, W, 3]`` where the source holds pixels; None beside a problem."""
    caption: str = ""
    """The caption as it is written in the source."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What else the source says about the pair; JSON-serialisable."""
    problem: UnusableError | None = None
    """Why the record could not be read."""


class PairSource(ABC):
    """A stream of records from local files."""

    kind: str
    """``webdataset``, ``parquet``, ``imagefolder`` or ``cifar10``."""
    files: tuple[Path, ...]
    """What is read, in the order of reading."""

    @abstractmethod
    def records(self, start: int = 0) -> Iterator[Record]:
        """All records from number ``start`` on, always in the same order; pictures before it are not read."""

    def settings(self) -> dict[str, Any]:
        """What besides the files decides the records; JSON-serialisable."""
        return {"kind": self.kind}

    def fingerprint(self) -> str:
        """SHA-256 over :meth:`settings` and the name, size and modification time of every file."""
        facts = []
        for path, name in named_files(self.files):
            found = path.stat()
            facts.append([name, found.st_size, found.st_mtime_ns])
        return hash_json({**self.settings(), "files": facts})


def named_files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each file with its printable path from the deepest folder that holds all of them."""
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    for path in paths:
        yield path, printable(path.relative_to(shared).as_posix())


def unreadable_shard(name: str, detail: str) -> Record:
    """What stands in a source for a whole file that cannot be read, or for the rest of it."""
    return Record(uid=name, place=name, problem=UnusableError(Reason.UNREADABLE_SHARD, detail))


def given_uid(metadata: dict[str, Any], otherwise: str) -> str:
    """The uid that the source itself gives a pair; ``otherwise`` where there is none.

    One that is no text was not made to name the pair.
    """
    given = metadata.get(UID_FIELD)
    return printable(given) if isinstance(given, str) and given else otherwise


def printable(text: str) -> str:
    """``text`` with lone surrogates (names that are no UTF-8) escaped: files and tables can hold the result."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def decode_text(data: bytes, name: str) -> str:
    """UTF-8 text, without a byte order mark.

    Raises:
        UnusableError: if ``data`` is something else.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableError(Reason.NOT_UTF8, f"{name}: {error.reason} at byte {error.start}") from error


def parse_metadata(data: bytes | str, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UnusableError: if ``data`` is no JSON object.
    """
    import json

    text = decode_text(data, name) if isinstance(data, bytes) else data
    try:
        found = json.loads(text)
        json.dumps(found)  # it is written again later, where no nesting may be too deep
    except (ValueError, RecursionError) as error:
        raise UnusableError(Reason.UNREADABLE_METADATA, f"{name}: {error}") from error
    if not isinstance(found, dict):
        raise UnusableError(Reason.UNREADABLE_METADATA, f"{name} holds a {type(found).__name__}: expected an object")
    return found


def caption_of(fields: dict[str, Any], name: str) -> str:
    """The caption in field ``name`` of a JSON object or a table's row.

    Raises:
        UnusableError: if there is none, or it is no text.
    """
    caption = fields.get(name)
    if caption is None:
        raise UnusableError(Reason.NO_CAPTION, f"field {name!r} is missing or empty")
    if not isinstance(caption, str):
        raise UnusableError(Reason.NO_CAPTION, f"field {name!r} holds a {type(caption).__name__}: expected text")
    return caption


def first_of(candidates: Iterable[str], available: Iterable[str]) -> str | None:
    """The first candidate that is available."""
    present = set(available)
    return next((name for name in candidates if name in present), None)
