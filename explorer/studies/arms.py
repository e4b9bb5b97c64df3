"""The checkpoints of a study's arms, under the arms' names and with what the study knows of their poison."""

from __future__ import annotations

from dataclasses import replace

from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.core.poison_record import NO_POISON
from explorer.studies.study import Arm, Study


def arm_checkpoint(arm: Arm) -> Checkpoint:
    """The arm's checkpoint, whole or with its ``problem``; a control that nobody recorded has no poison.

    Raises:
        ValueError: if the arm has no checkpoint.
    """
    if arm.checkpoint is None:
        raise ValueError(f"arm {arm.name} has no checkpoint: expected one in study.toml")
    found = read_checkpoint(arm.checkpoint)
    poison = arm.poison if arm.poison.recorded else found.poison
    if arm.control and not poison.recorded:
        poison = NO_POISON
    return replace(found, name=arm.name, poison=poison)


def arm_checkpoints(study: Study) -> list[Checkpoint]:
    """Of every arm that has one, the control first, then by C_P and in the study's order."""
    arms = [arm for arm in study.arms if arm.checkpoint is not None]
    found = {arm.name: arm_checkpoint(arm) for arm in arms}
    return sorted(found.values(), key=lambda each: (not study.arm(each.name).control, each.poison.order))
