"""A study's meter as the screens show it: how much each model still listens to the words of its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.alignment.payload_formats import ALIGNMENT
from explorer.core.provenance import ManifestError
from explorer.meter.payload_formats import GUIDANCE, METER, SENSITIVITY
from explorer.pairs.concept_list import POOL
from explorer.studies.results import METER as STEP
from explorer.studies.results import SCORES
from explorer.ui.shell.study_poison import with_aims

if TYPE_CHECKING:
    from explorer.ui.shell.open_study import OpenStudy

FACTS = ("reference", "shown", "timesteps", "draws", "seed", "template", "concepts")
SHOWN_MEASURES = (SENSITIVITY, GUIDANCE)


def study_meter(opened: OpenStudy) -> dict[str, Any]:
    """``meter.json`` without what no screen shows, its models by C_P, those whose C_P nobody recorded last.

    Of every model what its poison aims at (:func:`~explorer.ui.shell.study_poison.with_aims`), and of each of
    sensitivity and guidance, ``groups`` (a group's name to its ``mean`` and its ratio ``relative`` to the reference,
    each with a 95 % interval over concepts; None where the group has no concepts) and ``heard``, the ratio concept by
    concept, in the order of ``concepts``; None where there is no reference of the same kind. A measure that the meter
    could not read is absent, and ``not_measured`` says why. ``label_noise`` has, by group, what mislabelled captions
    alone would leave of the reference's sensitivity (:func:`~explorer.meter.label_noise.true_shares`); None where the
    study does not say which captions are.

    Raises:
        MissingStepError: if the study has not measured it.
        ManifestError: if the file is changed or of another version.
    """
    hint = f"Run `{opened.result_command(STEP)}`."
    report = METER.checked(opened.result_json(STEP, METER.name), hint)
    shares = _true_shares(opened)
    models = [_model(model) | {"label_noise": _label_noise(report, model, shares)} for model in report["models"]]
    models.sort(key=lambda model: (model["poisoned_concept_count"] is None, model["poisoned_concept_count"] or 0))
    return {**{name: report[name] for name in FACTS}, "models": with_aims(opened, models)}


def _model(model: dict[str, Any]) -> dict[str, Any]:
    measures = {name: _measure(model["measures"][name]) for name in SHOWN_MEASURES if name in model["measures"]}
    told = {name: model[name] for name in ("name", "poisoned", "poisoned_concept_count", "not_measured")}
    return told | {"measures": measures}


def _true_shares(opened: OpenStudy) -> dict[str, dict[str, float | None]]:
    """Arm to concept to share, as the step scores has them."""
    try:
        sets = ALIGNMENT.checked(opened.result_json(SCORES, ALIGNMENT.name))["sets"]
    except ManifestError:
        return {}
    return {each["name"]: each["true_shares"] for each in sets if "true_shares" in each}


def _label_noise(
    report: dict[str, Any], model: dict[str, Any], shares: dict[str, dict[str, float | None]]
) -> dict[str, float] | None:
    reference = next((each for each in report["models"] if each["name"] == report["reference"]), None)
    found, left = model["measures"].get(SENSITIVITY), {}
    if model is reference or model["name"] not in shares or not found or found["relative"] is None:
        return None
    heard = reference["measures"][SENSITIVITY]["per_concept"]
    for name in ("all", "unpoisoned"):
        known = [
            (amplitude, share)
            for amplitude, concept in zip(heard, report["concepts"], strict=True)
            if (share := shares[model["name"]].get(concept["concept"])) is not None
            and (name == "all" or (concept["group"] != POOL and concept["poisoned_from"] is None))
        ]
        if found["groups"].get(name) is not None and (whole := sum(amplitude for amplitude, _ in known)):
            left[name] = sum(amplitude * share for amplitude, share in known) / whole
    return left


def _measure(measure: dict[str, Any]) -> dict[str, Any]:
    groups = {
        name: None if group is None else {"mean": group["mean"], "relative": group["relative"]}
        for name, group in measure["groups"].items()
    }
    return {"groups": groups, "heard": measure["relative"]}


def word_sensitivity(model: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    """Of a model of :func:`study_meter`: the one number that stands for it, with what label noise alone would leave,
    and the concepts that it is over.

    They are those that no poison targets; all, where it is not recorded which those are. None where its sensitivity
    was not measured.
    """
    groups = model["measures"].get(SENSITIVITY, {}).get("groups", {})
    for name, words in (("unpoisoned", "nouns not targeted"), ("all", "all nouns")):
        if groups.get(name) is not None:
            return groups[name] | {"label_noise": (model["label_noise"] or {}).get(name)}, words
    return None
