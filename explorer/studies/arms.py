"""The checkpoints of a study's arms, under the arms' names and with what the study knows of their poison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.core.poison_record import NO_POISON, NOT_RECORDED, TRAININGS, PoisonRecord
from explorer.core.provenance import MANIFEST_NAME, ManifestError, read_manifest
from explorer.studies.study import Arm, Study


def arm_checkpoint(arm: Arm) -> Checkpoint:
    """The arm's checkpoint, whole or with its ``problem``, and the arm's poison (:func:`arm_poison`).

    Raises:
        ValueError: if the arm has no checkpoint.
    """
    if arm.checkpoint is None:
        raise ValueError(f"arm {arm.name} has no checkpoint: expected one in study.toml")
    found = read_checkpoint(arm.checkpoint)
    return replace(found, name=arm.name, poison=arm_poison(arm, found))


def arm_checkpoints(study: Study) -> list[Checkpoint]:
    """Of every arm that has one, in the order of :func:`in_order`."""
    return in_order(study, [arm_checkpoint(arm) for arm in study.arms if arm.checkpoint is not None])


def in_order(study: Study, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The control first, then by C_P and in the study's order; those whose C_P is not recorded last."""

    def place(checkpoint: Checkpoint) -> tuple[bool, bool, int]:
        poison = checkpoint.poison
        return not study.arm(checkpoint.name).control, poison.concept_count is None, poison.order

    return sorted(checkpoints, key=place)


def arm_poison(arm: Arm, checkpoint: Checkpoint | None) -> PoisonRecord:
    """What is known of an arm's poison: as study.toml says, else its checkpoint, else its pair set.

    Where the first that is recorded does not name the concepts, a later one does that agrees in C_P, or where the first
    has none. A control of which nobody recorded it has none.
    """
    records = [arm.poison, NOT_RECORDED if checkpoint is None else checkpoint.poison, pairs_poison(arm.pairs)]
    first, *others = [each for each in records if each.recorded] or [NO_POISON if arm.control else NOT_RECORDED]
    if not first.poisoned or isinstance(first.concepts, tuple) or TRAININGS in first.parameters:
        return first  # of several trainings the pairs of the last one do not tell all concepts
    naming = (each for each in others if each.poisoned and isinstance(each.concepts, tuple))
    return next((each for each in naming if first.concept_count in (None, each.concept_count)), first)


def known_poison(arm: Arm) -> PoisonRecord:
    """:func:`arm_poison` of an arm, whose checkpoint is read where it has one."""
    return arm_poison(arm, None) if arm.checkpoint is None else arm_checkpoint(arm).poison


def pairs_poison(pairs: Path | str | None) -> PoisonRecord:
    """What the manifest of a pair set says of its poison; nothing where it has none that is readable."""
    if not isinstance(pairs, Path) or not (pairs / MANIFEST_NAME).is_file():
        return NOT_RECORDED
    try:
        config = read_manifest(pairs).get("config")
        return PoisonRecord.read(config.get("poison") if isinstance(config, dict) else None)
    except (ManifestError, ValueError):
        return NOT_RECORDED
