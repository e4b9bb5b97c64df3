"""Retrained models that a study's results are of and whose weights are no longer there: what was measured stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from explorer.core.bounded_files import parse_json
from explorer.defence.payload_formats import RETRAINED as FORMAT
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import Recorded, differing_names
from explorer.studies.results import RETRAINED, step_folder
from explorer.studies.retraining import RetrainedModel
from explorer.studies.study import Arm, Study

STRIP_NAME = "strip.png"


def gone_models(study: Study, arm: str, models: Iterable[RetrainedModel]) -> list[dict[str, Any]]:
    """What the results say of an arm's models that are not among ``models``, the ones that are there."""
    there = {each.name for each in models}
    return [each for each in _measured(study, arm) if each["name"] not in there]


def can_stay(
    inputs: StudyInputs,
    arm: Arm,
    models: Iterable[RetrainedModel],
    settings: dict[str, Any],
    shared: dict[str, str],
) -> bool:
    """Whether new models can be measured beside those that are gone: there are some, perhaps of names others had, and
    settings, what all arms share and the arm's own model are still what these were measured with."""
    measured = {each["name"]: each for each in _measured(inputs.study, arm.name)}
    recorded = Recorded.read(inputs.study, RETRAINED)
    own = recorded.of_arm(arm.name)
    now = inputs.of_model(arm)
    same = not differing_names({name: own.get(name) for name in now}, now)
    new = not all(_is_of(measured.get(each.name, {}), each) for each in models)
    return same and new and not recorded.changes(settings, shared)


def _is_of(entry: dict[str, Any], model: RetrainedModel) -> bool:
    """Whether a model, not another one of its name, was measured."""
    return all(entry.get(name) == value for name, value in model.record.items() if name != "manifest")


def strip_row(study: Study, row: int, tile: int) -> np.ndarray:
    """uint8 ``[tile, width, 3]``: one row of the strip of the results as they lie there."""
    with Image.open(step_folder(study, RETRAINED) / STRIP_NAME) as strip:
        return np.asarray(strip.convert("RGB"))[row * tile : (row + 1) * tile]


def _measured(study: Study, arm: str) -> list[dict[str, Any]]:
    path = step_folder(study, RETRAINED) / FORMAT.name
    if not path.is_file():
        return []
    found = parse_json(path.read_bytes())["arms"].get(arm, {})
    return [model for kind in ("models", "recovery") for model in found.get(kind, ())]
