"""Lists of pairs as files: parquet, CSV, JSON, and DataComp's array of uids; written for others, and read again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.bounded_files import parse_json

PARQUET, CSV, JSON, NPY = "parquet", "csv", "json", "npy"
FORMS = (PARQUET, CSV, JSON, NPY)
READ_FORMS = (PARQUET, JSON, NPY)
UID, UIDS = "uid", "uids"
UID_DIGITS = 32
"""Hexadecimal digits of a DataComp uid: two numbers of 64 bits."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets take a text that begins so for a formula."""


def pairs_as_bytes(columns: Mapping[str, Sequence[Any]], form: str, origin: Mapping[str, Any]) -> bytes:
    """A list of pairs in one of ``FORMS``.

    Args:
        columns: name to a value a pair, ``uid`` among them. An ``npy`` has the uids alone.
        origin: JSON-serialisable, where the list came from; in parquet's schema and in JSON, whose ``uids`` are all
            that a pair is named by.

    Raises:
        ValueError: on an unknown form, or a uid that DataComp's array cannot hold.
    """
    if form not in FORMS:
        raise ValueError(f"format is {form!r}: expected one of {', '.join(FORMS)}")
    uids = list(columns[UID])
    if form == NPY:
        return _datacomp_bytes(uids)
    if form == JSON:
        return (json.dumps({**origin, UIDS: uids}, indent=1) + "\n").encode()
    if form == CSV:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in line] for line in zip(*columns.values(), strict=True))
        return ("\ufeff" + stream.getvalue()).encode()
    return _parquet_bytes(columns, origin)


def _parquet_bytes(columns: Mapping[str, Any], origin: Mapping[str, Any]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    table, stream = pyarrow.table(dict(columns)), io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({"origin": json.dumps(origin)}), stream)
    return stream.getvalue()


def _datacomp_bytes(uids: Iterable[str]) -> bytes:
    """A sorted ``.npy`` array of dtype ``u8,u8``, as DataComp's filters give it: the halves of the uids.

    Raises:
        ValueError: naming a uid that is none of DataComp's.
    """
    halves = []
    for uid in uids:
        if len(uid) != UID_DIGITS or any(digit not in "0123456789abcdef" for digit in uid):
            raise ValueError(f"uid {uid!r} is none of DataComp's: expected {UID_DIGITS} hexadecimal digits")
        halves.append((int(uid[:16], 16), int(uid[16:], 16)))
    stream = io.BytesIO()
    np.save(stream, np.sort(np.array(halves, dtype=np.dtype("u8,u8"))), allow_pickle=False)
    return stream.getvalue()


def read_uids(path: Path) -> list[str]:
    """The uids that a file lists: parquet with a column ``uid``, JSON with ``uids``, or DataComp's ``.npy``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected a list of uids as .{', .'.join(READ_FORMS)}")
    if (form := path.suffix.removeprefix(".")) not in READ_FORMS:
        raise ValueError(f"{path} is no .{', .'.join(READ_FORMS)}: expected one of these")
    try:
        uids = {PARQUET: _parquet_uids, JSON: _json_uids, NPY: _datacomp_uids}[form](path)
    except (ValueError, KeyError, TypeError) as error:  # Arrow's own are ValueErrors
        raise ValueError(f"{path} cannot be read as a list of uids: {error}") from error
    if wrong := [uid for uid in uids if not isinstance(uid, str)]:
        raise ValueError(f"{path} lists {wrong[0]!r}: expected uids, which are texts")
    return uids


def _parquet_uids(path: Path) -> list[Any]:
    from pyarrow import parquet

    return parquet.read_table(path, columns=[UID])[UID].to_pylist()


def _json_uids(path: Path) -> list[Any]:
    value = parse_json(path.read_bytes())
    if not (isinstance(value, dict) and isinstance(value.get(UIDS), list)):
        raise ValueError(f"it has no list {UIDS}")
    return value[UIDS]


def _datacomp_uids(path: Path) -> list[str]:
    halves = np.load(path, allow_pickle=False)
    if halves.dtype != np.dtype("u8,u8") or halves.ndim != 1:
        raise ValueError(f"it holds {halves.dtype} of shape {list(halves.shape)}: expected u8,u8 of shape [n]")
    return [f"{first:016x}{second:016x}" for first, second in halves.tolist()]


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
