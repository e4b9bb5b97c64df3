"""A threshold that is found on one half of the pairs and graded on the other, which had no say in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from explorer.defence.grading import HALF, SuspicionSteps
from explorer.defence.recipe import LOWEST, RANK, THRESHOLD, ScoreFilter, cut_count, order_of_suspicion

BEST_F1, HALF_THE_POISON, AS_CUT = "f1", "half-the-poison", "cut"
CRITERIA = (BEST_F1, HALF_THE_POISON, AS_CUT)
"""The best F1, half of the poison removed, or as the recipe's own cut has it: the first two need to know the poison."""


def first_half(uids: Sequence[str], seed: int) -> np.ndarray:
    """bool `[N]`: which pairs are of the first half; by a hash of seed and uid, so that it is the same in any order."""
    digests = (hashlib.sha256(f"{seed}:{uid}".encode()).digest() for uid in uids)
    return np.fromiter((digest[0] < 128 for digest in digests), bool, len(uids))


def threshold_on(
    recipe: ScoreFilter,
    criterion: str,
    half: np.ndarray,
    values: np.ndarray,
    poisoned: np.ndarray,
    benign: np.ndarray,
) -> ScoreFilter:
    """``recipe`` with the threshold that ``criterion`` finds on the pairs of ``half``.

    Args:
        half: bool `[N]`.
        values: float32 `[N]`.
        poisoned: bool `[N]`.
        benign: bool `[N]`.

    Raises:
        ValueError: on an unknown criterion, or one that needs pairs known to be poison and others known not to be,
            where the half has none; or where the score is known of no pair of the half.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion is {criterion!r}: expected one of {', '.join(CRITERIA)}")
    order = order_of_suspicion(np.where(half, values, np.nan), recipe.remove)
    if criterion == AS_CUT:
        if recipe.cut == THRESHOLD:
            return recipe
        if not len(order):
            raise ValueError(
                f"{recipe.score} is known of no pair of the half on which its threshold is found: expected some"
            )
        part = replace(recipe, amount=round(recipe.amount * half.mean())) if recipe.cut == RANK else recipe
        ordered = values[order]
        count = cut_count(part, values[half], order)
    else:
        steps = SuspicionSteps.of(values, recipe.remove, poisoned & half, benign & half)
        if not steps.comparable:
            raise ValueError(
                f"{criterion} is asked for, and of the half on which it is found no pairs, or all, are known to be "
                "poison: expected both kinds"
            )
        ordered, count = values[steps.pairs], _best_count(steps, criterion)
    return replace(recipe, cut=THRESHOLD, amount=_between(ordered, count, recipe.remove))


def _best_count(steps: SuspicionSteps, criterion: str) -> int:
    """How many of the known pairs, the most suspicious first, are removed."""
    poison, benign = steps.counts()
    if criterion == HALF_THE_POISON:
        group = int(np.searchsorted(poison / poison[-1], HALF))
    else:
        group = int(np.argmax(2 * poison / (poison + benign + poison[-1])))
    return int(steps.ends[group - 1]) if group else 0


def _between(ordered: np.ndarray, count: int, remove: str) -> float:
    """A threshold beyond which are the ``count`` first of scores in the order of suspicion: midway to the next one.

    It is a number of 32 bits, as the scores are that it is compared with. Scores that are equal go or stay together.

    Args:
        ordered: float32 `[n]`, at least one.
    """
    towards_kept = np.float32(np.inf if remove == LOWEST else -np.inf)
    if count == 0:
        return float(ordered[0])
    last = ordered[count - 1]
    if count == len(ordered):
        return float(np.nextafter(last, towards_kept))
    between = np.float32((float(last) + float(ordered[count])) / 2)
    # Midway between neighbours is one of them; the next one stays if it is the threshold itself.
    return float(ordered[count] if between == last else between)
