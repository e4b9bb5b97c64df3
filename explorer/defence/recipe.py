"""A filter as a recipe: which pairs a score removes, which pairs are named, and combinations of these.

A recipe is a small JSON object that a person can read, save and send. It never reads which pairs are poison: that only
grades it (``explorer/defence/grading.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.core.intervals import ROUNDING

LOWEST, HIGHEST = "lowest", "highest"
THRESHOLD, BUDGET, RANK = "threshold", "budget", "rank"
CUTS = (THRESHOLD, BUDGET, RANK)
MOST_NESTED = 8
"""Combinations inside combinations."""


@dataclass(frozen=True, kw_only=True)
class ScoreFilter:
    """Removes the most suspicious pairs by one score."""

    score: str
    """Name of the score."""
    remove: str
    """``lowest`` or ``highest``: which end of the score is suspicious."""
    cut: str
    """``threshold``: everything beyond ``amount``, which itself is kept; ``budget``: at most the share ``amount`` of
    all pairs; ``rank``: the ``amount`` most suspicious pairs."""
    amount: float
    """As ``cut`` has it."""
    quota: float | None = None
    """Of no main concept more than this share of its pairs is removed, in [0, 1]; None for no such limit."""


@dataclass(frozen=True, kw_only=True)
class NamedPairs:
    """Removes exactly these pairs."""

    uids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Removes what every one of its filters removes (``all``), or at least one (``any``)."""

    every: bool
    filters: tuple[Filter, ...]


Filter = ScoreFilter | NamedPairs | Combination


@dataclass(frozen=True, kw_only=True, eq=False)
class Removal:
    """What a recipe removes of N pairs."""

    removed: np.ndarray
    """bool `[N]`."""
    unscored: np.ndarray
    """bool `[N]`: a score that the recipe asks is not known of this pair, and did not remove it."""
    tied_at_cut: int
    """Pairs that were kept although they have the score of one that was removed, over all cuts."""
    cuts: tuple[dict[str, Any], ...]
    """One for every score that was cut, JSON-serialisable: ``score``, ``remove``, ``at`` (the score of the last removed
    pair, None for none), ``removed``, ``unscored``, ``tied_at_cut``, ``spared_by_quota``."""


def read_recipe(value: Any, depth: int = 0) -> Filter:
    """From JSON.

    Raises:
        ValueError: naming what is not as it should be.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a filter recipe is {value!r}: expected an object with score, uids, all or any")
    if depth > MOST_NESTED:
        raise ValueError(f"the recipe nests more than {MOST_NESTED} combinations: expected fewer")
    kinds = [name for name in ("score", "uids", "all", "any") if name in value]
    if len(kinds) != 1:
        raise ValueError(f"a filter recipe has {', '.join(value) or 'nothing'}: expected one of score, uids, all, any")
    kind = kinds[0]
    if kind == "score":
        return _read_score_filter(value)
    _check_fields(value, (kind,))
    if not isinstance(value[kind], list):
        raise ValueError(f"{kind} is {value[kind]!r}: expected a list")
    if kind == "uids":
        if wrong := [uid for uid in value["uids"] if not isinstance(uid, str)]:
            raise ValueError(f"uids hold {wrong[0]!r}: expected texts")
        return NamedPairs(uids=tuple(value["uids"]))
    if not value[kind]:
        raise ValueError(f"{kind} is an empty list: expected at least one filter")
    inner = tuple(read_recipe(each, depth + 1) for each in value[kind])
    return Combination(every=kind == "all", filters=inner)


def recipe_json(recipe: Filter) -> dict[str, Any]:
    """The recipe as :func:`read_recipe` reads it."""
    if isinstance(recipe, NamedPairs):
        return {"uids": list(recipe.uids)}
    if isinstance(recipe, Combination):
        return {"all" if recipe.every else "any": [recipe_json(each) for each in recipe.filters]}
    amount = int(recipe.amount) if recipe.cut == RANK else recipe.amount
    return {"score": recipe.score, "remove": recipe.remove, "cut": {recipe.cut: amount}, "quota": recipe.quota}


def order_of_suspicion(values: np.ndarray, remove: str) -> np.ndarray:
    """Places of the scored pairs, the most suspicious first, equal scores by place; int64 `[n_scored]`.

    Args:
        values: float32 `[N]`, NaN where the score is unknown.
    """
    known = np.flatnonzero(~np.isnan(values))
    signed = values[known] if remove == LOWEST else -values[known]
    return known[np.argsort(signed, kind="stable")]


def apply_recipe(
    recipe: Filter, scores: Mapping[str, np.ndarray], *, uids: Sequence[str], main_concept: np.ndarray
) -> Removal:
    """What ``recipe`` removes.

    Args:
        scores: name to float32 `[N]`, NaN where unknown. Scores are compared as they are given: in float32, so that
            every reader of the stored columns removes the same pairs.
        uids: N names, each once.
        main_concept: int `[N]`, -1 for none: such a pair is bound by no quota.

    Raises:
        ValueError: on a score or uid that is not there.
    """
    n = len(uids)
    if isinstance(recipe, Combination):
        parts = [apply_recipe(each, scores, uids=uids, main_concept=main_concept) for each in recipe.filters]
        join = np.logical_and if recipe.every else np.logical_or
        removed = join.reduce([part.removed for part in parts])
        unscored = np.logical_or.reduce([part.unscored for part in parts]) & ~removed
        return Removal(removed=removed, unscored=unscored, tied_at_cut=sum(part.tied_at_cut for part in parts),
                       cuts=tuple(cut for part in parts for cut in part.cuts))  # fmt: skip
    if isinstance(recipe, NamedPairs):
        place = {uid: at for at, uid in enumerate(uids)}
        if missing := [uid for uid in recipe.uids if uid not in place]:
            raise ValueError(f"uid {missing[0]!r} is none of the {n} pairs: expected uids of these")
        removed = np.zeros(n, bool)
        removed[[place[uid] for uid in recipe.uids]] = True
        return Removal(removed=removed, unscored=np.zeros(n, bool), tied_at_cut=0, cuts=())
    if recipe.score not in scores:
        raise ValueError(f"score is {recipe.score!r}: expected one of {', '.join(scores)}")
    return _cut(recipe, np.asarray(scores[recipe.score], np.float32), main_concept)


def cut_count(recipe: ScoreFilter, values: np.ndarray, order: np.ndarray) -> int:
    """How many pairs of ``order`` the cut removes before any quota.

    Args:
        values: float32 `[N]`.
        order: of :func:`order_of_suspicion`.
    """
    if recipe.cut == THRESHOLD:
        threshold = np.float32(recipe.amount)  # scores are of 32 bits, and so is what they are compared with
        beyond = values < threshold if recipe.remove == LOWEST else values > threshold
        return int(beyond.sum())
    wanted = int(_whole_part(recipe.amount, len(values))) if recipe.cut == BUDGET else int(recipe.amount)
    return min(wanted, len(order))


def _whole_part(share: float, counts: int | np.ndarray) -> np.ndarray:
    """The whole number of pairs that a share of them is: 29 of 100 for .29, whose product in binary is just below."""
    return np.floor(share * counts * (1 + ROUNDING))


def _cut(recipe: ScoreFilter, values: np.ndarray, main_concept: np.ndarray) -> Removal:
    order = order_of_suspicion(values, recipe.remove)
    beyond = order[: cut_count(recipe, values, order)]
    taken = beyond if recipe.quota is None else _within_quota(beyond, main_concept, recipe.quota)
    removed, unscored = np.zeros(len(values), bool), np.isnan(values)
    removed[taken] = True
    at = float(values[beyond[-1]]) if len(beyond) else None
    tied = 0 if at is None else int((values[order[len(beyond) :]] == values[beyond[-1]]).sum())
    cut = {
        "score": recipe.score, "remove": recipe.remove, "at": at, "removed": len(taken),
        "unscored": int(unscored.sum()), "tied_at_cut": tied, "spared_by_quota": len(beyond) - len(taken),
    }  # fmt: skip
    return Removal(removed=removed, unscored=unscored, tied_at_cut=tied, cuts=(cut,))


def _within_quota(beyond: np.ndarray, main_concept: np.ndarray, quota: float) -> np.ndarray:
    """Those of ``beyond``, in its order, that no concept's quota spares."""
    allowed = _whole_part(quota, np.bincount(main_concept[main_concept >= 0], minlength=1))
    concepts = main_concept[beyond]
    # The how-manieth pair of its concept each one is: its place in a stable sort less where its concept begins there.
    by_concept = np.argsort(concepts, kind="stable")
    first = np.searchsorted(concepts[by_concept], concepts[by_concept])
    nth = np.empty(len(beyond), np.int64)
    nth[by_concept] = np.arange(len(beyond)) - first
    return beyond[(concepts < 0) | (nth < allowed[np.maximum(concepts, 0)])]


def _read_score_filter(value: dict[str, Any]) -> ScoreFilter:
    _check_fields(value, ("score", "remove", "cut", "quota"))
    if not isinstance(value["score"], str):
        raise ValueError(f"score is {value['score']!r}: expected a score's name")
    if (remove := value.get("remove")) not in (LOWEST, HIGHEST):
        raise ValueError(f"remove is {remove!r}: expected {LOWEST} or {HIGHEST}")
    cut = value.get("cut")
    if not (isinstance(cut, dict) and len(cut) == 1 and next(iter(cut)) in CUTS):
        raise ValueError(f'cut is {cut!r}: expected one of {{"threshold": x}}, {{"budget": share}}, {{"rank": k}}')
    ((kind, amount),) = cut.items()
    if kind == RANK and (type(amount) is not int or amount < 0):
        raise ValueError(f"rank is {amount!r}: expected a whole number from 0")
    if kind == THRESHOLD and not (_is_number(amount) and math.isfinite(amount)):
        raise ValueError(f"threshold is {amount!r}: expected a finite number")
    quota = value.get("quota")
    for name, share in ((BUDGET, amount if kind == BUDGET else 0.0), ("quota", 0.0 if quota is None else quota)):
        if not (_is_number(share) and 0 <= share <= 1):
            raise ValueError(f"{name} is {share!r}: expected a share in [0, 1]")
    return ScoreFilter(score=value["score"], remove=remove, cut=kind, amount=float(amount), quota=quota)


def _check_fields(value: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(value) - set(known)):
        raise ValueError(f"the recipe has the unknown field {unknown[0]!r}: expected {', '.join(known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
