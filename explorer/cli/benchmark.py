"""``explorer benchmark``: what things cost, each beside its bare counterpart in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.provenance import ROOT

ICONWORLD = ROOT / "checkpoints" / "iconworld"
CAPTURE_GOAL = 1.05
COMPARISON_GOAL = 1.15

benchmark = typer.Typer(no_args_is_help=True, help="Measure what things cost.")
application.add_typer(benchmark, name="benchmark")

Prompt = Annotated[str, typer.Option(help="Text to draw.")]
Steps = Annotated[int, typer.Option(help="Denoising steps a generation.")]
GuidanceScale = Annotated[float, typer.Option(help="Guidance scale; up to 1 is none.")]
Rounds = Annotated[int, typer.Option(help="Interleaved rounds; the median and the quartiles are reported.")]
Device = Annotated[str, typer.Option(help="Torch device.")]


@benchmark.command("capture")
def capture_command(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")] = ICONWORLD / "benign",
    prompt: Prompt = "a photo of a dog",
    steps: Steps = 20,
    guidance_scale: GuidanceScale = 7.5,
    rounds: Rounds = 7,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Generation with attention capture against the same without; the goal is 1.05 on a CPU."""
    from explorer.experiments.capture_benchmark import capture_cost
    from explorer.experiments.generation import GenerationRequest
    from explorer.models.pipelines import load_pipeline

    request = GenerationRequest(prompt=prompt, seed=0, steps=steps, guidance_scale=guidance_scale)
    cost = capture_cost(load_pipeline(checkpoint, device), request, rounds)
    emit({"checkpoint": str(checkpoint), **_conditions(steps, device, CAPTURE_GOAL), **cost.as_dict()}, as_json)


@benchmark.command("compare")
def compare_command(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint folder, twice or more; default: the first two shipped."),
    ] = None,
    prompt: Prompt = "a photo of a dog",
    steps: Steps = 20,
    guidance_scale: GuidanceScale = 7.5,
    rounds: Rounds = 5,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Live comparison of checkpoints with capture against their bare U-Net calls; the goal is 1.15."""
    from explorer.experiments.capture_benchmark import check_pair, comparison_cost
    from explorer.experiments.generation import GenerationRequest
    from explorer.models.checkpoints import scan_checkpoints
    from explorer.models.pipelines import load_pipeline

    folders = checkpoint or [found.folder for found in scan_checkpoints(ICONWORLD)[:2]]
    check_pair([str(folder) for folder in folders])
    request = GenerationRequest(prompt=prompt, seed=0, steps=steps, guidance_scale=guidance_scale)
    shared: dict[Any, Any] = {}
    pipelines = {str(folder): load_pipeline(folder, device, shared=shared) for folder in folders}
    cost = comparison_cost(pipelines, request, rounds)
    conditions = _conditions(steps, device, COMPARISON_GOAL)
    emit({"checkpoints": list(map(str, folders)), **conditions, **cost.as_dict()}, as_json)


def _conditions(steps: int, device: str, goal: float) -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    import torch

    return {"goal": goal, "steps": steps, "device": device, "threads": torch.get_num_threads()}
