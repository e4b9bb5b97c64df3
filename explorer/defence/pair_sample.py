"""Which pairs of a set are measured or trained on where not all are: drawn without a look at which of them are poison.

A sample made for showing holds poison more often than the set does (``explorer/alignment/graph_sample.py``): a score
that is known of such a sample alone would remove, and be graded on, what the flags chose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas


def first_concepts(table: pandas.DataFrame) -> list[str]:
    """What each caption is about, by the caption alone: the concept it mentions first; "" for none."""
    return [mentioned[0] if len(mentioned) else "" for mentioned in table["concepts"]]


def even_sample(table: pandas.DataFrame, size: int, seed: int) -> np.ndarray:
    """Sorted rows of ``size`` pairs, each as likely, concepts in proportion; all rows where there are no more.

    Of ``table`` the column ``concepts`` alone is read. The pairs are shuffled, ordered by the concept that their
    caption mentions first and taken at even steps from a random start (systematic sampling).

    Raises:
        ValueError: if ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"sample size is {size}: expected at least 1")
    if size >= len(table):
        return np.arange(len(table))
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(table))
    ordered = shuffled[np.argsort(np.array(first_concepts(table))[shuffled], kind="stable")]
    places = ((np.arange(size) + generator.random()) * len(table) / size).astype(np.int64)
    return np.sort(ordered[places])
