"""``explorer gpu-kit | gpu-kit-prepare | gpu-kit-take-in``: a quarter of an hour on one GPU, well used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.benchmarks.gpu_kit import PART_NAMES, GpuKit
from explorer.benchmarks.gpu_results import take_in
from explorer.benchmarks.gpu_wheels import prepare
from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.core.provenance import ROOT


@application.command("gpu-kit")
def gpu_kit(
    output: Annotated[Path, typer.Argument(help="Folder for report.json and the first shards.")],
    minutes: Annotated[float, typer.Option(help="Wall-clock budget of the whole run.")] = 9.0,
    work: Annotated[Path, typer.Option(help="Folder for everything else.")] = ROOT / "runs" / "gpu-kit",
    parts: Annotated[str, typer.Option(help="Parts to run, separated by commas; default: all.")] = "",
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny settings, to see that everything runs.")] = False,
    device: Annotated[str, typer.Option(help="cuda or cpu; default: cuda, with --smoke cpu.")] = "",
    as_json: AsJson = False,
) -> None:
    """CUDA tests, the GPU rows of the benchmarks and the full world, each part within its time."""
    kit = GpuKit(
        output=output, work=work, minutes=minutes, smoke=smoke, device=device or ("cpu" if smoke else "cuda"),
        parts=[name.strip() for name in parts.split(",")] if parts else PART_NAMES, on_progress=show_progress(),
    )  # fmt: skip
    report = kit.run()
    states = {name: f"{part['status']} after {part['seconds']} s" for name, part in report["parts"].items()}
    emit(states | {"shards": ", ".join(report["shards"]["names"]) or "none"}, as_json)


@application.command("gpu-kit-prepare")
def gpu_kit_prepare(
    folder: Annotated[Path, typer.Argument(help="Folder for the wheels.")] = ROOT / ".whl",
    rehearse: Annotated[
        str,
        typer.Option(help="A Python 3.12: rehearse the kit in a fresh environment with the machine's versions."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Download what a bare GPU machine lacks, and tell the size of everything that would travel."""
    emit(prepare(folder, python=rehearse or None, on_progress=show_progress()), as_json)


@application.command("gpu-kit-take-in")
def gpu_kit_take_in(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="What came back of each run: report.json and all shards.")
    ],
    models: Annotated[Path, typer.Option(help="New folder for the world's models.")] = (
        ROOT / "checkpoints" / "iconworld-full"
    ),
    as_json: AsJson = False,
) -> None:
    """Check what runs brought back, store its figures, show them in docs/benchmarks.md, and install its models."""
    emit(take_in(folders, models=models), as_json)
