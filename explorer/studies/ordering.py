"""Which number orders the arms of studies as their damage does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.alignment.payload_formats import ALIGNMENT
from explorer.core.intervals import rank_correlation
from explorer.core.poison_record import poison_share
from explorer.core.provenance import MANIFEST_NAME
from explorer.evaluation.config import EVALUATION_NAME
from explorer.evaluation.summary import concepts_known
from explorer.meter.estimates import as_json
from explorer.meter.payload_formats import GUIDANCE, SENSITIVITY
from explorer.meter.payload_formats import METER as METER_FORMAT
from explorer.studies.results import EVALUATION, METER, SCORES, result_file, step_folder
from explorer.studies.study import Study

ACCURACY = "accuracy"
OF_PAIRS = ("poison_share", "ad", "feature_ad", "structure_ad", "local_ad", "local_feature_ad", "local_structure_ad",
            "picture_scatter")  # fmt: skip
POISONED_CONCEPTS = "poisoned_concepts"
"""C_P, which says of a model, as what is of its pairs, what was done to it."""
OF_METER = (SENSITIVITY, GUIDANCE)
OF_LAYER = " of "
"""Between a quantity and the attention layer that it is of."""
GROUPS = ("all", "pool", "poisoned", "unpoisoned")


def ordering(
    studies: Sequence[Study], *, outcome: str = ACCURACY, group: str = "unpoisoned", without: Sequence[str] = (),
    alpha: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What was measured of every arm, and Spearman's correlation of each quantity with one of them.

    Args:
        outcome: the damage: any quantity that the step evaluation gives, or the meter's ``sensitivity`` or
            ``guidance``.
        group: of concepts, one of ``GROUPS``: what evaluation and meter say of these.
        without: names of arms that do not count, in whichever study.
        alpha: another weight of feature AD, from 0 to 1, for AD and local AD from their stored parts, which then stand
            beside those of the stored weight, as ``ad at alpha 0.5``; None for none.

    Returns:
        ``arms``: for each ``study``, ``arm`` and ``values`` by quantity (None where it is not measured); ``left_out``:
        ``study`` and ``arm`` of those with the weights of an arm of a study before theirs, and that one as ``same_as``:
        a model counts once; ``unknown``: ``study`` and ``arm`` of those without the outcome because it is not recorded
        which concepts they poison;
        ``correlations``: by quantity ``value``, ``low``, ``high`` (95 %, over arms) and ``n``, the arms that have both;
        None where fewer than two have them, or one of the two does not vary.

    Raises:
        ManifestError: if the step evaluation of a study is not done, or a file was changed.
        ValueError: if a study is given twice, there is no such group, no study has an arm that is not to count, no
            arm or one alone has the outcome, or alpha is no weight.
    """
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}: expected a weight from 0 to 1")
    if group not in GROUPS:
        raise ValueError(f"group is {group!r}: expected one of {', '.join(GROUPS)}")
    check_each_once(studies)
    repeated = same_models(studies)
    left_out = [{"study": study.name, "arm": name, "same_as": other}
                for study, same in zip(studies, repeated, strict=True) for name, other in same.items()]  # fmt: skip
    arms = [{"study": study.name, "arm": name, "values": values | _weighed(values, alpha)}
            for study, same in zip(studies, repeated, strict=True)
            for name, values in _measured(study, group).items() if name not in same]  # fmt: skip
    if unknown := set(without) - {arm["arm"] for arm in arms}:
        known = ", ".join(dict.fromkeys(arm["arm"] for arm in arms))
        raise ValueError(f"no evaluated arm is called {min(unknown)!r}: expected some of {known}")
    arms = [arm for arm in arms if arm["arm"] not in without]
    names = list(dict.fromkeys(name for arm in arms for name in arm["values"]))
    having = [arm for arm in arms if arm["values"].get(outcome) is not None]
    unknown = _unknown(studies, [arm for arm in arms if arm not in having], group)
    if not having:
        raise ValueError(_why_no_outcome(studies, arms, outcome, group))
    if len(having) < 2:
        why = f"; {not_recorded(len(unknown))}" if unknown else ": expected two arms or more that have it"
        raise ValueError(f"1 of {len(arms)} arms has {outcome!r} of the {group} concepts{why}")
    correlations = {name: _correlation(arms, name, outcome) for name in names if name != outcome}
    return {"outcome": outcome, "group": group, "arms": arms, "left_out": left_out, "unknown": unknown,
            "correlations": correlations}  # fmt: skip


def not_recorded(arms: int) -> str:
    """What is said of so many arms whose poisoned concepts nobody recorded."""
    verb = "poisons" if arms == 1 else "poison"
    return f"it is not recorded which concepts {arms} of them {verb}: expected the group all or pool"


def _unknown(studies: Sequence[Study], arms: list[dict[str, Any]], group: str) -> list[dict[str, str]]:
    """Those of the arms of which nobody can say which concepts are of the group."""
    if group in ("all", "pool"):
        return []
    silent = {(study.name, model["name"]) for study in studies for model in stored_evaluation(study)["models"]
              if not concepts_known(model)}  # fmt: skip
    found = [{"study": arm["study"], "arm": arm["arm"]} for arm in arms]
    return [each for each in found if (each["study"], each["arm"]) in silent]


def check_each_once(studies: Sequence[Study]) -> None:
    """Refuse a study that is given twice: what it measured would count as if it had been measured again.

    Raises:
        ValueError: naming its folder.
    """
    seen: set[Path] = set()
    for study in studies:
        if (folder := study.folder.resolve()) in seen:
            raise ValueError(f"the study {folder} is given twice: expected each once")
        seen.add(folder)


def same_models(studies: Sequence[Study], arms: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Of each study the evaluated arms that have the weights of an arm of a study before it, which stands beside their
    name as ``benign of seed-4``. Of models without recorded weights nothing is known.

    Args:
        arms: names of those that are looked at; None for all.

    Raises:
        ManifestError: as :func:`stored_evaluation`.
    """
    seen: dict[str, str] = {}
    found = []
    for study in studies:
        models = [each for each in stored_evaluation(study)["models"] if arms is None or each["name"] in arms]
        found.append({each["name"]: seen[each["weights"]] for each in models if each["weights"] in seen})
        seen = {each["weights"]: f"{each['name']} of {study.name}" for each in models if each["weights"]} | seen
    return found


def members_of(concepts: list[dict[str, Any]], group: str) -> list[str]:
    """Names of the concepts of ``evaluation.json`` that are of a group.

    Raises:
        ValueError: if there is no such group.
    """

    def belongs(concept: dict[str, Any]) -> bool:
        targeted, pool = concept["poisoned_from"] is not None, concept["group"] == "pool"
        return {"all": True, "pool": pool, "poisoned": targeted, "unpoisoned": not (targeted or pool)}[group]

    if group not in GROUPS:
        raise ValueError(f"group is {group!r}: expected one of {', '.join(GROUPS)}")
    return [concept["concept"] for concept in concepts if belongs(concept)]


def _why_no_outcome(studies: Sequence[Study], arms: list[dict[str, Any]], outcome: str, group: str) -> str:
    """What is said where no arm has the outcome: the groups that have it, or what else was measured of this one."""
    there = any(members_of(stored_evaluation(study)["concepts"], group) for study in studies)
    told = f"no arm has {outcome!r} of the {group} concepts" + ("" if there else ", of which there are none")
    measured = {other: [values.get(outcome) for study in studies for values in _measured(study, other).values()]
                for other in GROUPS if other != group}  # fmt: skip
    others = [other for other, values in measured.items() if any(value is not None for value in values)]
    if others:
        return f"{told}: expected a group that has it, {' or '.join(others)}"
    known = dict.fromkeys(name for arm in arms for name, value in arm["values"].items() if value is not None)
    return f"{told}: expected one of {', '.join(known)}"


def _measured(study: Study, group: str) -> dict[str, dict[str, float | None]]:
    """Arm to its quantities, for arms that are evaluated."""
    evaluation = stored_evaluation(study)
    found: dict[str, dict[str, float | None]] = {
        model["name"]: {POISONED_CONCEPTS: model["poisoned_concept_count"]} for model in evaluation["models"]
    }
    if (alignment := stored_result(study, SCORES, ALIGNMENT.name)) is not None:
        for each in ALIGNMENT.checked(alignment)["sets"]:
            if each["name"] in found:
                found[each["name"]] |= _of_pairs(each)
    if (meter := stored_result(study, METER, METER_FORMAT.name)) is not None:
        for model in METER_FORMAT.checked(meter)["models"]:
            if model["name"] in found:
                found[model["name"]] |= {name: _of_meter(model, name, group) for name in OF_METER}
    for model in evaluation["models"]:
        of_groups = {name: value for name, value in model.items() if isinstance(value, dict) and group in value}
        # Evaluations of before layers were measured have none.
        for layer, measured in model.get("by_layer", {}).items():
            of_groups |= {f"{name}{OF_LAYER}{layer}": value for name, value in measured.items() if group in value}
        found[model["name"]] |= {name: None if value[group] is None else value[group]["mean"]
                                 for name, value in of_groups.items()}  # fmt: skip
    return found


def _of_pairs(measured: dict[str, Any]) -> dict[str, float | None]:
    known = measured["alignment_difficulty"] | (measured.get("local") or {})
    share = poison_share(measured, "pairs", poisoned=False if measured["poisoned_concept_count"] == 0 else None)
    return {name: known.get(name) for name in OF_PAIRS} | {"poison_share": share}


def _weighed(values: dict[str, float | None], alpha: float | None) -> dict[str, float | None]:
    """AD and local AD at another weight of their feature parts; None where a part was not measured. Without a weight
    nothing."""
    found = {}
    for name in ("", "local_") if alpha is not None else ():
        parts = [values.get(f"{name}{part}_ad") for part in ("feature", "structure")]
        weighed = None if None in parts else alpha * parts[0] + (1 - alpha) * parts[1]
        found[f"{name}ad at alpha {alpha:g}"] = weighed
    return found


def _of_meter(model: dict[str, Any], name: str, group: str) -> float | None:
    measure = model["measures"].get(name)
    found = None if measure is None else measure["groups"].get(group)
    return None if found is None else found["mean"]["value"]


def _correlation(arms: list[dict[str, Any]], name: str, outcome: str) -> dict[str, Any] | None:
    pairs = [(arm["values"].get(name), arm["values"].get(outcome)) for arm in arms]
    known = [pair for pair in pairs if None not in pair]
    if len(known) < 2 or any(len(set(series)) < 2 for series in zip(*known, strict=True)):
        return None
    return as_json(rank_correlation(*zip(*known, strict=True)))


def stored_evaluation(study: Study) -> dict[str, Any]:
    """``evaluation.json``.

    Raises:
        ManifestError: if the step is not done, or the file was changed.
    """
    return json.loads(result_file(study, EVALUATION, EVALUATION_NAME).read_text(encoding="utf-8"))


def stored_result(study: Study, step: str, name: str) -> dict[str, Any] | None:
    """A step's file; None where the step is not done.

    Raises:
        ManifestError: if it was changed since.
    """
    if not (step_folder(study, step) / MANIFEST_NAME).is_file():
        return None
    return json.loads(result_file(study, step, name).read_text(encoding="utf-8"))
