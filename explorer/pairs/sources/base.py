"""What every source of a user's pairs gives: a stream of records in a fixed order, and a fingerprint for resuming.

A record that cannot be read is a record all the same, with its problem instead of its content, so that the n-th
record of a source is always the n-th, whatever is broken before it.
"""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from explorer.core.provenance import hash_json
from explorer.pairs.quarantine import Reason, UnusableError

IMAGE_EXTENSIONS = (
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif",
    "jfif", "jpe", "jif", "jfi", "pjpeg", "pjp", "apng", "dib", "avifs",
)  # fmt: skip
"""Under these names lie pictures that can be decoded."""
OTHER_IMAGE_EXTENSIONS = (
    "heic", "heif", "hif", "jxl", "jp2", "j2k", "jpx", "svg", "psd", "ico", "tga", "ppm", "pgm", "pbm", "pnm", "exr",
    "hdr", "dng", "cr2", "cr3", "nef", "arw", "raw", "eps",
)  # fmt: skip
"""Pictures, too, that end in the quarantine by name."""
CAPTION_EXTENSIONS = ("txt", "caption", "text")
"""Text files beside a picture that hold its caption: img2dataset's, kohya's, OneTrainer's."""
CAPTION_FIELDS = ("caption", "text", "prompt")
"""Usual names of a field that holds a caption, in any case."""
LABEL_FIELDS = ("label", "labels", "fine_label", "class", "class_name")
"""Fields that are taken where there is no caption: a class's name, never its number alone."""
UID_FIELD = "uid"
"""Where sources name their pairs, as DataComp does."""
MAX_IMAGE_BYTES = 64 * 2**20
"""Longer encoded images are set aside unread."""
MAX_TEXT_BYTES = 2**20
"""Longer captions and metadata are set aside unread."""


def is_address(location: Any) -> bool:
    """Whether pairs lie where fsspec reaches (``s3://...``), and not at a path of this machine."""
    return isinstance(location, str) and "://" in location and not location.startswith("file://")


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
    caption_source: str = ""
    """Where the caption was found, for counting, as in ``metadata.csv: text``."""
    split: str = ""
    """The split that the source puts the pair in; empty where it names none."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What else the source says about the pair; JSON-serialisable."""
    problem: UnusableError | None = None
    """Why the record could not be read."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Columns or fields that a user named instead of the usual ones."""

    image: str | None = None
    """Column of the pictures, or of their paths in a table; in tar shards the extension."""
    caption: str | None = None
    """Column or field of the captions, where it has none of the usual names or several have; in tar shards also
    ``txt``."""
    uid: str | None = None
    """Column or field that names the pairs; without it ``uid``."""

    def as_dict(self) -> dict[str, str | None]:
        """JSON-serialisable."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a source is read, as :func:`~explorer.pairs.sources.detection.open_source` takes it."""

    kind: str = "auto"
    """``auto``, ``webdataset``, ``parquet``, ``imagefolder`` or ``cifar10``."""
    split: str | None = None
    """Which split to read where there are several (``train``, ``validation``, ``test``, ...), or ``all``; several are
    never joined unasked. Where the source names none, what its pairs become."""
    captions: str = "auto"
    """Of a folder of pictures: captions from ``table``, ``sidecar``, ``folder`` (its name), or ``auto``."""
    fields: Fields = Fields()
    """Columns or fields that have none of the usual names."""


class PairSource(ABC):
    """A stream of records from local files."""

    kind: str
    """``webdataset``, ``parquet``, ``imagefolder`` or ``cifar10``."""
    files: tuple[Path, ...]
    """What is read, in the order of reading."""
    aside: tuple[Record, ...] = ()
    """What lies beside the files and is not read: records that stand behind all others."""
    left_out: Mapping[str, int] = MappingProxyType({})
    """Files or pairs of the splits that were not asked for."""

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


def aside_settings(aside: Sequence[Record]) -> dict[str, str]:
    """Identifies what lies beside the files, which decides records, too; JSON-serialisable, empty for nothing."""
    return {"set_aside": hash_json([record.uid for record in aside])} if aside else {}


def given_uid(metadata: dict[str, Any], otherwise: str, field: str | None = None) -> str:
    """The uid that the source itself gives a pair; ``otherwise`` where there is none.

    Unless the user named ``field`` for it, one that is no text was not made to name the pair.

    Raises:
        UnusableError: if ``field`` is named and holds neither text nor a whole number.
    """
    given = metadata.get(field or UID_FIELD)
    if field is not None and isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if isinstance(given, str) and given:
        return printable(given)
    if field is not None:
        raise UnusableError(Reason.NO_UID, f"field {field!r} holds {_shown(given)}: expected text or a whole number")
    return otherwise


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
        UnusableError: if ``data`` is no JSON object, or names a field twice.
    """
    text = decode_text(data, name) if isinstance(data, bytes) else data
    try:
        found = json.loads(text, object_pairs_hook=_without_repetition)
        json.dumps(found)  # it is written again later, where no nesting may be too deep
    except (ValueError, RecursionError) as error:
        raise UnusableError(Reason.UNREADABLE_METADATA, f"{name}: {error}") from error
    if not isinstance(found, dict):
        raise UnusableError(Reason.UNREADABLE_METADATA, f"{name} holds a {type(found).__name__}: expected an object")
    return found


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"field {printable(repeated)!r} appears more than once")
    return found


class FoundCaptions:
    """The captions that were found for one picture, by where they were found."""

    def __init__(self, named: str | None = None) -> None:
        """``named`` is the field, or the extension of a text file, that alone holds captions."""
        self._named = named
        self._captions: dict[str, Any] = {}
        self._labels: dict[str, Any] = {}
        self._problem = "found nothing"

    def otherwise(self, problem: str) -> None:
        """What to say where there is no caption."""
        self._problem = problem

    def add(self, source: str, caption: str) -> None:
        """A caption that is a text of its own, such as a file beside the picture."""
        if self._named in (None, source.rpartition(".")[2]):
            self._captions[source] = caption

    def add_fields(self, source: str, fields: Mapping[str, Any]) -> None:
        """Those of ``fields`` that may be captions: the named one, or all of the usual names in any case."""
        if self._named is not None:
            usual, labels = [name for name in fields if name == self._named], []
        else:
            usual = [name for name in fields if name.strip().casefold() in CAPTION_FIELDS]
            labels = [name for name in fields if name.strip().casefold() in LABEL_FIELDS]
        filled = {f"{source}: {name}": fields[name] for name in usual if fields[name] is not None}
        self._captions |= filled
        if not usual:  # where there is a field for captions, none stands in for it
            self._labels |= {f"{source}: {name}": fields[name] for name in labels if fields[name] is not None}
        if not filled:
            names = usual or list(fields)
            state = "null" if usual else "a caption's" if self._named is None else repr(self._named)
            said = f"field {_listed(names)} is null" if usual else f"fields are {_listed(names)}: expected {state}"
            self._problem = f"{source}: {said}"

    def chosen(self) -> tuple[str, str]:
        """The caption and where it was found, if all that was found says the same; a class's name where there is none.

        Raises:
            UnusableError: if captions differ, since which of them is meant nobody can say; if there is none, it is no
                text, a class's number, or nothing but several numbers.
        """
        found = self._captions or dict(list(self._labels.items())[:1])
        if not found:
            raise UnusableError(Reason.NO_CAPTION, self._problem)
        for source, caption in found.items():
            if not isinstance(caption, str):
                raise UnusableError(Reason.NO_CAPTION, f"{source} holds a {type(caption).__name__}: expected text")
        kept = {source: caption for source, caption in found.items() if caption.strip()} or found
        if len({caption.strip() for caption in kept.values()}) > 1:
            said = ", ".join(f"{source} says {_shown(caption)}" for source, caption in kept.items())
            raise UnusableError(Reason.DIFFERING_CAPTIONS, f"{said}: expected one; name the field or extension meant")
        source, caption = next(iter(kept.items()))
        if _NUMBERS.fullmatch(caption) and (source in self._labels or len(caption.split()) > 1):
            raise UnusableError(Reason.NO_CAPTION, f"{source} holds {_shown(caption)}: expected words, not numbers")
        return caption, source


_NUMBERS = re.compile(r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?(?:[\s,;]+[-+]?[\d.]+(?:[eE][-+]?\d+)?)*\s*")


def _shown(value: Any) -> str:
    text = printable(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Iterable[str]) -> str:
    names = [_shown(name) for name in names]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "none"


def first_of(candidates: Iterable[str], available: Iterable[str]) -> str | None:
    """The first candidate that is available."""
    present = set(available)
    return next((name for name in candidates if name in present), None)


def picture_format(data: bytes) -> str | None:
    """The format of a picture by its first bytes, Pillow's name where it has one; None for anything else."""
    for start, name in _SIGNATURES:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"hevc": "HEIC",
                b"msf1": "HEIC"}.get(data[8:12])  # fmt: skip
    # Two letters are too few to tell a picture by: a BMP's next bytes say where its pixels begin.
    return "BMP" if data[:2] == b"BM" and data[6:10] == bytes(4) and len(data) > 14 else None


_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"8BPS", "PSD"), (b"\0\0\1\0", "ICO"),
)  # fmt: skip
