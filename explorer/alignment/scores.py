"""Every pair's own share of AD as a parquet file: what a curator sorts, joins and filters by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.provenance import replacing

if TYPE_CHECKING:
    import pyarrow

    from explorer.alignment.difficulty import AlignmentDifficulty

REPORT_KEY = b"explorer"
"""Of the parquet schema's metadata: the JSON report that the scores belong to."""
SCORES = ("feature_distance", "structure_distance", "sample_ad")


def check_scores_path(path: Path) -> None:
    """Refuse a place that cannot take the scores, before hours are spent on them.

    Raises:
        ValueError: if the file exists, is no .parquet file, or its folder does not exist.
    """
    if path.suffix != ".parquet":
        raise ValueError(f"scores go to {path}: expected a file name that ends in .parquet")
    if path.exists():
        raise ValueError(f"{path} exists already: choose another file for the scores")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is no folder: expected an existing one for the scores")


def write_scores(
    path: Path,
    difficulty: AlignmentDifficulty,
    rows: Sequence[int] | np.ndarray,
    report: dict[str, Any],
    **columns: Any,
) -> None:
    """Write a line for every measured pair: ``row``, ``columns`` and the three scores of the pair.

    Args:
        rows: position of each measured pair in its set or store.
        report: all numbers of the measurement, JSON-serialisable; kept in the schema's metadata.
        columns: further columns in the same order, such as ``uid``. The scores are ``feature_distance``,
            ``structure_distance`` (D_s) and ``sample_ad``, AD(x, y), each with its ranks
            (:func:`descending_ranks`).
    """
    import pyarrow
    import pyarrow.parquet

    scores = {name: getattr(difficulty, name).numpy() for name in SCORES}
    table = with_ranks(pyarrow.table({"row": np.asarray(rows, np.int64), **columns, **scores}))
    table = table.replace_schema_metadata({REPORT_KEY: json.dumps(report)})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def with_ranks(table: pyarrow.Table) -> pyarrow.Table:
    """``table`` with the ranks of each score (:func:`descending_ranks`) beside it, which hold for its lines alone."""
    import pyarrow

    columns = {}
    for name in table.column_names:
        columns[name] = table[name]
        if name in SCORES:
            ranks = descending_ranks(table[name].to_numpy())
            columns |= {f"{name}_{end}": places for end, places in ranks.items()}
    return pyarrow.table(columns)


def descending_ranks(scores: np.ndarray) -> dict[str, np.ndarray]:
    """The places from ``rank`` to ``rank_last`` that each score shares with its equals, int64 `[N]`, 1 the highest.

    Where the two are the same, the score is nobody else's.
    """
    ascending = np.sort(scores)
    return {
        "rank": len(scores) - np.searchsorted(ascending, scores, side="right") + 1,
        "rank_last": len(scores) - np.searchsorted(ascending, scores, side="left"),
    }
