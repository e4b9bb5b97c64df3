"""What retrained models draw, in numbers: shares over concepts with intervals, and differences concept by concept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from explorer.core.intervals import t_interval

Groups = Mapping[str, np.ndarray | None]
"""Name of a group of concepts to bool `[concepts]`; None where it is not known which they are."""


def top_one(similarities: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Whether each picture is nearest to the concept that was asked for, bool `[n]`.

    Args:
        similarities: `[n, C]` of pictures to the prompts of all concepts.
        asked: int `[n]` in 0..C-1.
    """
    return similarities.argmax(axis=1) == asked


def shares(values: np.ndarray, groups: Groups) -> dict[str, dict[str, float | None] | None]:
    """Mean of each group's concepts with its 95 % t-interval over them.

    Args:
        values: `[concepts]` in [0, 1], a concept's mean over its pictures.

    Returns:
        Group to ``{mean, low, high}``; bounds are None for one concept and where all are alike, all is None for a group
        that is empty or not known.
    """
    return {
        name: None if chosen is None or not chosen.any() else t_interval(values[chosen]).as_json("mean")
        for name, chosen in groups.items()
    }


def differences(
    values: np.ndarray, others: np.ndarray, groups: Groups
) -> dict[str, dict[str, float | None] | None]:  # fmt: skip
    """:func:`shares` of ``values - others``, concept by concept: what all models find hard is in neither bound."""
    return shares(values - others, groups)
