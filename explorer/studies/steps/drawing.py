"""What the steps that draw have in common: how models are asked, by which seeds, and of which world they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.core.poison_record import PoisonRecord
from explorer.iconworld.world import World
from explorer.studies.arms import in_order
from explorer.studies.inputs import StudyInputs

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.studies.steps.step import StepWork

PICTURE = "picture"


def drawing_settings(inputs: StudyInputs) -> dict[str, Any]:
    """How every model is asked, but for the seeds."""
    study = inputs.study
    return {
        "steps": study.steps, "guidance_scale": study.guidance_scale, "size": study.size,
        "precision": inputs.precision,
    }  # fmt: skip


def usable_poison(inputs: StudyInputs) -> list[PoisonRecord]:
    """What is known of the poison of every arm whose checkpoint can be used."""
    records = []
    for arm in inputs.study.arms:
        try:
            records.append(inputs.checkpoint(arm).poison)
        except (ValueError, OSError):
            continue
    return records


def models_of(work: StepWork) -> list[Checkpoint]:
    """The checkpoints of the arms that are made, as columns stand."""
    return in_order(work.study, [work.inputs.checkpoint(work.arm(name)) for name in work.arms])


def painted_world(inputs: StudyInputs) -> World | None:
    """The world whose concepts the study's are, as a checkpoint records it: its scenes can be painted; else None."""
    for arm in inputs.study.arms:
        try:
            recorded = inputs.checkpoint(arm).config.get("world")
        except (ValueError, OSError):
            continue
        if isinstance(recorded, dict):
            world = World.from_config(recorded)
            if world.concept_list() == inputs.concepts:
                return world
    return None
