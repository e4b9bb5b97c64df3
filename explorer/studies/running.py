"""``explorer study run``: every step that is missing or stale, in order, of every arm that can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.checkpoints.reasons import enough_memory
from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME, ManifestError, check_files
from explorer.core.workers import ALONE, Workers
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import Recorded, arm_named, named
from explorer.studies.results import PICTURES, STEPS, step_folder, step_manifest
from explorer.studies.silent_libraries import silent_libraries
from explorer.studies.state import DONE, MISSING, STALE, UNCHECKED, StepState, study_state
from explorer.studies.steps.listed import STEPS_BY_NAME
from explorer.studies.steps.pictures import NOTHING_LEFT, help_drawing
from explorer.studies.steps.step import Step, StepWork
from explorer.studies.study import Study


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What of a study is to be done, and where."""

    steps: tuple[str, ...] = ()
    """Names of steps; none for all."""
    device: str = "cpu"
    """Torch device."""
    precision: str | None = None
    """Of every network that draws: fp32, fp16 or bf16; without it fp32."""
    processes: int = 1
    """Processes of this machine that embed the pairs of sources, each with its own extractor."""

    def __post_init__(self) -> None:
        if unknown := [step for step in self.steps if step not in STEPS]:
            raise ValueError(f"step is {unknown[0]!r}: expected one of {', '.join(STEPS)}")


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a run did."""

    made: dict[str, tuple[str, ...]]
    """Step to the arms that were made."""
    failed: dict[str, str]
    """``STEP of ARM``, or a step, to what went wrong."""
    states: tuple[StepState, ...]
    """Afterwards."""


def run_study(
    study: Study, request: RunRequest, on_progress: OnProgress = unheard, workers: Workers = ALONE
) -> RunReport | None:
    """Do what is missing or stale; what is done already is not done again, and an arm that fails loses no other.

    Args:
        workers: processes that a launcher started, each on its own device: all of them draw, arms and seeds divided
            among them; the first does everything else.

    Returns:
        What was done; None in every process but the first.

    Raises:
        ValueError: if another process writes to the study's results, or a step's name is unknown.
    """
    if workers.index > 0:
        help_drawing(study, workers)
        return None
    report = _run(study, request, on_progress, workers)
    workers.agree(lambda: NOTHING_LEFT)  # after an error the launcher ends the others
    return report


def _run(study: Study, request: RunRequest, on_progress: OnProgress, workers: Workers) -> RunReport:
    made: dict[str, tuple[str, ...]] = {}
    failed: dict[str, str] = {}
    study.results.mkdir(parents=True, exist_ok=True)
    with locked(study.results):
        for name in STEPS:
            if request.steps and name not in request.steps:
                continue
            state = _state_of(study, name, request.precision)
            if state.state in (DONE, UNCHECKED) and (damage := _damage(study, name)):
                if state.state == UNCHECKED:
                    failed[name] = f"{damage}; not made again, since what it was made from is not here: {state.why}"
                    on_progress(note(f"{name} failed: {failed[name]}"))
                    continue
                on_progress(note(f"{name} is made again: {damage}"))
                (step_folder(study, name) / MANIFEST_NAME).unlink()
                state = _state_of(study, name, request.precision)
            if state.state not in (STALE, MISSING):
                on_progress(note(f"{name}: {state.state}{f', {state.why}' if state.why else ''}"))
                continue
            without = {arm_named(what) for what in failed if what.startswith(named(PICTURES, ""))}
            done, problems = _do(STEPS_BY_NAME[name], study, state, without, request, on_progress, workers)
            made |= {name: done} if done else {}
            failed |= problems
    return RunReport(made=made, failed=failed, states=study_state(study))


def _state_of(study: Study, name: str, precision: str | None) -> StepState:
    return next(each for each in study_state(study, precision) if each.step == name)


def _damage(study: Study, name: str) -> str:
    """Which file of a step that was done is missing or was changed since; empty where none is. A step's state does not
    tell: to ask for it takes no look into files, which may be large."""
    try:
        check_files(step_folder(study, name), step_manifest(study, name))
    except ManifestError as error:
        return str(error)
    return ""


def _do(
    step: Step, study: Study, state: StepState, without: set[str], request: RunRequest, on_progress: OnProgress,
    workers: Workers,
) -> tuple[tuple[str, ...], dict[str, str]]:  # fmt: skip
    """Make one step: which arms were made, and what went wrong.

    Args:
        without: arms that could not be drawn, left out.
    """
    inputs = StudyInputs(study, request.precision)
    try:
        if problem := _would_lose(step, inputs, state):
            raise ValueError(problem)
        work = _work(step, inputs, state, without, request, on_progress, workers)
        if not work.arms and not work.kept:
            told = "; ".join(f"{each.arm}: {each.why}" for each in state.arms if each.why)
            on_progress(note(f"{step.name} is left out: {told or 'no arm can be drawn'}"))
            return (), {}
        on_progress(note(f"{step.name}: {', '.join(work.arms) or 'what is gone is left out'}"))
        with silent_libraries(), enough_memory(f"the step {step.name}", "another --precision, or --device cpu"):
            step.make(work)
    except (ValueError, OSError) as error:
        on_progress(note(f"{step.name} failed: {error}"))
        return (), {step.name: str(error)}
    problems = {named(step.name, arm): problem for arm, problem in work.failed.items()}
    return tuple(arm for arm in work.arms if arm not in work.failed), problems


def _anew(step: Step, inputs: StudyInputs) -> bool:
    """Whether all arms are made, not only those of which something changed."""
    changes = Recorded.read(inputs.study, step.name).changes(step.settings(inputs), step.shared(inputs))
    return bool(changes) or not step.by_arm


def _would_lose(step: Step, inputs: StudyInputs, state: StepState) -> str:
    """Why a step is not made again although something changed; empty if nothing is in the way."""
    unchecked = [each for each in state.arms if each.state == UNCHECKED]
    if not unchecked or not _anew(step, inputs):
        return ""
    return (
        f"not made again, since the results of {', '.join(each.arm for each in unchecked)} would be lost: "
        f"{unchecked[0].why}; or take the arm out of study.toml"
    )


def _work(
    step: Step, inputs: StudyInputs, state: StepState, without: set[str], request: RunRequest, on_progress: OnProgress,
    workers: Workers,
) -> StepWork:  # fmt: skip
    recorded = Recorded.read(inputs.study, step.name)
    there = [each for each in state.arms if each.state in (DONE, UNCHECKED)]
    ready = [each for each in state.arms if each.state in (STALE, MISSING) and not each.waits]
    ready = [each for each in ready if each.arm not in without]
    gone = recorded.arms - {arm.name for arm in inputs.study.arms}
    if not ready and not gone:
        there = []
    anew = _anew(step, inputs)
    arms = [each.arm for each in state.arms if each in ready or (anew and each in there)]
    kept = [] if anew else [each.arm for each in there]
    return StepWork(
        inputs=inputs, settings=step.settings(inputs), shared=step.shared(inputs), device=request.device,
        processes=request.processes, workers=workers,
        arms={arm: step.of_arm(inputs, inputs.study.arm(arm)) for arm in arms},
        kept={arm: recorded.of_arm(arm) for arm in kept}, on_progress=on_progress,
    )  # fmt: skip


def report_as_json(report: RunReport) -> dict[str, Any]:
    """JSON-serialisable."""
    return {
        "made": {step: list(arms) for step, arms in report.made.items()},
        "failed": report.failed,
        "steps": [state.as_json() for state in report.states],
    }
