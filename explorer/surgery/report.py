"""What grafts restore: accuracy beside no graft and beside moving everything equally far, and per displacement."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from explorer.core.intervals import Estimate, exact_mcnemar, t_interval
from explorer.meter.estimates import ratio
from explorer.surgery.measured import Measured
from explorer.surgery.operations import Operation


def operation_entries(
    operations: list[Operation], measured: dict[str, Measured], right: dict[str, np.ndarray],
    members: dict[str, np.ndarray], seeds: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """What ``graft-study.json`` says of the operations of one direction.

    Intervals are 95 %, Student's over the concepts of a group; all are for these seeds and one training run a model.

    Args:
        measured: by name of operation, ``none`` and ``all`` among them.
        right: of how many seeds' pictures show each concept, int64 ``[n]``, by name of operation.
        members: bool ``[n]`` by group of concepts.
    """
    equally_far = {each.beside: each.name for each in operations if each.role == "equally far"}
    entries = []
    for each in operations:
        moves_as_far = None if each.role == "equally far" else each.beside  # a control has its group's
        beside = equally_far.get(each.name) or equally_far.get(moves_as_far)
        groups = {
            group: _of_group(each, right, chosen, seeds, beside) for group, chosen in members.items() if chosen.any()
        }
        entries.append({
            "name": each.name, "role": each.role, "beside": each.beside, "parameters": each.parameters,
            "parts": [_told(asdict(part)) for part in each.parts],
            "distance": each.distance, "right": right[each.name].tolist(), "groups": groups,
            "meter": _beside_all(measured[each.name].listening, measured["all"].listening, members),
            "attention": _beside_all(measured[each.name].attention, measured["all"].attention, members),
        })  # fmt: skip
    return entries


def _of_group(
    operation: Operation, right: dict[str, np.ndarray], chosen: np.ndarray, seeds: int, equally_far: str | None
) -> dict[str, Any]:
    shares = {name: right[name][chosen] / seeds for name in (operation.name, "none", "all")}
    own, none = shares[operation.name], shares["none"]
    gap = float(shares["all"].mean() - none.mean())
    change = t_interval(own - none)
    found = {
        "accuracy": t_interval(own).as_json(),
        "change": change.as_json(),
        "of_all": None if gap == 0 else change.value / gap,
        "per_distance": None if operation.distance == 0 else _scaled(change, 1 / operation.distance).as_json(),
        "against_none": compared(right[operation.name][chosen], right["none"][chosen]),
        "against_equally_far": None,
    }
    if equally_far is not None and equally_far in right:
        found["against_equally_far"] = compared(right[operation.name][chosen], right[equally_far][chosen])
    return found


def compared(own: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Concepts with more, and with fewer, right pictures than beside another operation, and McNemar's exact p of that;
    of one picture a concept it is McNemar's test, of several a sign test over concepts."""
    rises, falls = int((own > other).sum()), int((own < other).sum())
    return {"rises": rises, "falls": falls, "p": exact_mcnemar(rises, falls)}


def _beside_all(
    own: dict[str, np.ndarray], whole: dict[str, np.ndarray], members: dict[str, np.ndarray]
) -> dict[str, dict[str, Any]] | None:
    """Means by group and measure, and their ratios to ``all``'s, paired by concept, None where those are 0; None where
    nothing was measured."""
    if not own:
        return None
    return {
        group: {
            measure: {"mean": t_interval(values[chosen]).as_json(),
                      "of_all": ratio(values[chosen], whole[measure][chosen])}
            for measure, values in own.items()
        }
        for group, chosen in members.items() if chosen.any()
    }  # fmt: skip


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(
        value=estimate.value * factor, low=estimate.low * factor, high=estimate.high * factor, n=estimate.n
    )  # fmt: skip


def _told(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if value is not None}
