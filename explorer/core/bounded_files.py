"""Files that anybody may have made, read within limits of kind, place, size, depth and count.

Below every other room: only the standard library. Whoever reads a configuration, a manifest or a header does so through
here, so that a pipe, a device, a file of any size or JSON of any shape costs a sentence and not the program.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

MAX_JSON_BYTES = 8 * 2**20
"""Of a JSON file. Configurations have kilobytes, tokenizers and headers of safetensors at most some megabytes."""
MAX_JSON_DEPTH = 64
MAX_JSON_CONTAINERS = 500_000
"""Objects and lists of one JSON file together."""
LEVELS = 3
"""Of folders that are gone through."""
LONGEST_SHOWN = 1000
"""Characters of a text that is shown whole."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[{\]}]")


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file, or a link to one, for reading bytes; nothing is ever waited for.

    Raises:
        OSError: if there is no such file, it may not be read, or it is a folder, pipe, socket or device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: opening a device may do things
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    # O_NONBLOCK: a pipe may have taken the file's place since.
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return stream


def load_json(path: Path | str, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Value of a JSON file of at most ``limit`` bytes; see :func:`parse_json`.

    Raises:
        OSError: as :func:`open_regular`.
        ValueError: if it is longer, or no JSON within the limits.
    """
    with open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """Value of JSON in UTF-8 (RFC 8259), of bounded depth and count, with every key of an object named once.

    Raises:
        ValueError: saying what else it is.
    """
    text = content.decode("utf-8")
    depth = opened = 0
    # Counted before it is parsed: Python's parser recurses, and a list of nothing costs fifty times its two bytes.
    for bracket in _BRACKET.finditer(_STRING.sub(b"", content)):
        if bracket[0] in b"[{":
            depth, opened = depth + 1, opened + 1
        else:
            depth -= 1
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} deep")
        if opened > MAX_JSON_CONTAINERS:
            raise ValueError(f"it holds more than {MAX_JSON_CONTAINERS:,} objects and lists")
    value = json.loads(text, object_pairs_hook=_named_once)
    if b"\\u" in content:
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair cannot be printed or sent
    return value


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"it names {printable(twice, 100)} twice")
    return found


def path_inside(folder: Path | str, name: str) -> Path:
    """Path of a file that a record names, relative to its folder, with forward slashes.

    Raises:
        ValueError: if that is not how it names it, or it lies outside. A link in the folder may lead elsewhere, as in
            the caches of the Hugging Face hub.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or name != "/".join(parts) or {"/", ".."} & set(parts):
        raise ValueError(f"{printable(name, 100)} is no name of a file inside {printable(str(folder))}")
    return Path(folder, *parts)


def files_below(folder: Path | str) -> Iterator[Path]:
    """Regular files in a folder and its folders, ``LEVELS`` of them; links to folders are not followed."""
    top = len(Path(folder).parts)
    for place, folders, names in os.walk(folder):
        if len(Path(place).parts) - top >= LEVELS:
            folders.clear()
        yield from (Path(place, name) for name in names if os.path.isfile(os.path.join(place, name)))


def printable(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Text for a terminal, a page or JSON: what is not printable as an escape (a byte that is not UTF-8 as ``\\xff``),
    and of a very long one the beginning and its length."""
    shown = "".join(map(_printable_character, text[:longest]))
    return shown if len(text) <= longest else f"{shown}… ({len(text):,} characters)"


def _printable_character(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # os.fsdecode's stand-in for a byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
