"""What the steps that draw have in common: how models are asked, by which seeds, and of which world they are."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from explorer.core.poison_record import poisoned_from
from explorer.evaluation.summary import names_known
from explorer.iconworld.world import World
from explorer.pairs.concept_list import POOL
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


def concepts_spared(inputs: StudyInputs) -> list[str]:
    """Concepts outside the pool that no arm's poison aims at, in the list's order.

    Raises:
        ValueError: naming an arm of which it is not recorded which concepts its poison aims at.
    """
    if unknown := [name for name, record in inputs.poison.items() if not names_known(record)]:
        raise ValueError(
            f"it is not recorded which concepts the poison of {unknown[0]} aims at: expected its checkpoint or its "
            "pairs to say it, or a table poison of the arm in study.toml"
        )
    aimed_at = poisoned_from(inputs.poison.values()).keys() | set(inputs.concepts.of_group(POOL))
    return [name for name in inputs.concepts.names if name not in aimed_at]


def models_of(work: StepWork) -> list[Checkpoint]:
    """The checkpoints of the arms that are made, as columns stand."""
    return in_order(work.study, [work.inputs.checkpoint(work.arm(name)) for name in work.arms])


def painted_world(inputs: StudyInputs) -> World | None:
    """The world whose concepts the study's are, as a checkpoint records it: its scenes can be painted; else None."""
    for checkpoint in _at_hand(inputs):
        recorded = checkpoint.config.get("world")
        if isinstance(recorded, dict):
            world = World.from_config(recorded)
            if world.concept_list() == inputs.concepts:
                return world
    return None


def whether_painted(inputs: StudyInputs) -> bool:
    """Whether there is a :func:`painted_world`.

    Raises:
        FileNotFoundError: if no checkpoint of the study is at hand, so that nothing says it.
    """
    if not _at_hand(inputs):
        raise FileNotFoundError("no checkpoint of the study is here to say whether its concepts can be painted")
    return painted_world(inputs) is not None


def _at_hand(inputs: StudyInputs) -> list[Checkpoint]:
    """The arms' checkpoints that can be used."""
    found = []
    for arm in inputs.study.arms:
        with suppress(ValueError, OSError):
            found.append(inputs.checkpoint(arm))
    return found
