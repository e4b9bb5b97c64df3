"""``screenshots`` shows the app; ``benchmark-startup``, ``benchmark compare`` and ``benchmark redraw`` time it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from explorer.benchmarks.capture import check_pair
from explorer.benchmarks.startup import measure_startup
from explorer.cli.application import AsJson, application, emit
from explorer.cli.benchmark import GuidanceScale, Prompt, Rounds, Steps, benchmark, conditions
from explorer.core.provenance import ROOT
from explorer.ui.shell.context import SHIPPED_STUDY, AppContext, AppSettings
from explorer.ui.shell.permalink import CompareSettings
from explorer.ui.shell.screenshots import ScreenshotRequest, take_screenshots

COMPARISON_GOAL = 1.13
REDRAW_GOAL = 1.5


@application.command("screenshots")
def screenshots(
    output: Annotated[Path, typer.Argument(help="Folder for a WebP a screen.")] = ROOT / "docs" / "screenshots",
    study: Annotated[Path | None, typer.Option(help="Folder of a study. Default: the shipped one.")] = None,
    theme: Annotated[str, typer.Option(help="light or dark.")] = "light",
    width: Annotated[int, typer.Option(min=320, max=3840, help="Of the window, in pixels.")] = 1280,
    height: Annotated[int, typer.Option(min=320, max=3840, help="Of the window, in pixels.")] = 1000,
    chromium: Annotated[Path, typer.Option(help="A chromium to drive.")] = Path("/usr/bin/chromium"),
    as_json: AsJson = False,
) -> None:
    """A picture of each screen, in headless chromium, as the documentation shows them. Needs playwright."""
    request = ScreenshotRequest(theme=theme, width=width, height=height)
    written = take_screenshots(study or SHIPPED_STUDY, output, request, chromium)
    if as_json:
        emit({"folder": str(output), **written}, as_json)
    else:
        typer.echo(f"{output}: {', '.join(written['files'])}")


@application.command("benchmark-startup")
def benchmark_startup(
    repeats: Annotated[int, typer.Option(min=1, max=50, help="Starts of each kind, interleaved.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Time until our page is usable against an empty gradio.Blocks, in fresh processes."""
    emit(measure_startup(repeats).report(), as_json)


@benchmark.command("compare")
def compare_command(
    checkpoints: Annotated[Path | None, typer.Option(help="Folder that holds checkpoints.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model's name in it, twice or more; default: the first two.")
    ] = None,
    prompt: Prompt = "a photo of a dog",
    steps: Steps = 20,
    guidance_scale: GuidanceScale = 7.5,
    rounds: Rounds = 5,
    as_json: AsJson = False,
) -> None:
    """A live comparison, from the click to the last column, against the models' bare U-Net calls; the goal is 1.13."""
    from explorer.ui.screens.compare.benchmark import live_comparison_cost

    live, opened, settings = _compared(checkpoints, model, prompt, steps, guidance_scale)
    cost = live_comparison_cost(live, opened, settings, rounds)
    told = conditions(steps, live.context.settings.device, COMPARISON_GOAL)
    emit({"models": list(settings.models), **told, **cost.as_dict()}, as_json)


@benchmark.command("redraw")
def redraw_command(
    checkpoints: Annotated[Path | None, typer.Option(help="Folder that holds checkpoints.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Model that gets parts, and again for the one that gives them.")
    ] = None,
    prompt: Prompt = "a photo of a dog",
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps; while a slider moves the page asks for 6.")] = 6,
    guidance_scale: GuidanceScale = 4.0,
    rounds: Annotated[int, typer.Option(min=1, help="Moves of the slider.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Seconds from a move of a graft's slider in Compare to its picture, without the browser; the goal is 1.5."""
    from explorer.ui.screens.compare.benchmark import redraw_seconds

    live, opened, settings = _compared(checkpoints, model, prompt, steps, guidance_scale)
    load, seconds = os.getloadavg()[0], redraw_seconds(live, opened, settings, rounds)
    report = {
        "models": list(settings.models), **conditions(steps, live.context.settings.device, REDRAW_GOAL),
        "load_before": load, "rounds": rounds, "seconds": float(np.median(seconds)),
        "seconds_95": float(np.percentile(seconds, 95)),
    }  # fmt: skip
    emit(report, as_json)


def _compared(
    checkpoints: Path | None, model: list[str] | None, prompt: str, steps: int, guidance_scale: float
) -> tuple[Any, Any, Any]:
    """What is compared by the app without a page, of the models given, or of the first two there: ``LiveGeneration``,
    ``OpenStudy`` and ``CompareSettings``."""
    from explorer.ui.screens.compare.live_generation import LiveGeneration

    context = AppContext(settings=AppSettings(checkpoints=checkpoints))
    opened = context.study()
    models = tuple(model or opened.checkpoint_names()[:2])
    check_pair(models)
    settings = CompareSettings(prompt=prompt, steps=steps, guidance_scale=guidance_scale, models=models)
    return LiveGeneration(context), opened, settings
