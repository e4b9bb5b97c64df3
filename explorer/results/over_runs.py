"""What several training runs of a study's recipe say of the paper's numbers: intervals over runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.core.intervals import t_interval
from explorer.results.comparison import ABOVE_ZERO, BELOW_ONE, MOST, Quantity, estimate
from explorer.results.measured import DIRTY_LABEL, Measured


def shares_over_runs(measured: Measured, kind: str, printed: float) -> list[Quantity]:
    """Table 1: accuracy on concepts that no poison aims at, of the control's, once over runs and once over runs and the
    concepts (and noises) in them, of every model of the largest C_P that all runs have.

    Args:
        kind: of the poison.
        printed: the paper's number.
    """
    found = []
    for row in _at_largest(measured, kind):
        count, told = len(measured.runs["runs"]), _name(row)
        alone, nested = row["accuracy_of_control"], row["accuracy_of_control_over_nouns"]
        if alone is not None:
            here = estimate({"value": alone["mean"], "low": alone["low"], "high": alone["high"]}, count)
            found.append(Quantity(what=MOST, claim=BELOW_ONE, paper=printed, here=here,
                                  over=f"{count} training runs{told}"))  # fmt: skip
        if nested is not None:
            more = ", and the concepts and noises in them" if nested["over_noises"] else " and the concepts in them"
            here = estimate({name: nested[name] for name in ("value", "low", "high")}, count)
            found.append(Quantity(what=MOST, claim=BELOW_ONE, paper=printed, here=here,
                                  over=f"{count} training runs{more}{told}"))  # fmt: skip
    return found


def difference_over_runs(measured: Measured, quantity: str, what: str) -> list[Quantity]:
    """A quantity of ``training-runs`` of dirty-label poison at the largest C_P less the same run's control's, over
    runs; the paper's claim is that it is more. None where a run did not measure it."""
    return _over_runs(measured, quantity, what, ABOVE_ZERO, lambda most, control: most - control)


def share_over_runs(measured: Measured, quantity: str, what: str) -> list[Quantity]:
    """The same as a share of the control's; the paper's claim is that it is less. None where a control has 0."""
    return _over_runs(measured, quantity, what, BELOW_ONE, lambda most, control: most / control if control else None)


def _over_runs(
    measured: Measured, quantity: str, what: str, claim: tuple[float, float], of_run: Callable[..., float | None]
) -> list[Quantity]:
    found = []
    for row in _at_largest(measured, DIRTY_LABEL):
        both = [each.get(quantity) for each in (row, measured.runs["models"][0])]
        if None in both:
            continue
        values = [of_run(*pair) for pair in zip(*(each["values"] for each in both), strict=True)]
        if None in values:
            continue
        found.append(Quantity(what=what, claim=claim, here=t_interval(values),
                              over=f"{len(values)} training runs{_name(row)}"))  # fmt: skip
    return found


def _at_largest(measured: Measured, kind: str) -> list[dict[str, Any]]:
    """Of the runs' models those that the study has of this kind of poison, at the largest C_P that all runs have. What
    the runs' own poison is their evaluations do not say: they are of the study's recipe."""
    if measured.runs is None:
        return []
    known = [(model["poisoned_concept_count"], model["name"]) for model in measured.models(kind)[1:]]
    rows = [
        row for row in measured.runs["models"]
        if any(count == row["poisoned_concept_count"] and row["name"] in (None, name) for count, name in known)
    ]  # fmt: skip
    return [row for row in rows if row["poisoned_concept_count"] == rows[-1]["poisoned_concept_count"]]


def _name(row: dict[str, Any]) -> str:
    return f", {row['name']}" if row["name"] else ""
