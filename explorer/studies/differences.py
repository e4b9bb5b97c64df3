"""How two arms of a study differ, concept by concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explorer.alignment.payload_formats import ALIGNMENT
from explorer.core.intervals import exact_mcnemar, nested_ratio, ratio_of_means, t_interval
from explorer.core.near_names import expected_names
from explorer.evaluation.summary import concepts_known
from explorer.meter.estimates import as_json
from explorer.meter.payload_formats import DENOISING_ERROR, SENSITIVITY
from explorer.meter.payload_formats import METER as METER_FORMAT
from explorer.studies.ordering import (
    ACCURACY,
    OF_METER,
    members_of,
    same_models,
    stored_evaluation,
    stored_result,
)
from explorer.studies.results import METER, SCORES
from explorer.studies.study import Study

BY_CONCEPT = {ACCURACY: "per_concept", "similarity": "similarity_per_concept", "classifier": "classifier_per_concept",
              "broken": "broken_per_concept"}  # fmt: skip
"""What ``evaluation.json`` has of every concept, where it was measured: a quantity, and its key there."""
BESIDE_LABEL_NOISE = f"{SENSITIVITY}_beside_label_noise"
"""The first arm's sensitivity beside the second's times the share of true captions among the first's training pairs:
what mislabelled captions alone would leave of it."""


def difference(
    study: Study, first: str, second: str, *, group: str = "unpoisoned", names: Sequence[str] = ()
) -> dict[str, Any]:
    """What arm ``first`` has more than ``second``, concept by concept, mean and 95 % t-interval over the concepts.

    Args:
        group: of concepts, one of ``GROUPS``.
        names: concepts in place of a group.

    Returns:
        By quantity (``accuracy``, ``similarity``; ``classifier`` and ``broken``, what a classifier takes for what was
        asked and for broken, where one judged; what the meter measured, and its sensitivity beside what mislabelled
        captions alone would leave of the second's, where it is known which of the first's pairs are poison)
        ``value``, ``low``, ``high`` and ``n``, the means of both arms under ``of_arms``, and under ``share`` the first
        as a share of the second, with its interval;
        None where the second's mean is 0. Of ``accuracy`` also ``pictures``: how many, of one concept and noise each,
        the first alone (``rises``) and the second alone (``falls``) has right, and McNemar's exact ``p``; None where
        it is not stored.

    Raises:
        ManifestError: if the step evaluation is not done, or a file was changed.
        ValueError: if there is no such group, arm or concept, or the group has no concept.
    """
    arms, members = _compared_in(study, stored_evaluation(study), (first, second), group, names)
    values = {}
    for name, key in BY_CONCEPT.items():
        stored = [arm.get(key) for arm in arms]
        if None not in stored:
            values[name] = [[of_arm[each] for each in members if stored[1][each] is not None] for of_arm in stored]
    values |= _metered(study, first, second, members)
    found = {name: _compared(*pair) for name, pair in values.items() if pair[0]}
    if ACCURACY in found:
        found[ACCURACY]["pictures"] = _pictures(*arms, members)
    told = {"names": list(members)} if names else {"group": group}
    return {"study": study.name, "arms": [first, second], **told, "differences": found}


def why_not_pooled(studies: Sequence[Study], arms: Sequence[str]) -> str | None:
    """Why studies are no training runs of one recipe, evaluated alike; None where nothing known speaks against it.

    Args:
        studies: evaluated, with these arms.
        arms: names of those that are compared.

    Raises:
        ManifestError: as :func:`difference`.
    """
    for study, same in zip(studies, same_models(studies, arms), strict=True):
        for arm, other in same.items():
            return f"{arm} of {study.name} is the same model as {other}, no training run of its own"
    conditions = [_conditions(stored_evaluation(study), arms) for study in studies]
    for name in conditions[0]:
        known = [(study.name, each[name]) for study, each in zip(studies, conditions, strict=True)
                 if each[name] is not None]  # fmt: skip
        if other := next((each for each in known if each[1] != known[0][1]), None):
            return f"{name} is {known[0][1]} in {known[0][0]} and {other[1]} in {other[0]}"
    return None


def _conditions(evaluation: dict[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    """What studies have in common that differ by their training runs alone; None where it is not recorded."""
    readers = evaluation.get("readers") or {}
    models = {model["name"]: model for model in evaluation["models"]}
    return {
        **{name: evaluation.get(name) for name in ("prompt", "steps", "guidance_scale")},
        "the extractor that judges": (readers.get("extractor") or {}).get("identity"),
        "the classifier that judges": (readers.get("classifier") or {}).get("sha256"),
        **{f"from_scratch of {arm}": models[arm].get("from_scratch") for arm in arms},
    }


def over_studies(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same over several studies, each a training run of its own: the mean of their differences and of their shares,
    with 95 % t-intervals over the studies.

    Args:
        found: what :func:`difference` said of each, of the same arms and concepts.

    Returns:
        By quantity ``value``, ``low``, ``high``, ``n`` (studies) and ``share`` (None where a study has none); of the
        quantities that every study has.
    """

    def over(values: list[float]) -> dict[str, Any]:
        return as_json(t_interval(values))

    pooled = {}
    for name in found[0]["differences"]:
        of_each = [each["differences"].get(name) for each in found]
        if None not in of_each:
            shares = [value["share"] for value in of_each]
            share = None if None in shares else over([each["value"] for each in shares])
            pooled[name] = over([value["value"] for value in of_each]) | {"share": share}
    return pooled


def nested_share(
    studies: Sequence[Study], first: str, second: str, *, group: str = "unpoisoned", names: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The mean over studies, each a training run, of arm ``first``'s accuracy as a share of ``second``'s, with a 95 %
    interval of a bootstrap over runs, the concepts in them and the noises (:func:`nested_ratio`): Student's over the
    runs' shares alone takes each as known, and is of few runs wide.

    Args:
        studies: evaluated, with these arms.
        group: of concepts, as :func:`difference` takes it.
        names: concepts in place of a group.

    Returns:
        ``value``, ``low`` and ``high``, ``runs``, and ``noises_shared``: whether all runs drew with the same noises,
        which are then drawn anew together; None where a study does not say what each noise drew (``right_by_seed``),
        or a second arm draws nothing right.

    Raises:
        ManifestError: as :func:`difference`.
        ValueError: as :func:`difference`.
    """
    shares: tuple[list[Any], list[Any]] = ([], [])
    noises = set()
    for study in studies:
        evaluation = stored_evaluation(study)
        arms, members = _compared_in(study, evaluation, (first, second), group, names)
        if not all("right_by_seed" in model for model in arms):
            return None
        for kept, model in zip(shares, arms, strict=True):
            kept.append([model["right_by_seed"][name] for name in sorted(members)])  # as `training-runs` draws them
        noises.add(tuple(evaluation["seeds"]))
    if any(not np.sum(reference) for reference in shares[1]):
        return None
    found = nested_ratio(*shares, noises_shared=len(noises) == 1)
    return found.as_json() | {"runs": len(studies), "noises_shared": len(noises) == 1}


def _compared_in(
    study: Study, evaluation: dict[str, Any], arms: Sequence[str], group: str, names: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The models of an evaluation that are called ``arms``, and the concepts on which they are compared.

    Raises:
        ValueError: if there is no such group, arm or concept, or the group has no concept.
    """
    models = {model["name"]: model for model in evaluation["models"]}
    if unknown := [name for name in arms if name not in models]:
        raise ValueError(f"no evaluated arm is called {unknown[0]!r}: expected one of {', '.join(models)}")
    found, concepts = [models[name] for name in arms], evaluation["concepts"]
    members = _chosen(concepts, names) if names else _members(concepts, group, found)
    if not members:
        raise ValueError(f"no concept of {study.name} is {group}: expected a group with concepts")
    return found, members


def _compared(first: list[float], second: list[float]) -> dict[str, Any]:
    share = as_json(ratio_of_means(first, second)) if np.mean(second) > 0 else None
    return as_json(t_interval(np.subtract(first, second))) | {
        "of_arms": [float(np.mean(first)), float(np.mean(second))], "share": share,
    }  # fmt: skip


def _pictures(first: dict[str, Any], second: dict[str, Any], members: Sequence[str]) -> dict[str, Any] | None:
    if not all("right_by_seed" in model for model in (first, second)):
        return None
    rights = [np.array([model["right_by_seed"][name] for name in members], dtype=bool) for model in (first, second)]
    rises, falls = (int((one & ~other).sum()) for one, other in (rights, rights[::-1]))
    return {"rises": rises, "falls": falls, "p": exact_mcnemar(rises, falls)}


def _metered(study: Study, first: str, second: str, members: Sequence[str]) -> dict[str, list[list[float]]]:
    if (meter := stored_result(study, METER, METER_FORMAT.name)) is None:
        return {}
    METER_FORMAT.checked(meter)
    metered = {model["name"]: model["measures"] for model in meter["models"]}
    places = [at for at, concept in enumerate(meter["concepts"]) if concept["concept"] in members]
    values = {}
    for name in (*OF_METER, DENOISING_ERROR) if first in metered and second in metered and places else ():
        if all(metered[arm].get(name) for arm in (first, second)):
            of_arms = [metered[arm][name]["per_concept"] for arm in (first, second)]
            values[name] = [[of_arm[at] for at in places] for of_arm in of_arms]
    if SENSITIVITY in values and (shares := _true_shares(study, first)) is not None:
        known = [(one, other * share) for one, other, share in
                 zip(*values[SENSITIVITY], (shares.get(meter["concepts"][at]["concept"]) for at in places), strict=True)
                 if share is not None]  # fmt: skip
        values[BESIDE_LABEL_NOISE] = [[pair[side] for pair in known] for side in (0, 1)]
    return values


def _true_shares(study: Study, arm: str) -> dict[str, float | None] | None:
    """As the step scores says them of the arm's pairs; None where it does not."""
    alignment = stored_result(study, SCORES, ALIGNMENT.name)
    sets = [] if alignment is None else ALIGNMENT.checked(alignment)["sets"]
    return next((each.get("true_shares") for each in sets if each["name"] == arm), None)


def _chosen(concepts: list[dict[str, Any]], names: Sequence[str]) -> list[str]:
    known = [concept["concept"] for concept in concepts]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no evaluated concept is called {unknown[0]!r}: expected {expected_names(unknown[0], known)}")
    return [name for name in known if name in names]


def _members(concepts: list[dict[str, Any]], group: str, arms: list[dict[str, Any]]) -> list[str]:
    members = members_of(concepts, group)
    unknown = [arm["name"] for arm in arms if not concepts_known(arm)]
    if unknown and group not in ("all", "pool"):
        raise ValueError(f"it is not recorded which concepts {unknown[0]} poisons: expected the group all or pool")
    return members
