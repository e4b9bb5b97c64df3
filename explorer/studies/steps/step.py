"""What a step is: what decides it, what it is made from, how much it is, and how it is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import hash_json
from explorer.core.workers import ALONE, Workers
from explorer.studies.finished_arms import FinishedArms
from explorer.studies.inputs import StudyInputs
from explorer.studies.study import Arm, Study


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """One run of a step."""

    inputs: StudyInputs
    """What the study's steps are made from."""
    settings: dict[str, Any]
    """As the step's manifest is to say."""
    shared: dict[str, str]
    """Inputs of all arms, by name."""
    arms: dict[str, dict[str, str]]
    """Arm to its own inputs: those that can be made, in the study's order."""
    kept: dict[str, dict[str, str]]
    """Arm to its recorded inputs: those whose results are there and still hold; only of a step ``by_arm``."""
    device: str = "cpu"
    """Torch device."""
    processes: int = 1
    """Processes that embed the pairs of sources."""
    workers: Workers = ALONE
    """Processes that a launcher started: they draw."""
    on_progress: OnProgress = unheard
    failed: dict[str, str] = field(default_factory=dict)
    """Arm to what went wrong; filled in."""
    started: float = field(default_factory=time.monotonic)
    """When the work began."""

    @property
    def study(self) -> Study:
        """The study itself."""
        return self.inputs.study

    def arm(self, name: str) -> Arm:
        """The study's arm of that name."""
        return self.study.arm(name)

    def inputs_of(self, arms: Iterable[str]) -> dict[str, str]:
        """What the manifest is to say of these arms, which were made or kept, and of what they share."""
        own = self.kept | self.arms
        return self.shared | {name: value for arm in arms for name, value in own[arm].items()}

    def finished_in(self, folder: Path) -> FinishedArms:
        """The arms among those to be made that a run which was cut off has finished in ``folder``, which is told."""
        decided = [self.settings, self.shared]
        finished = FinishedArms(folder, {name: hash_json([*decided, own]) for name, own in self.arms.items()})
        if names := [name for name in self.arms if name in finished]:
            self.on_progress(note(f"finished before the last run was cut off: {', '.join(names)}"))
        return finished

    def cost(self, units: int) -> dict[str, float]:
        """What this work took so far, for the next estimate."""
        return {"seconds": time.monotonic() - self.started, "units": units}

    def fails(self, arm: str, error: Exception) -> None:
        """The arm is left out; the others go on."""
        self.failed[arm] = str(error)
        self.on_progress(note(f"arm {arm} failed: {error}"))


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of results of a study.

    ``settings``, ``shared`` and ``of_arm`` raise ValueError or OSError, saying what is needed, where there is none.
    """

    name: str
    """One of ``STEPS`` of ``explorer/studies/results.py``."""
    unit: str
    """What is counted, in the singular."""
    settings: Callable[[StudyInputs], dict[str, Any]]
    """What of study.toml, and of what an earlier step chose, decides the results; JSON-serialisable."""
    shared: Callable[[StudyInputs], dict[str, str]]
    """Inputs that all arms share, name to fingerprint."""
    of_arm: Callable[[StudyInputs, Arm], dict[str, str]]
    """Inputs of one arm, each named after it."""
    amount: Callable[[StudyInputs, Arm], int | None]
    """Units of one arm; None where nobody knows it beforehand."""
    make: Callable[[StepWork], None]
    """Writes the step's results."""
    by_arm: bool = False
    """Whether an arm's results stay where another's are made anew."""
    after: str | None = None
    """The step that has to be done for an arm before this one."""
    waits: Callable[[StudyInputs], bool] = lambda inputs: True
    """Whether it has to, in this study."""
