"""``explorer study calibrate``: the feature range of a study's open_clip model, found on its control's pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import tomlkit

from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import replacing
from explorer.studies.arm_opening import open_arm_pairs
from explorer.studies.extractors import load_extractor
from explorer.studies.inputs import StudyInputs
from explorer.studies.kept_pictures import FEATURES_FOLDER
from explorer.studies.study import STUDY_NAME, Arm, Study


def calibrate_study(study: Study, device: str = "cpu", on_progress: OnProgress = unheard) -> dict[str, Any]:
    """Write ``feature_range`` into ``study.toml``, whose comments stay; pairs that are embedded for it are kept.

    Returns:
        JSON-serialisable: the control's name as ``arm``, and what
        :func:`~explorer.alignment.calibration.calibrate_features` returns.

    Raises:
        ValueError: if the extractor has a range or is none of open_clip's, no control with pairs is named, or its
            benign pairs are fewer than two or all alike.
    """
    from explorer.alignment.calibration import calibrate_features

    control = _check(study)
    extractor = load_extractor(study.extractor, device)
    study.results.mkdir(parents=True, exist_ok=True)
    with locked(study.results):
        pairs = open_arm_pairs(
            control, extractor, StudyInputs(study).concept_names, study.folder / FEATURES_FOLDER,
            on_progress=on_progress,
        )  # fmt: skip
        benign = np.zeros(len(pairs), bool)
        benign[pairs.training_rows] = ~pairs.flags.poisoned[pairs.training_rows]
        found = calibrate_features(*pairs.features(), pairs.flags, benign)
        _write_range(study, found["feature_range"])
    return {"arm": control.name, **found}


def _check(study: Study) -> Arm:
    """The control, where everything that is needed is there."""
    if study.extractor.open_clip is None:
        raise ValueError("the study's extractor is none of open_clip's: expected open_clip and weights in study.toml")
    if study.extractor.feature_range is not None:
        raise ValueError(
            f"feature_range is {list(study.extractor.feature_range)} in study.toml already: take it out to find it anew"
        )
    if study.control is None or study.control.pairs is None:
        raise ValueError(
            "no arm with pairs is the control: expected control = true in the table of the benign one in study.toml"
        )
    return study.control


def _write_range(study: Study, feature_range: list[float]) -> None:
    """Into the file as it is, since a person may have written comments there."""
    path = study.folder / STUDY_NAME
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document["extractor"]["feature_range"] = feature_range
    with replacing(path) as temporary:
        temporary.write_text(tomlkit.dumps(document), encoding="utf-8")
