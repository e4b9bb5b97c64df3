"""Which concepts the poison of each of a study's models aims at, as far as it is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from explorer.core.poison_record import NOT_RECORDED, PoisonRecord
from explorer.evaluation.summary import names_known
from explorer.studies.arms import known_poison

if TYPE_CHECKING:
    from explorer.ui.shell.open_study import OpenStudy


def model_poison(opened: OpenStudy) -> dict[str, PoisonRecord]:
    """Of every arm, by name, as when the checkpoints were read; of a folder without a study of every checkpoint."""
    found = {checkpoint.name: checkpoint.poison for checkpoint in opened.registry()}
    if opened.scanned:
        return found
    return found | {arm.name: known_poison(arm) for arm in opened.study.arms if arm.name not in found}


def with_aims(opened: OpenStudy, models: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Models of a result, with ``poisoned_concepts``, the concepts that their poison aims at by name, and
    ``poisoned_concepts_known``, whether that is all of them. Results say from which C_P on a concept is poisoned, which
    tells what a model was shown in nested sweeps alone."""
    records = model_poison(opened)
    return [{**model, **_aims(records.get(model["name"], NOT_RECORDED))} for model in models]


def _aims(poison: PoisonRecord) -> dict[str, Any]:
    return {"poisoned_concepts": list(poison.names), "poisoned_concepts_known": names_known(poison)}
