"""``explorer study new | status | calibrate | run | export | keep-scenes | import-results``: from models to results."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.extractor_options import NoneUnlessNamed
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import command
from explorer.core.workers import worker_group
from explorer.studies import kept_scenes, packing
from explorer.studies.calibration import calibrate_study
from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.kept_scenes import SCENES_FOLDER
from explorer.studies.packing import export_study
from explorer.studies.results import command_line, step_command
from explorer.studies.running import RunRequest, report_as_json, run_study
from explorer.studies.state import MISSING, STALE, stale_steps, study_state
from explorer.studies.steps.drawing import PICTURE
from explorer.studies.study import STUDY_NAME, Study

if TYPE_CHECKING:
    from explorer.studies.state import ArmState, StepState

study = typer.Typer(no_args_is_help=True, help="Your own models and data, and everything that is measured of them.")
application.add_typer(study, name="study")

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]


@command("new", study)
def new(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="New folder for the study.")],
    extractor: NoneUnlessNamed,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="Path or quoted glob of checkpoints, or of folders that hold some; may be repeated."),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="Path or quoted glob of pair sets, stores, shards, or folders of such; may be repeated."),
    ] = None,
    concepts: Annotated[
        Path | None, typer.Option(help="CSV file with a column concept; default: the nouns of the captions.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the study; default: the folder's.")] = None,
    control: Annotated[
        str | None,
        typer.Option(help="Arm that is the benign control, though nobody recorded it; default: what manifests record."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write study.toml and concepts.csv: arms are found, paired and ordered by what manifests record and by names."""
    request = StudyRequest(
        folder=folder, checkpoints=tuple(checkpoint or ()), pairs=tuple(pairs or ()), extractor=extractor.spec(),
        concepts=concepts, name=name, control=control,
    )  # fmt: skip
    made = new_study(request, on_progress=show_progress())
    assumed = [*made.assumed, _drawing(made.study)]
    if as_json:
        arms = [arm.name for arm in made.study.arms]
        emit({"study": str(made.study.folder), "arms": arms, "assumed": assumed,
              "left_open": list(made.left_open)}, True)  # fmt: skip
        return
    for told in assumed:
        typer.echo(told)
    for open_question in made.left_open:
        typer.echo(f"open: {open_question}")
    typer.echo(f"{len(made.study.arms)} arms in {made.study.folder}; next: {command_line('status', folder)}")


def _drawing(made: Study) -> str:
    """How its models will draw, which decides what is found and is easily overlooked."""
    return (f"models draw {len(made.seeds)} pictures a concept, in {made.steps} steps at guidance "
            f"{made.guidance_scale:g}: seeds, steps and guidance_scale in {STUDY_NAME}")  # fmt: skip


@study.command("status")
def status(folder: Folder, as_json: AsJson = False) -> None:
    """For every step and arm: done, stale, missing or what it needs, and roughly how long it would take."""
    found = Study.load(folder)
    states = study_state(found)
    if as_json:
        emit({"study": str(found.folder), "name": found.name, "steps": [state.as_json() for state in states]}, True)
        return
    _print_states(states, found.steps)


@study.command("calibrate")
def calibrate(
    folder: Folder, device: Annotated[str, typer.Option(help="Torch device.")] = "cpu", as_json: AsJson = False
) -> None:
    """Find the feature range of the study's open_clip model on the control's pairs, and write it into study.toml."""
    emit(calibrate_study(Study.load(folder), device, on_progress=show_progress()), as_json)


@command("run", study)
def run(
    folder: Folder,
    steps: Annotated[
        list[str] | None, typer.Argument(metavar="[STEP]...", help="Steps to do; default: all, in their order.")
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    precision: Annotated[
        str | None, typer.Option(help="Of every network that draws: fp32, fp16 or bf16; default: fp32.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that embed pairs, each with its own extractor.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Do what is missing or stale; what was cut off goes on where it was, and an arm that fails loses no other.

    K processes or GPUs that draw: torchrun --nproc-per-node K -m explorer study run STUDY
    """
    found = Study.load(folder)
    with worker_group(device, show_progress()) as workers:
        request = RunRequest(steps=tuple(steps or ()), device=workers.device, precision=precision, processes=processes)
        report = run_study(found, request, workers.on_progress, workers)
    if report is None:
        return
    if as_json:
        emit(report_as_json(report), True)
    else:
        _print_states(report.states, found.steps)
    if report.failed:
        told = "; ".join(f"{what}: {problem}" for what, problem in report.failed.items())
        raise ValueError(f"not everything was done: {told}")


@study.command("export")
def export(
    folder: Folder,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="New .zip file.")],
    pictures: Annotated[bool, typer.Option("--pictures", help="Pack all pictures with their maps, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pack the results, without weights and without any place on this machine, for a talk or a reviewer."""
    steps = export_study(Study.load(folder), output, pictures=pictures)
    emit({"file": str(output), "steps": steps, "bytes": output.stat().st_size}, as_json)


@study.command("keep-scenes")
def keep_scenes(folder: Folder, as_json: AsJson = False) -> None:
    """Keep what the pictures of IconWorld's pairs show, so that the screens paint them where the pairs are not."""
    found = Study.load(folder)
    arms = kept_scenes.keep_scenes(found, show_progress())
    emit({"arms": arms, "folder": str(found.folder / SCENES_FOLDER)}, as_json)


@study.command("import-results")
def import_results(
    pack: Annotated[Path, typer.Argument(metavar="FILE", help="What `explorer study export` wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="New folder, or a study with the same arms.")],
    as_json: AsJson = False,
) -> None:
    """Unpack results that were made elsewhere, every file compared with its hash."""
    found = packing.import_results(pack, folder)
    emit({"study": str(found.folder), "name": found.name, "arms": [arm.name for arm in found.arms]}, as_json)


def read_study(folder: Path) -> Study:
    """A study whose stored results are told; what they are known not to be of any more is said first."""
    found = Study.load(folder)
    for step, why in stale_steps(found).items():
        told = f"{found.folder.name}: {step} is stale, its figures are of before ({why})"
        typer.echo(f"{told}; anew: {step_command(found, step)}", err=True)
    return found


def _print_states(states: Iterable[StepState], denoising: int) -> None:
    """A step in a line, and below it the arms, in groups of those that are alike."""
    for state in states:
        groups: dict[tuple[str, str, str], list[ArmState]] = {}
        for arm in state.arms:
            left = _cost(state, arm.amount or 0, arm.seconds, denoising)
            groups.setdefault((arm.state, _of_any_arm(arm), left), []).append(arm)
        told = [_reason(arms) for arms in groups.values()]
        alike = told[0] if len(told) == 1 else ""
        by_commands = alike and len({arm.why for arm in state.arms}) > 1
        why = alike if by_commands else state.why or alike
        _print_line(f"{state.step:<11} {state.state:<9}", why, _cost(state, state.amount, state.seconds, denoising))
        for (condition, _, left), arms in groups.items() if len(groups) > 1 else ():
            each = f"{left} each" if left and len(arms) > 1 else left
            _print_line(f"  {condition:<9}  {', '.join(arm.arm for arm in arms)}", _reason(arms), each)
        if state.state in (STALE, MISSING):
            typer.echo(f"  {state.command}")


def _of_any_arm(arm: ArmState) -> str:
    """What is said of it, with ``ARM`` for its name in a command: arms that lack the same lack it by commands alike."""
    said, tick, command = arm.why.partition("`")
    before, name, after = command.rpartition(f" {shlex.quote(arm.arm)} ")
    return f"{said}{tick}{before} ARM {after}" if name else arm.why


def _reason(arms: list[ArmState]) -> str:
    """What is said of arms that are alike; of one alone with its own name."""
    return arms[0].why if len(arms) == 1 else _of_any_arm(arms[0])


def _print_line(*parts: str) -> None:
    typer.echo("  ".join(filter(None, parts)).rstrip())


def _cost(state: StepState, amount: int, seconds: float | None, denoising: int) -> str:
    """What is left, in words; empty for nothing."""
    if not amount:
        return ""
    told = f"{amount:,} {state.unit}{'' if amount == 1 else 's'}"
    if state.unit == PICTURE:
        told += f" of {denoising} steps"
    if seconds is None:
        return told
    minutes = seconds / 60
    return f"{told}, about {f'{minutes / 60:.1f} h' if minutes >= 90 else f'{max(minutes, 0.1):.1f} min'}"
