"""Everything that is told of a filter: what it removes, AD of what remains, its grade, and whom it hits beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from explorer.defence.collateral import collateral
from explorer.defence.filter_files import ScoredPairs
from explorer.defence.grading import Confusion, grade_filter
from explorer.defence.held_out import first_half, threshold_on
from explorer.defence.recipe import Filter, Removal, ScoreFilter, recipe_json
from explorer.defence.scores import FEATURE
from explorer.pairs.poison_flags import PoisonFlags

RemainingStructure = Callable[[np.ndarray], float]
"""Structure AD of the kept pairs, bool `[N]`."""


def filter_report(pairs: ScoredPairs, recipe: Filter, remaining: RemainingStructure) -> dict[str, Any]:
    """What ``recipe`` does to ``pairs``; JSON-serialisable.

    Args:
        remaining: asked for structure AD of what remains where the stored curves do not have it: where a quota, a
            combination or a list of uids decides. Raises ValueError or OSError where the pairs' features are not there.

    Returns:
        ``arm``, ``recipe``, ``pairs``, ``removed``, ``kept``, ``unscored``, ``tied_at_cut``, ``cuts``, ``alignment``
        (of what remains, with ``structure_from``), ``alignment_before``, ``counts``, ``grade``, ``at_half_the_poison``
        and ``collateral``. Grade and half are None where it is not known which pairs are poison, and so are the four
        known counts where nobody recorded it of any pair.
    """
    removal, flags = pairs.removal(recipe), pairs.flags
    confusion = Confusion.of(removal.removed, flags.poisoned, flags.benign)
    removed = int(removal.removed.sum())
    costs = flags.benign if flags.benign.any() else ~flags.poisoned
    lost = collateral(
        removal.removed, costs, main_concept=pairs.columns["main_concept"], concepts=pairs.concepts,
        captions=pairs.caption_groups,
    )  # fmt: skip
    return {
        "arm": pairs.header["set"]["name"], "recipe": recipe_json(recipe), "pairs": len(pairs), "removed": removed,
        "kept": len(pairs) - removed, "unscored": int(removal.unscored.sum()), "tied_at_cut": removal.tied_at_cut,
        "cuts": list(removal.cuts), "alignment": _alignment(pairs, recipe, removal, remaining),
        "alignment_before": pairs.header["alignment"], "counts": _counts(confusion, flags),
        "grade": grade_filter(confusion) if flags.comparable else None,
        "at_half_the_poison": _at_half(pairs, recipe), "collateral": {
            "of": "benign pairs" if flags.benign.any() else "pairs not known to be poison", **lost,
        },
    }  # fmt: skip


def _counts(confusion: Confusion, flags: PoisonFlags) -> dict[str, int | None]:
    found = asdict(confusion)
    return {name: count if name == "unrecorded_removed" or not flags.unrecorded.all() else None
            for name, count in found.items()}  # fmt: skip


def held_out_report(pairs: ScoredPairs, recipe: ScoreFilter, criterion: str, seed: int) -> tuple[ScoreFilter, dict]:
    """The recipe with the threshold that ``criterion`` finds on one half of the pairs, and its grade on either half.

    The grade on the half that chose is the flattered one, and is told beside the other. As in :func:`filter_report`,
    the grade of a half is None where it has no pairs known to be poison or none known not to be, and so are its four
    known counts where nobody recorded it of any of its pairs.

    Raises:
        ValueError: as :func:`~explorer.defence.held_out.threshold_on`, or on a score that is not there.
    """
    pairs.describe(recipe.score)
    half, flags = first_half(pairs.uids, seed), pairs.flags
    found = threshold_on(recipe, criterion, half, pairs.scores[recipe.score], flags.poisoned, flags.benign)
    removed = pairs.removal(found).removed

    def grade(part: np.ndarray) -> dict[str, Any]:
        known = flags[part]
        confusion = Confusion.of(removed[part], known.poisoned, known.benign)
        return {"pairs": len(known), "counts": _counts(confusion, known),
                "grade": grade_filter(confusion) if known.comparable else None}  # fmt: skip

    told = {"criterion": criterion, "seed": seed, "threshold": found.amount, "chosen_on": grade(half),
            "graded_on": grade(~half)}  # fmt: skip
    return found, told


def compared(pairs: ScoredPairs, first: Filter, second: Filter) -> dict[str, Any]:
    """What only the first filter removes, only the second, and both; JSON-serialisable.

    Returns:
        ``against``, ``jaccard``, and for ``both``, ``only_this`` and ``only_against`` how many ``pairs``, ``poison``
        and ``benign`` (None where nobody recorded it of any pair of the set), and ``unrecorded``.
    """
    one, other, flags = pairs.removal(first).removed, pairs.removal(second).removed, pairs.flags
    told = not flags.unrecorded.all()

    def counted(which: np.ndarray) -> dict[str, int | None]:
        of_kinds = flags[which]
        return {"pairs": len(of_kinds), "poison": int(of_kinds.poisoned.sum()) if told else None,
                "benign": int(of_kinds.benign.sum()) if told else None,
                "unrecorded": int(of_kinds.unrecorded.sum())}  # fmt: skip

    either = int((one | other).sum())
    return {
        "against": recipe_json(second), "both": counted(one & other), "only_this": counted(one & ~other),
        "only_against": counted(other & ~one), "jaccard": int((one & other).sum()) / either if either else None,
    }  # fmt: skip


def _alignment(pairs: ScoredPairs, recipe: Filter, removal: Removal, remaining: RemainingStructure) -> dict[str, Any]:
    """AD of what remains and its parts; None for what nothing is left of, or nobody can tell here."""
    alpha, kept = pairs.header["alignment"]["alpha"], ~removal.removed
    result: dict[str, Any] = dict.fromkeys(("feature_ad", "structure_ad", "ad"))
    if not kept.any():
        return result | {"structure_from": "nothing is left"}
    result["feature_ad"] = float(pairs.scores[FEATURE][kept].astype(np.float64).mean())
    try:
        structure, told = _structure(pairs, recipe, removal, remaining)
    except (ValueError, OSError) as error:
        return result | {"structure_from": f"unknown: {error}"}
    result["structure_ad"] = structure
    result["ad"] = alpha * result["feature_ad"] + (1 - alpha) * structure
    return result | {"structure_from": told}


def _structure(
    pairs: ScoredPairs, recipe: Filter, removal: Removal, remaining: RemainingStructure
) -> tuple[float, str]:
    if not removal.removed.any():
        return pairs.header["alignment"]["structure_ad"], "the whole set"
    if isinstance(recipe, ScoreFilter) and not removal.cuts[0]["spared_by_quota"]:
        curve = pairs.kept_structure_ad(recipe.score)
        # The curve is of the score's own suspicious end.
        if curve is not None and recipe.remove == pairs.describe(recipe.score)["remove"]:
            return float(curve[removal.cuts[0]["removed"]]), "the score's curve"
    return remaining(~removal.removed), "the kept pairs' features"


def _at_half(pairs: ScoredPairs, recipe: Filter) -> dict[str, Any] | None:
    """The benign share lost where the recipe's score reaches half of the poison; None for recipes of several."""
    if not isinstance(recipe, ScoreFilter):
        return None
    described = pairs.describe(recipe.score)
    return described["at_half_the_poison"] if recipe.remove == described["remove"] else None
