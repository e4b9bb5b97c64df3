"""Scores that a user brings: columns of a parquet file, joined to the pairs by uid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

UID = "uid"


def joined_scores(path: Path, columns: Sequence[str], uids: pandas.Series) -> dict[str, np.ndarray]:
    """Each of ``columns`` in the order of ``uids``, float32 `[N]`, NaN where the file does not give it.

    Args:
        path: a .parquet file with a column ``uid``.
        columns: of numbers.
        uids: of the pairs, as texts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no parquet, lacks a column, one is not of numbers or holds what float32 does not, or a uid
            stands twice.
    """
    import pandas
    from pyarrow import ArrowInvalid, parquet

    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: expected a .parquet file with the columns uid, {', '.join(columns)}"
        )
    try:
        present = parquet.read_schema(path).names
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no parquet file: {error}") from error
    if missing := [name for name in (UID, *columns) if name not in present]:
        raise ValueError(f"{path} has the columns {', '.join(present)}: expected {missing[0]} among them")
    table = parquet.read_table(path, columns=[UID, *columns]).to_pandas()
    table[UID] = table[UID].astype(str)
    if len(twice := table[UID][table[UID].duplicated()]):
        raise ValueError(f"{path}: uid {twice.iloc[0]!r} stands more than once")
    found = {}
    for name in columns:
        if not (pandas.api.types.is_numeric_dtype(table[name]) or pandas.api.types.is_bool_dtype(table[name])):
            raise ValueError(f"column {name} of {path} is of {table[name].dtype}: expected numbers")
        values = table.set_index(UID)[name].reindex(uids).to_numpy(dtype=np.float64, na_value=np.nan)
        with np.errstate(over="ignore"):
            found[name] = values.astype(np.float32)
        if np.isinf(found[name]).any():
            raise ValueError(
                f"column {name} of {path} holds infinite values, or some beyond float32: expected finite ones"
            )
    return found
