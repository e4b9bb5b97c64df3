"""How two operations of graft studies differ, each study a training run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from explorer.core.intervals import t_interval
from explorer.meter.estimates import as_json

LATE = {"attends": "late_word_mass", "scatters": "late_contiguity"}
"""Of ``attention`` in a report: what the command calls them, and their names there."""


def operation_difference(report: dict[str, Any], first: str, second: str, *, way: int = 0) -> dict[str, float]:
    """What operation ``first`` has more than ``second`` in one graft study, by quantity, means over its concepts.

    Args:
        report: ``graft-study.json``.
        way: which of its directions, from 0.

    Returns:
        ``accuracy``; ``per_distance``, the change of it by Euclidean distance moved, where both moved; ``hears``, the
        meter's mean sensitivity; ``attends`` and ``scatters``, late attention and its Geary's C as shares of what
        ``all`` has. What was not measured of both is absent, and so is a share of what ``all`` has nothing of.

    Raises:
        ValueError: if there is no such direction or operation.
    """
    directions = report["directions"]
    if not 0 <= way < len(directions):
        raise ValueError(f"direction {way + 1} is asked for: expected one of {len(directions)}")
    operations = {each["name"]: each for each in directions[way]["operations"]}
    if unknown := next((name for name in (first, second) if name not in operations), None):
        raise ValueError(f"no operation is called {unknown!r}: expected one of {', '.join(operations)}")
    values = [_values(operations[name], directions[way]["group"]) for name in (first, second)]
    return {name: value - values[1][name] for name, value in values[0].items() if name in values[1]}


def _values(operation: dict[str, Any], group: str) -> dict[str, float]:
    found = operation["groups"][group]
    values = {"accuracy": found["accuracy"]["value"]}
    if found["per_distance"] is not None:
        values["per_distance"] = found["per_distance"]["value"]
    if operation["meter"] is not None:
        values["hears"] = operation["meter"][group]["sensitivity"]["mean"]["value"]
    late = (operation.get("attention") or {}).get(group) or {}  # earlier files have none
    shares = {name: late[measure]["of_all"] for name, measure in LATE.items() if measure in late}
    return values | {name: share["value"] for name, share in shares.items() if share is not None}


def over_runs(differences: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean over training runs with Student's 95 % interval, of each quantity that every run has: ``value``, ``low``,
    ``high`` and ``n``."""
    shared = [name for name in differences[0] if all(name in each for each in differences)]
    found = {name: t_interval([each[name] for each in differences]) for name in shared}
    return {name: as_json(each) for name, each in found.items()}
