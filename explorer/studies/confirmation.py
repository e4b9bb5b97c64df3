"""The one number that orders arms best, chosen on some studies and held against others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from explorer.evaluation.metrics.listed import METRICS
from explorer.studies.ordering import (
    ACCURACY,
    OF_LAYER,
    OF_PAIRS,
    POISONED_CONCEPTS,
    check_each_once,
    ordering,
    same_models,
)
from explorer.studies.study import Study

JUDGES_OWN = frozenset(metric.name for metric in METRICS if "similarities" in metric.needs)
"""What the judge of accuracy says itself: it orders accuracy because it is nearly the same."""
NO_CANDIDATES = JUDGES_OWN | {*OF_PAIRS, POISONED_CONCEPTS}
"""And what was done to a model, which is nothing that the model does."""


def confirmation(
    studies: Sequence[Study], others: Sequence[Study], *, outcome: str = ACCURACY, group: str = "unpoisoned"
) -> dict[str, Any]:
    """Of what is measured of models, without the judge's own numbers, what orders the arms of some studies best, and
    how well it orders those of others.

    What is measured of pairs, and C_P, are no candidates: they say what was done to a model and not what it does. Nor
    are single attention layers, of which there are so many that the best of them is the best by chance.

    Args:
        outcome: as in :func:`~explorer.studies.ordering.ordering`, and so is ``group``.

    Returns:
        ``candidates``, best first: ``name``, and Spearman's correlation with the outcome over the arms of ``studies``
        (``chosen_on``) and of ``others`` (``held_against``), as ``ordering`` gives it. The first is the one that is
        chosen; ``tied``, how many more are as good there; ``place``, where it stands among the candidates on ``others``
        (1: none is better).

    Raises:
        ManifestError: as :func:`ordering`.
        ValueError: as :func:`ordering`, if a study or a model is on both sides, or if no quantity has a correlation
            over both.
    """
    if both := sorted({each.folder.resolve() for each in studies} & {each.folder.resolve() for each in others}):
        raise ValueError(f"{both[0]} is on both sides: expected other studies to hold what is chosen against")
    for side in (studies, others):
        check_each_once(side)
    for other in others:
        for arm, same in same_models([*studies, other])[-1].items():
            raise ValueError(f"{arm} of {other.name} is the same model as {same}: expected other models to hold what "
                             "is chosen against")  # fmt: skip
    first, second = (ordering(each, outcome=outcome, group=group)["correlations"] for each in (studies, others))
    known = [name for name, value in first.items() if value is not None and second.get(name) is not None]
    names = [name for name in known if name not in NO_CANDIDATES and OF_LAYER not in name]
    if not names:
        raise ValueError(f"nothing that is measured of models orders {outcome} of {group} concepts in both: expected "
                         "two arms or more on either side, evaluated and metered alike")  # fmt: skip
    names.sort(key=lambda name: -abs(first[name]["value"]))
    here, there = ({name: abs(found[name]["value"]) for name in names} for found in (first, second))
    chosen = names[0]
    return {
        "outcome": outcome, "group": group,
        "candidates": [{"name": name, "chosen_on": first[name], "held_against": second[name]} for name in names],
        "tied": sum(value == here[chosen] for value in here.values()) - 1,
        "place": 1 + sum(value > there[chosen] for value in there.values()),
    }  # fmt: skip
