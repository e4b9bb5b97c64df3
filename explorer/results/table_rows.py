"""This world's rows of the paper's tables: the same columns, of the models that a comparison is of.

Numbers are means over concepts and pictures, on this world's own scale: how they stand to their control's compares with
the paper's, they themselves do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from explorer.evaluation.summary import concepts_known
from explorer.results.measured import UNTARGETED


def model_rows(models: Sequence[dict[str, Any]], **first: Any) -> tuple[dict[str, Any], ...]:
    """Rows as Tables 1 to 4 have them. ``clean`` is of the concepts that no poison of the study aims at.

    Args:
        models: of ``evaluation.json``.
        first: columns that come before, the same in all rows.
    """
    return tuple(
        first
        | {
            "model": model["name"],
            "poisoned_concept_count": model["poisoned_concept_count"],
            **_difficulty(model),
            "accuracy": {
                "all": _mean(model["accuracy"]["all"]),
                "clean": _mean(model["accuracy"][UNTARGETED]),
                "poisoned": _mean(model["accuracy"].get("poisoned")),
            },
            "utility": _mean(model["utility"][UNTARGETED]),
        }
        for model in models
    )


def class_rows(models: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Rows as Table 5 has them, by the classifier; ``clean`` is of the classes that a model's own poison does not aim
    at, of which there may be none, and unknown where it is not recorded what it aims at."""
    return tuple(
        {
            "model": model["name"],
            "poisoned_concept_count": model["poisoned_concept_count"],
            **_difficulty(model),
            "accuracy": _by_class(model),
        }
        for model in models
    )


def recovery_rows(
    before: Sequence[float], recovered: Sequence[tuple[int, Sequence[float]]], after: Sequence[float]
) -> tuple[dict[str, Any], ...]:
    """Rows as Table 6 has them.

    Args:
        before: accuracy of every concept, of the poisoned model.
        recovered: of the models that were trained on, with their benign pairs.
        after: of the control.
    """
    series = [("poisoned", None, before), *(("recovered", pairs, found) for pairs, found in recovered),
              ("benign", None, after)]  # fmt: skip
    return tuple({"model": name, "benign_pairs": pairs, "accuracy": {"all": fmean(found)}}
                 for name, pairs, found in series)  # fmt: skip


def _difficulty(model: dict[str, Any]) -> dict[str, float | None]:
    found = model.get("alignment_difficulty") or {}
    return {name: found.get(name) for name in ("feature_ad", "structure_ad", "ad")}


def _by_class(model: dict[str, Any]) -> dict[str, float | None]:
    known = {name: share for name, share in model["classifier_per_concept"].items() if share is not None}
    groups = {"all": list(known.values()), "clean": [], "poisoned": []}
    if concepts_known(model):
        aimed = set(model["poisoned_concepts"])
        groups["clean"] = [share for name, share in known.items() if name not in aimed]
        groups["poisoned"] = [share for name, share in known.items() if name in aimed]
    return {group: fmean(shares) if shares else None for group, shares in groups.items()}


def _mean(found: dict[str, Any] | None) -> float | None:
    return None if found is None else found["mean"]
