"""Scores of a set of any size as a parquet file, written as they come and never held together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.scores import REPORT_KEY, SCORES, with_ranks
from explorer.core.provenance import replacing

if TYPE_CHECKING:
    import pyarrow

LINES_AT_ONCE = 2**17
"""Lines of a row group."""
RANKED_PAIRS = 2**20
"""Up to how many pairs a file has ranks: they need all scores at once."""


class ScoreParts:
    """One process's part of the scores: a hidden file beside the one that it becomes part of."""

    def __init__(self, path: Path, index: int) -> None:
        """``index`` is the number of the process."""
        from pyarrow import parquet

        self._lines: list[pyarrow.Table] = []
        self._count = 0
        self._writer = parquet.ParquetWriter(part_of(path, index), _schema())

    def add(self, rows: slice, uids: pyarrow.Array, scores: dict[str, np.ndarray]) -> None:
        """Take the lines of ``rows``, which follow those before."""
        import pyarrow

        row = np.arange(rows.start, rows.stop, dtype=np.int64)
        self._lines.append(pyarrow.table({"row": row, "uid": uids, **scores}, schema=_schema()))
        self._count += len(row)
        if self._count >= LINES_AT_ONCE:
            self._write()

    def close(self) -> None:
        """Write what is left, so that the first process can read it."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        import pyarrow

        if self._lines:
            self._writer.write_table(pyarrow.concat_tables(self._lines).combine_chunks())
        self._lines, self._count = [], 0


@contextmanager
def score_parts(path: Path, index: int) -> Iterator[ScoreParts]:
    """A process's part; it is gone when the block ends, by when the first process must have joined it."""
    place = part_of(path, index)
    try:
        yield ScoreParts(path, index)
    finally:
        place.unlink(missing_ok=True)


def join_parts(path: Path, count: int, report: dict[str, Any]) -> bool:
    """Make one file of the parts of ``count`` processes, in order, with ``report`` in its schema.

    Returns:
        Whether the scores have ranks, as up to ``RANKED_PAIRS`` pairs do.

    Raises:
        ValueError: naming a process's part that cannot be found.
    """
    import pyarrow
    from pyarrow import parquet

    places = [part_of(path, index) for index in range(count)]
    if missing := [place for place in places if not place.is_file()]:
        raise ValueError(f"{missing[0]} is missing: expected a folder for the scores that all processes share")
    metadata = {REPORT_KEY: json.dumps(report)}
    ranked = sum(parquet.read_metadata(place).num_rows for place in places) <= RANKED_PAIRS
    with replacing(path) as temporary:
        if ranked:
            whole = pyarrow.concat_tables([parquet.read_table(place) for place in places])
            parquet.write_table(with_ranks(whole).replace_schema_metadata(metadata), temporary)
        else:
            with parquet.ParquetWriter(temporary, _schema().with_metadata(metadata)) as writer:
                for place in places:
                    with parquet.ParquetFile(place) as part:
                        for group in range(part.num_row_groups):
                            writer.write_table(part.read_row_group(group))
    return ranked


def part_of(path: Path, index: int) -> Path:
    """Where a process keeps its part."""
    return path.with_name(f".{path.name}.{index}.part")


def _schema() -> pyarrow.Schema:
    import pyarrow

    scores = [(name, pyarrow.float64()) for name in SCORES]
    return pyarrow.schema([("row", pyarrow.int64()), ("uid", pyarrow.string()), *scores])
