"""What graphs and filters share: a folder for each arm, made of its pairs and their scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import named
from explorer.studies.results import SCORES, step_folder, writing_step
from explorer.studies.steps.scores import SEED, scores_identity
from explorer.studies.steps.step import StepWork
from explorer.studies.study import Arm


def scored_arm(inputs: StudyInputs, arm: Arm) -> dict[str, str]:
    """As inputs of the arm: its pairs and their scores."""
    return inputs.of_pairs(arm) | {named(SCORES, arm.name): scores_identity(inputs.study, arm.name)}


def make_arm_folders(work: StepWork, step: str, make_arm: Callable[[str, Path], int], unmade: str) -> None:
    """Every arm in turn, a folder each; those that still hold are taken over, and so are those that a run which was cut
    off has finished.

    Args:
        make_arm: writes an arm's files to the folder, and returns how many units they are of. Of a ValueError or an
            OSError the arm is left out, with what was written of it.
        unmade: said where no arm could be made.

    Raises:
        ValueError: if no arm could be made.
    """
    with writing_step(
        work.study, step, settings=work.settings, inputs=(inputs := {}), seed=SEED, work=(cost := {}), goes_on=True
    ) as folder:  # fmt: skip
        finished, done, units = work.finished_in(folder), [], 0
        for name in work.kept:
            shutil.copytree(step_folder(work.study, step) / name, folder / name)
            done.append(name)
        for name in work.arms:
            try:
                if name not in finished:
                    units += make_arm(name, folder / name)
                    finished.add(name, folder / name)
                done.append(name)
            except (ValueError, OSError) as error:
                shutil.rmtree(folder / name, ignore_errors=True)
                work.fails(name, error)
        if not done:
            raise ValueError(unmade)
        inputs |= work.inputs_of(done)
        cost |= work.cost(units)
