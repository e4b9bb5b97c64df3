"""Selected pairs as files that a training pipeline reads: parquet, and DataComp's array of uids."""

from __future__ import annotations

import numpy as np

from explorer.pairs.uid_files import datacomp_bytes, parquet_bytes
from explorer.ui.screens.graphs.payload import KINDS, DrawnSet, drawn_set
from explorer.ui.screens.graphs.selection_code import decode_rows
from explorer.ui.shell.open_study import OpenStudy


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
    chosen = rows.tolist()
    columns = {
        "uid": [drawn.uids[row] for row in chosen],
        "caption": [drawn.captions[row] for row in chosen],
        "concept": [drawn.concept("main_concept", row) for row in chosen],
        "kind": [KINDS[drawn.columns["kind"][row]] for row in chosen],
        **{score: drawn.columns[score][rows] for score in drawn.header["scores"]},
    }
    return parquet_bytes(columns, {"origin": {"set": drawn.header["set"], "facts": drawn.header["facts"]}})


def _datacomp(drawn: DrawnSet, rows: np.ndarray) -> bytes:
    return datacomp_bytes(drawn.uids[row] for row in rows.tolist())
