"""Selected pairs as files that a training pipeline reads: parquet, and DataComp's array of uids."""

from __future__ import annotations

import io
import json

import numpy as np

from explorer.ui.screens.graphs.payload import KINDS, DrawnSet, drawn_set
from explorer.ui.screens.graphs.selection_code import decode_rows
from explorer.ui.shell.open_study import OpenStudy

GRAPHS_EXPORT_ROUTE = "/export/graphs"
UID_DIGITS = 32
"""Hexadecimal digits of a DataComp uid: two numbers of 64 bits."""
MEDIA_TYPE = "application/octet-stream"


def export_selection(opened: OpenStudy, name: str, stamp: str, rows: str, form: str) -> bytes:
    """The selected pairs as ``parquet`` (uid, caption, concept, kind, every score) or as ``npy``.

    The latter is a sorted array of dtype ``u8,u8``, as DataComp's filters give it: the halves of the uids.

    Args:
        name: of the set.
        stamp: the set's, as the payload gives it.
        rows: the selection as the page's addresses have it.

    Raises:
        ManifestError: if the set's files are missing or were changed.
        ValueError: if there is no such set, form or selection, or a uid is none of DataComp's.
    """
    writers = {"parquet": _parquet, "npy": _datacomp}
    if form not in writers:
        raise ValueError(f"format is {form!r}: expected {' or '.join(writers)}")
    drawn = drawn_set(opened, name, stamp)
    return writers[form](drawn, decode_rows(rows, len(drawn.uids)))


def _parquet(drawn: DrawnSet, rows: np.ndarray) -> bytes:
    import pyarrow
    from pyarrow import parquet

    chosen = rows.tolist()
    table = pyarrow.table(
        {
            "uid": [drawn.uids[row] for row in chosen],
            "caption": [drawn.captions[row] for row in chosen],
            "concept": [drawn.concept("main_concept", row) for row in chosen],
            "kind": [KINDS[drawn.columns["kind"][row]] for row in chosen],
            **{score: drawn.columns[score][rows] for score in drawn.header["scores"]},
        }
    )
    origin = {"set": drawn.header["set"], "facts": drawn.header["facts"]}
    stream = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({"origin": json.dumps(origin)}), stream)
    return stream.getvalue()


def _datacomp(drawn: DrawnSet, rows: np.ndarray) -> bytes:
    halves = []
    for uid in (drawn.uids[row] for row in rows.tolist()):
        if len(uid) != UID_DIGITS or any(digit not in "0123456789abcdef" for digit in uid):
            raise ValueError(f"uid {uid!r} is none of DataComp's: expected {UID_DIGITS} hexadecimal digits")
        halves.append((int(uid[:16], 16), int(uid[16:], 16)))
    stream = io.BytesIO()
    np.save(stream, np.sort(np.array(halves, dtype=np.dtype("u8,u8"))), allow_pickle=False)
    return stream.getvalue()
