"""How good a filter or a score is, where it is known which pairs are poison: counts, rates, curves and intervals.

Pairs of which nobody recorded it are counted nowhere here. Intervals of one filter's rates are Wilson's, which are
honest where a filter removes none or all of a kind; of a curve's numbers they are bootstrap percentiles, the same draws
of pairs for every score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.core.intervals import CONFIDENCE, wilson_interval
from explorer.defence.recipe import LOWEST

PAIR_DRAWS = 1000
SEED = 0
HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """The four counts of a filter."""

    poison_removed: int
    benign_removed: int
    poison_kept: int
    benign_kept: int
    unrecorded_removed: int = 0
    """Removed pairs of which nobody recorded whether they are poison."""

    @staticmethod
    def of(removed: np.ndarray, poisoned: np.ndarray, benign: np.ndarray) -> Confusion:
        """From bool `[N]` each."""
        return Confusion(
            poison_removed=int((removed & poisoned).sum()), benign_removed=int((removed & benign).sum()),
            poison_kept=int((~removed & poisoned).sum()), benign_kept=int((~removed & benign).sum()),
            unrecorded_removed=int((removed & ~poisoned & ~benign).sum()),
        )  # fmt: skip

    def cells(self) -> np.ndarray:
        """int `[4]`, without the unrecorded."""
        return np.array([self.poison_removed, self.benign_removed, self.poison_kept, self.benign_kept])


def grade_filter(confusion: Confusion) -> dict[str, Any]:
    """``poison_removed``, ``benign_lost``, ``precision``, ``recall`` and ``f1``, each ``{value, low, high}``; None for
    a rate of nothing. Bounds are 95 % (:func:`~explorer.core.intervals.wilson_interval`).

    F1 is 2 J / (1 + J) of a share J, which it rises with: of the pairs that are poison or removed, those that are both.
    """
    caught, lost, missed, kept = confusion.cells().tolist()
    recall, both = _share(caught, caught + missed), _share(caught, caught + missed + lost)
    return {
        "poison_removed": recall, "benign_lost": _share(lost, lost + kept), "precision": _share(caught, caught + lost),
        "recall": recall, "f1": both and {name: 2 * bound / (1 + bound) for name, bound in both.items()},
    }  # fmt: skip


def _share(count: int, of: int) -> dict[str, float | None] | None:
    if not of:
        return None
    return wilson_interval(count, of).as_json()


def interval(value: float, draws: np.ndarray) -> dict[str, float | None] | None:
    """A value with the bootstrap percentiles of its draws; draws in which it is undefined count nowhere.

    Bounds are None where all draws agree: of poison and benign pairs that do not overlap, a bootstrap cannot say how
    far they might.
    """
    if np.isnan(value):
        return None
    if not np.nanmax(draws) > np.nanmin(draws):
        return {"value": value, "low": None, "high": None}
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return {"value": value, "low": float(low), "high": float(high)}


@dataclass(frozen=True, kw_only=True, eq=False)
class SuspicionSteps:
    """Known pairs, the most suspicious first, and where each group of equal scores ends."""

    poison: np.ndarray
    """bool `[n]` in that order."""
    pairs: np.ndarray
    """int `[n]`: the pair at each place, as it was given."""
    ends: np.ndarray
    """int `[groups]`: one past the last place of every group."""

    @staticmethod
    def of(values: np.ndarray, remove: str, poisoned: np.ndarray, benign: np.ndarray) -> SuspicionSteps:
        """Of a score `[N]` (NaN where unknown) and bool `[N]` each; pairs without score or truth are left out."""
        pairs = np.flatnonzero((poisoned | benign) & ~np.isnan(values))
        signed = values[pairs] if remove == LOWEST else -values[pairs]
        order = np.argsort(signed, kind="stable")
        signed, pairs = signed[order], pairs[order]
        ends = np.append(np.flatnonzero(signed[1:] != signed[:-1]) + 1, len(signed))
        return SuspicionSteps(poison=poisoned[pairs], pairs=pairs, ends=ends if len(pairs) else np.zeros(0, np.int64))

    @property
    def comparable(self) -> bool:
        """Whether both kinds are among them."""
        return bool(self.poison.any() and not self.poison.all())

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Poison and benign pairs up to the end of every group, from 0 on: int `[groups + 1]` each."""
        return self.counts_of(self.pairs, self.cells(int(self.pairs.max(initial=-1)) + 1))

    def cells(self, n: int) -> np.ndarray:
        """int `[n]`: of each of n pairs which count it adds to: its group's poison, its group's benign pairs further
        on, or 0 of a pair without score or truth."""
        found = np.zeros(n, np.int64)
        groups = len(self.ends)
        group = np.repeat(np.arange(groups), np.diff(self.ends, prepend=0))
        found[self.pairs] = 1 + np.where(self.poison, group, group + groups)
        return found

    def counts_of(self, drawn: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`counts` of pairs that were drawn, each as often as it was.

        Args:
            drawn: int, of any length: numbers of pairs.
            cells: of :meth:`cells`.
        """
        groups = len(self.ends)
        counted = np.bincount(cells[drawn], minlength=2 * groups + 1)[1:].reshape(2, groups)
        poison, benign = np.pad(counted.cumsum(axis=1), ((0, 0), (1, 0)))
        return poison, benign


def curve_numbers(poison: np.ndarray, benign: np.ndarray) -> tuple[float, float, float]:
    """AUC, average precision, and the benign share lost where half of the poison is removed, from cumulated counts.

    AUC is the trapezoid under the ROC, the chance that poison is more suspicious than benign, a tie counting one half.
    Average precision is ``sum (R_n - R_{n-1}) P_n``. Half of the poison is reached on the straight line over the group
    of equal scores in which it falls: equals go in no particular order.
    """
    lost, recall = benign / benign[-1], poison / poison[-1]
    area = float(np.sum(np.diff(lost) * (recall[1:] + recall[:-1])) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(poison[1:] / (poison[1:] + benign[1:]))
    average = float(np.sum(np.diff(recall) * precision))
    at = int(np.searchsorted(recall, HALF))
    share = (HALF - recall[at - 1]) / (recall[at] - recall[at - 1])
    return area, average, float(lost[at - 1] + share * (lost[at] - lost[at - 1]))


def grade_score(
    values: np.ndarray,
    remove: str,
    poisoned: np.ndarray,
    benign: np.ndarray,
    *,
    draws: int = PAIR_DRAWS,
) -> dict[str, dict[str, float | None] | None]:
    """``auc``, ``average_precision`` and ``benign_lost_at_half`` of a score, each as :func:`interval`; None unless
    some scored pairs are known to be poison and others not to be.

    Every draw takes N pairs of the N with replacement, the same ones for every score.

    Args:
        values: `[N]`, NaN where the score is unknown.
        remove: which end is suspicious.
        poisoned: bool `[N]`.
        benign: bool `[N]`.
    """
    names = ("auc", "average_precision", "benign_lost_at_half")
    steps = SuspicionSteps.of(values, remove, poisoned, benign)
    if not steps.comparable:
        return dict.fromkeys(names)
    random, n, drawn = np.random.default_rng(SEED), len(values), []
    cells = steps.cells(n)
    for _ in range(draws):
        poison, good = steps.counts_of(random.integers(0, n, n), cells)
        if poison[-1] and good[-1]:
            drawn.append(curve_numbers(poison, good))
    again = np.array(drawn or [(np.nan,) * 3])
    found = curve_numbers(*steps.counts())
    return {name: interval(value, column) for name, value, column in zip(names, found, again.T, strict=True)}
