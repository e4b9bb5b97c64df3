"""From values for each seed and concept to what ``evaluation.json`` says of a model: groups, means, intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.intervals import t_interval
from explorer.core.poison_record import PoisonRecord
from explorer.pairs.concept_list import POOL, ConceptList

if TYPE_CHECKING:
    from explorer.evaluation.metrics.metric import Metric


def groups_of(
    poison: PoisonRecord, concepts: ConceptList, ever_poisoned: Iterable[str], unrelated: Iterable[str] | None = None
) -> dict[str, np.ndarray | None]:
    """Which concepts are in each group, bool ``[concepts]``; None where it is not known which.

    Args:
        poison: of the model.
        ever_poisoned: what any of the models evaluated beside it is recorded to have been poisoned with.
        unrelated: concepts that are far from all of those; None for no such group.
    """
    pool, ever = set(concepts.of_group(POOL)), set(ever_poisoned)
    members = {
        "all": np.ones(len(concepts.names), bool),
        "pool": np.array([name in pool for name in concepts.names]),
        "unpoisoned": np.array([name not in ever | pool for name in concepts.names]),
        "poisoned": np.array([name in poison.names for name in concepts.names]),
    }
    if unrelated is not None:
        far = set(unrelated)
        members["unrelated"] = members["unpoisoned"] & np.array([name in far for name in concepts.names])
    if names_known(poison):
        return members
    return members | {group: None for group in members if group not in ("all", "pool")}


def names_known(poison: PoisonRecord) -> bool:
    """Whether it is recorded which concepts are poisoned, or that none is."""
    return poison.recorded and poison.concept_count == len(poison.names)


def concepts_known(model: dict[str, Any]) -> bool:
    """The same of a model of ``evaluation.json``; those of earlier releases do not say it, and had all names."""
    return model.get("poisoned_concepts_known", model["poisoned_concept_count"] is not None)


def known_benign(model: dict[str, Any]) -> bool:
    """Whether a model of ``evaluation.json`` is known to have no poison: an attack that aims at no concept has C_P = 0
    as well. Evaluations of earlier releases do not say it of a model without poison."""
    return model.get("poisoned", model["poisoned_concept_count"] != 0) is False


def summary_of(
    metric: Metric, values: np.ndarray | None, members: dict[str, np.ndarray | None]
) -> dict[str, Any] | None:
    """Mean and intervals, of a metric of concepts for each group of them; None where there are no values.

    Args:
        values: fp64 ``[seeds, concepts]``, or pairs of concepts; None where the metric was not measured. NaN for a
            concept of which the metric says nothing: it counts in no group.
    """
    if not metric.by_group:
        return None if values is None else interval(values)
    unknown = dict.fromkeys(members)
    if values is None:
        return unknown
    return unknown | {group: interval(values[:, each]) for group, each in members.items() if each is not None}


def interval(values: np.ndarray) -> dict[str, Any] | None:
    """Mean of ``[seeds, concepts]`` with its t-intervals, over the seeds of the noise and over the concepts.

    Returns:
        ``mean``, ``low`` and ``high`` (over seeds) and ``over_concepts`` with ``low`` and ``high``; bounds are None of
        one seed or one concept, and where all are alike. None without concepts.
    """
    values = values[:, ~np.isnan(values).any(axis=0)]
    if values.shape[1] == 0:
        return None
    over_concepts = t_interval(values.mean(axis=0)).as_json()
    del over_concepts["value"]
    return t_interval(values.mean(axis=1)).as_json("mean") | {"over_concepts": over_concepts}
