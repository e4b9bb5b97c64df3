"""How many concepts and draws are enough: what the standard error of a stored meter's mean would be with others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from explorer.meter.payload_formats import SENSITIVITY
from explorer.pairs.concept_list import POOL

ALL, UNPOISONED = GROUPS = ("all", "unpoisoned")
CONCEPTS = (10, 20, 50, 100)
DRAWS = (1, 2, 4, 8)


def standard_error(
    values: np.ndarray, over_draws: np.ndarray, draws: int, *, concepts: int, draws_instead: int
) -> float:  # fmt: skip
    """Of a mean over other concepts of the same kind, each measured with another number of draws.

    The variance of what was measured is that among concepts plus that of the draws (one-way analysis of variance with
    random effects, Searle, Casella and McCulloch 1992, chapter 3). The second falls with draws and concepts, the first
    with concepts alone. An estimate of the first below 0 counts as 0.

    Args:
        values: fp64 ``[n]``, means over draws, n at least 2.
        over_draws: fp64 ``[n]``, their standard errors over the draws.
        draws: how many draws those are of, at least 2.
        concepts: how many concepts instead of n.
        draws_instead: how many draws instead of ``draws``.
    """
    of_draws = float(np.square(over_draws).mean())
    among = max(float(values.var(ddof=1)) - of_draws, 0.0)
    return math.sqrt((among + of_draws * draws / draws_instead) / concepts)


def ratio_standard_errors(draws: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`standard_error` takes of the ratio of two means that are measured with the same draws, linearised:
    of each concept (model - ratio x reference) / mean reference (Cochran 1977, section 6.4), and its standard error
    over the draws, in which what both models have in common cancels.

    Args:
        draws: fp64 ``[n, R]`` of the model, R at least 2.
        reference: the same of the reference.
    """
    residuals = (draws - draws.mean() / reference.mean() * reference) / reference.mean()
    return residuals.mean(1), residuals.std(1, ddof=1) / math.sqrt(residuals.shape[1])


def precision_report(meter: dict[str, Any], group: str) -> list[dict[str, Any]]:
    """Of every model of ``meter.json`` the mean sensitivity, how many ``concepts`` it is of, and ``errors``: its
    standard error with each of :data:`CONCEPTS` (rows) and :data:`DRAWS` (columns). Under ``ratio`` the same of its
    ratio to the reference's; None of the reference itself, without one of the same kind, and of meters of earlier
    releases, which do not hold the draws.

    Args:
        group: ``all``, or ``unpoisoned``: concepts outside the pool that no record of the models poisons.

    Raises:
        ValueError: for another group, one that a model does not have or of a single concept, or a meter of one draw.
    """
    if group not in GROUPS:
        raise ValueError(f"group is {group!r}: expected one of {', '.join(GROUPS)}")
    if meter["draws"] < 2:
        raise ValueError(f"the meter has {meter['draws']} draw: expected at least 2, to tell draws from concepts")
    chosen = [group == ALL or (each["poisoned_from"] is None and each["group"] != POOL) for each in meter["concepts"]]
    found = []
    for model in meter["models"]:
        measured = model["measures"][SENSITIVITY]
        if measured["groups"][group] is None or sum(chosen) < 2:
            raise ValueError(f"model {model['name']} has no two concepts known to be of the group {group}: try {ALL}")
        values, errors = (np.array(measured[name])[chosen] for name in ("per_concept", "standard_error"))
        ratio = None
        if model["name"] != meter["reference"] and measured.get("relative") and measured.get("draws"):
            both = [np.array(each["draws"])[chosen] for each in (measured, _of_reference(meter))]
            table = _table(*ratio_standard_errors(*both), meter["draws"])
            ratio = {"value": float(both[0].mean() / both[1].mean()), "errors": table}
        table = _table(values, errors, meter["draws"])
        found.append({"name": model["name"], "mean": float(values.mean()), "concepts": len(values), "errors": table,
                      "ratio": ratio})  # fmt: skip
    return found


def _of_reference(meter: dict[str, Any]) -> dict[str, Any]:
    return next(model["measures"][SENSITIVITY] for model in meter["models"] if model["name"] == meter["reference"])


def _table(values: np.ndarray, errors: np.ndarray, draws: int) -> list[list[float]]:
    return [[standard_error(values, errors, draws, concepts=count, draws_instead=each) for each in DRAWS]
            for count in CONCEPTS]  # fmt: skip
