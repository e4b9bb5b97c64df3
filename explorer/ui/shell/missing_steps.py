"""What a study has not measured: in words, with the command that does it and roughly what it costs."""

from __future__ import annotations

import math
from pathlib import Path

from explorer.core.provenance import ManifestError
from explorer.studies.results import (
    COMPARISON,
    EVALUATION,
    FILM_STRIP,
    FILTERS,
    GRAPHS,
    METER,
    PICTURES,
    RETRAINED,
    SCORES,
    command_line,
)
from explorer.studies.state import CANNOT, StepState
from explorer.studies.study import Study

MADE = {
    SCORES: "Alignment Difficulty of every arm's training pairs, and each pair's own share of it",
    GRAPHS: "which captions and which pictures of the training pairs are near one another",
    FILTERS: "which training pairs a filter would remove, and what that costs",
    PICTURES: "what every arm's model draws of every concept",
    EVALUATION: "how well the arms' models draw every concept",
    FILM_STRIP: "the same concepts drawn by the models of all arms",
    COMPARISON: "one prompt drawn by several models",
    RETRAINED: "what models draw that were trained on what a filter leaves",
    METER: "how much every arm's model still listens to the words of its prompt",
}
"""What a screen shows of each step."""
MINUTE = 60


SCANNED = "This is a folder of checkpoints. A study of them holds their results and names their pairs:"


class MissingStepError(ManifestError):
    """A step's results are not there."""

    def __init__(self, study: str, step: str, command: str):
        """Say what does it.

        Args:
            study: its name.
            command: that does the step.
        """
        self.step, self.command = step, command
        super().__init__(f"{study} has not measured {MADE[step]}: run `{command}`")


def study_command(study: Study) -> str:
    """The command that makes a study of a folder of checkpoints."""
    return command_line("new", "STUDY", "--checkpoint", f"{shown_folder(study)}/*")


def run_command(study: Study, *steps: str) -> str:
    """The command that does some steps, as it is typed where the app was started."""
    return command_line("run", shown_folder(study), *steps)


def shown_folder(study: Study) -> str:
    """The study's folder as a command names it: relative where that is no way up."""
    here = Path.cwd()
    return str(study.folder.relative_to(here) if study.folder.is_relative_to(here) else study.folder)


def what_lacks(state: StepState) -> str:
    """What must be there before a step can be done, of the arms that cannot; empty where nothing is missing."""
    if state.state == CANNOT and state.why:
        return f"It cannot be done yet: {state.why}."
    reasons = {arm.arm: arm.why for arm in state.arms if arm.state == CANNOT}
    return f"Left out: {'; '.join(f'{arm} ({why})' for arm, why in reasons.items())}." if reasons else ""


def what_it_costs(state: StepState) -> str:
    """How much is left, and how long that takes by the rate of an earlier run, where there was one."""
    if not state.amount:
        return ""
    units = f"{state.amount:,} {state.unit}{'' if state.amount == 1 else 's'}"
    if state.seconds is None:
        return f"{units}; how long that takes here is known after the first run."
    minutes = math.ceil(state.seconds / MINUTE)
    return f"{units}, about {minutes} minute{'' if minutes == 1 else 's'} by the rate of the last run."
