"""Which pairs a retrained model is not trained on: a filter's, a random draw of as many, or all known poison.

The draw is what a filter has to beat: it leaves as many pairs, and about the share of poison that there was. Known
poison is what no filter can beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.defence.recipe import Filter, recipe_json

if TYPE_CHECKING:
    from explorer.defence.filter_files import ScoredPairs


@dataclass(frozen=True, kw_only=True)
class RandomDraw:
    """Leaves out pairs that are drawn at random; of one seed, fewer pairs are some of more."""

    count: int
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class KnownPoison:
    """Leaves out every pair that is recorded to be poison; reads the truth, so it is no defence but a yardstick."""


LeftOut = Filter | RandomDraw | KnownPoison


def left_out_json(rule: LeftOut) -> dict[str, Any]:
    """A filter's recipe, ``{"random": count, "seed": seed}`` or ``{"known_poison": true}``."""
    if isinstance(rule, RandomDraw):
        return {"random": rule.count, "seed": rule.seed}
    return {"known_poison": True} if isinstance(rule, KnownPoison) else recipe_json(rule)


def left_out_of(pairs: ScoredPairs, rule: LeftOut) -> np.ndarray:
    """Which of N pairs are left out, bool `[N]`.

    Raises:
        ValueError: on what a filter names and the pairs do not have, a draw of more pairs than there are, or if of no
            pair it is recorded that it is poison.
    """
    n = len(pairs)
    if isinstance(rule, RandomDraw):
        if not 0 <= rule.count < n:
            raise ValueError(f"{rule.count} pairs to draw at random: expected from 0 to {n - 1}, of {n} pairs")
        removed = np.zeros(n, bool)
        removed[np.random.default_rng(rule.seed).permutation(n)[: rule.count]] = True
        return removed
    if isinstance(rule, KnownPoison):
        if not pairs.flags.poisoned.any():
            raise ValueError(f"none of {n} pairs is recorded to be poison: expected some that can be left out")
        return pairs.flags.poisoned
    return pairs.removal(rule).removed
