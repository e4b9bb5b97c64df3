"""``explorer generate``: images and maps of one prompt from one or several checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.checkpoints.pipelines import load_pipeline
from explorer.cli.application import AsJson, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.core.bounded_files import printable
from explorer.core.provenance import ROOT
from explorer.generation.files import check_folder, save_generations
from explorer.generation.generate import GenerationRequest, compare

if TYPE_CHECKING:
    from explorer.generation.generate import Generation

BENIGN = ROOT / "checkpoints" / "iconworld" / "benign"


@command("generate")
def generate_command(
    request: Annotated[GenerationRequest, Spelling(prompt=typer.Argument(help="Text to draw."), seed=typer.Option(7))],
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint folder or file; repeat it to compare several.")
    ] = None,
    out: Annotated[Path, typer.Option(help="New folder for the PNG files.")] = Path("generated"),
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    offload: Annotated[str | None, typer.Option(help="CPU offload on a GPU: model or sequential.")] = None,
    as_json: AsJson = False,
) -> None:
    """Generate images, word maps and guidance maps; the settings are inside each PNG (text chunk)."""
    check_folder(out, "--out")
    shared: dict[Any, Any] = {}
    folders = checkpoint or [BENIGN]
    pipelines = {
        printable(folder.resolve().name): load_pipeline(folder, device, precision, shared, offload=offload)
        for folder in folders
    }
    if len(pipelines) != len(folders):
        raise ValueError("two checkpoints have the same folder name: expected different names")
    generations = list(compare(pipelines, request, keep_heads=False, on_progress=show_progress()))
    files = save_generations(generations, out)
    result = {
        **{name: getattr(request, name) for name in ("prompt", "seed", "steps", "guidance_scale")},
        "device": device,
        "precision": precision,
        "offload": offload,
        "models": [_summary(generation) for generation in generations],
        "files": [str(path) for path in files],
    }
    emit(result if as_json else _as_lines(result), as_json)


def _summary(generation: Generation) -> dict[str, Any]:
    """Seconds, pixels a side, and of each word the map's scatter and the attention it receives, averaged over the
    images; what guidance changes, averaged over steps, images and places, or why there is none; for a joint transformer
    also the share of its attention that goes to the text at all."""
    import torch

    from explorer.attention.statistics import column_mass, scatter_where_read

    maps = torch.stack([generation.cube.maps(image=index) for index in range(generation.cube.images)])
    masses = column_mass(maps).mean(0).tolist()
    scatters = map(_mean_of_known, zip(*map(scatter_where_read, maps), strict=True))
    height, width = generation.images.shape[1:3]
    columns = zip(generation.words.columns, scatters, masses, strict=True)
    share = {}
    if generation.cube.has_text_share:
        shares = [generation.cube.text_share(image=index).mean() for index in range(generation.cube.images)]
        share = {"text_share": float(torch.stack(shares).mean())}
    return {
        "model": generation.model,
        "seconds": round(generation.seconds, 3),
        "height": height,
        "width": width,
        **share,
        **_guidance(generation),
        "words": [{"word": word, "scatter": spread, "mass": mass} for word, spread, mass in columns],
    }


def _guidance(generation: Generation) -> dict[str, Any]:
    steps = generation.steps
    return {"no_guidance": steps.no_guidance} if steps.guidance is None else {"guidance": float(steps.guidance.mean())}


def _mean_of_known(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _as_lines(result: dict[str, Any]) -> dict[str, Any]:
    """The result with nested values on one line each."""
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in result.items()}
