"""Columns of numbers and texts in one binary file, which a browser reads without parsing.

The columns stand one after the other, little-endian, each at a multiple of eight bytes. Where they stand is said in a
header that is kept elsewhere, as JSON: ``{"name": {"dtype": "float32", "shape": [n, 2], "offset": 0}}``. A column of
texts is two: ``name`` of UTF-8 bytes, and ``name_ends`` with the byte after each text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.provenance import ManifestError, replacing

DTYPES = ("float32", "int32", "uint32", "uint8")
"""Those a browser has typed arrays for and that are used here."""
ALIGNMENT = 8
ENDS = "_ends"
LARGEST_TEXTS = 2**32 - 1
"""Bytes that the ends, which are uint32, can count."""


def text_columns(name: str, texts: Iterable[str]) -> dict[str, np.ndarray]:
    """The two columns of ``texts``.

    Raises:
        ValueError: if they take more than 4 GiB.
    """
    encoded = [text.encode("utf-8") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    if len(ends) and ends[-1] > LARGEST_TEXTS:
        raise ValueError(f"{name} of {len(ends)} pairs takes {ends[-1]} bytes: expected at most {LARGEST_TEXTS}")
    return {name: np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}{ENDS}": ends.astype(np.uint32)}


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Write ``path``, by atomic rename; return its header.

    Raises:
        ValueError: on a column of another type than ``DTYPES``.
    """
    header: dict[str, dict[str, Any]] = {}
    offset = 0
    with replacing(path) as temporary, temporary.open("wb") as stream:
        for name, values in columns.items():
            if (dtype := values.dtype.name) not in DTYPES:
                raise ValueError(f"column {name} is of {dtype}: expected one of {', '.join(DTYPES)}")
            data = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
            padding = -len(data) % ALIGNMENT
            stream.write(data + b"\0" * padding)
            header[name] = {"dtype": dtype, "shape": list(values.shape), "offset": offset}
            offset += len(data) + padding
    return header


class Columns:
    """The columns of a file, read by their header.

    Raises:
        ManifestError: if the header does not fit the file.
    """

    def __init__(self, path: Path, header: Mapping[str, Mapping[str, Any]]) -> None:
        self._data = path.read_bytes()
        self._header = header
        for name, column in header.items():
            end = column["offset"] + int(np.prod(column["shape"])) * np.dtype(column["dtype"]).itemsize
            if column["dtype"] not in DTYPES or column["offset"] < 0 or end > len(self._data):
                raise ManifestError(f"{path.name} has no whole column {name}: it ends after {len(self._data)} bytes")

    def __getitem__(self, name: str) -> np.ndarray:
        """A column of numbers, read-only.

        Raises:
            ManifestError: if there is none of that name.
        """
        if name not in self._header:
            raise ManifestError(f"there is no column {name}: expected one of {', '.join(self._header)}")
        column = self._header[name]
        dtype = np.dtype(column["dtype"]).newbyteorder("<")
        count = int(np.prod(column["shape"]))
        return np.frombuffer(self._data, dtype, count, column["offset"]).reshape(column["shape"])

    def texts(self, name: str) -> list[str]:
        """A column of texts."""
        data, ends = self[name].tobytes(), self[f"{name}{ENDS}"].tolist()
        return [data[first:last].decode("utf-8") for first, last in zip([0, *ends], ends, strict=False)]
