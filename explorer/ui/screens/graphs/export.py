"""Selected pairs as files that a training pipeline reads: parquet, and DataComp's array of uids."""

from __future__ import annotations

from explorer.pairs.uid_files import NPY, PARQUET, pairs_as_bytes
from explorer.ui.screens.graphs.payload import KINDS, drawn_set
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
    if form not in (PARQUET, NPY):
        raise ValueError(f"format is {form!r}: expected {PARQUET} or {NPY}")
    drawn = drawn_set(opened, name, stamp)
    chosen = decode_rows(rows, len(drawn.uids)).tolist()
    columns = {
        "uid": [drawn.uids[row] for row in chosen],
        "caption": [drawn.captions[row] for row in chosen],
        "concept": [drawn.concept("main_concept", row) for row in chosen],
        "kind": [KINDS[drawn.columns["kind"][row]] for row in chosen],
        **{score: drawn.columns[score][chosen] for score in drawn.header["scores"]},
    }
    return pairs_as_bytes(columns, form, {"set": drawn.header["set"], "facts": drawn.header["facts"]})
