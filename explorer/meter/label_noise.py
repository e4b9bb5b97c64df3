"""What mislabelled captions alone would do: the share of a concept's training captions whose picture shows it."""

from __future__ import annotations

import numpy as np

from explorer.pairs.concept_list import ConceptList
from explorer.pairs.pair_set import PairSet


def true_shares(pairs: PairSet, concepts: ConceptList) -> np.ndarray:
    """Of the training captions that name a concept first, the share whose pair is no poison: fp64 ``[n]``.

    A model that learned such a mixture answers to the concept about so strongly, were that all: the mean of its targets
    moves by this share of what it would move by. NaN for a concept that no caption names first.

    Raises:
        ValueError: if it is not recorded of every training pair whether it is poison.
    """
    rows = pairs.training_rows
    flags = pairs.flags[rows]
    if not flags.recorded:
        unknown = int(flags.unrecorded.sum())
        raise ValueError(f"{pairs.folder} does not say of {unknown} training pairs whether they are poison: expected 0")
    named = [listed[0] if len(listed) else None for listed in pairs.table["concepts"].iloc[rows]]
    first = np.array(named, dtype=object)
    shares = [flags.benign[first == name] for name in concepts.names]
    return np.array([each.mean() if len(each) else np.nan for each in shares])
