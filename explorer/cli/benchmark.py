"""``explorer benchmark``: what things cost, each beside its bare counterpart in the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from explorer.benchmarks import (
    alignment,
    alignment_scale,
    clean_label,
    defence_move,
    filters,
    graphs,
    switching,
    training,
)
from explorer.benchmarks.alignment_peers import PEERS
from explorer.benchmarks.capture import benchmark_capture, capture_table, pipeline_denoising, random_denoising
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.placement import check_place, resolve_precision
from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.core.provenance import ROOT
from explorer.generation.generate import GenerationRequest

ICONWORLD = ROOT / "checkpoints" / "iconworld"
CAPTURE_GOAL = 1.04
GPU_CAPTURE_GOAL = 1.02
"""At SD 1.5's size."""

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
    architecture: Annotated[
        str, typer.Option(help="sd15, sd21 or sdxl: random weights of that U-Net instead of a checkpoint.")
    ] = "",
    prompt: Prompt = "a photo of a dog",
    steps: Steps = 20,
    guidance_scale: GuidanceScale = 7.5,
    rounds: Rounds = 7,
    device: Device = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16; half precision is for a GPU.")] = "fp32",
    as_json: AsJson = False,
) -> None:
    """Denoising with attention capture, ours and as others do it, against the same without; the goal is 1.04 on a CPU
    and, at the size of SD 1.5, 1.02 on a GPU.

    Prints a Markdown table.
    """
    if architecture:
        denoising = random_denoising(
            architecture, steps=steps, guidance_scale=guidance_scale, device=device, precision=precision
        )
    else:
        request = GenerationRequest(prompt=prompt, seed=0, steps=steps, guidance_scale=guidance_scale)
        denoising = pipeline_denoising(load_pipeline(checkpoint, device, dtype=precision), request)
    costs = benchmark_capture(denoising, rounds)
    if not as_json:
        typer.echo(capture_table(costs))
        return
    model = {"architecture": architecture} if architecture else {"checkpoint": checkpoint.name}
    captures = {name: cost.as_dict() for name, cost in costs.items()}
    emit({**model, **conditions(steps, device, capture_goal(device)), "captures": captures}, as_json)


@benchmark.command("ad")
def alignment_command(
    sizes: Annotated[str, typer.Option(help="Numbers of pairs N, ascending, separated by commas.")] = "2000,5000,10000",
    d: Annotated[int, typer.Option("--width", help="Width d of the features.")] = 512,
    rounds: Rounds = 5,
    peers: Annotated[str, typer.Option(help="Peers, separated by commas; default: all.")] = "",
    limit_seconds: Annotated[float, typer.Option(help="Leave out what one round of would take longer.")] = 600.0,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory too.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Decides the features.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Structure AD over N, in time and memory, beside its peers and the bare products; prints a Markdown table."""
    report = alignment.benchmark_alignment(
        [_whole_number(size) for size in sizes.split(",")],
        d=d,
        rounds=rounds,
        peers=[name.strip() for name in peers.split(",")] if peers else tuple(PEERS),
        limit_seconds=limit_seconds,
        memory=memory,
        seed=seed,
        on_progress=show_progress(),
    )
    _tell(report, alignment.markdown, as_json)


@benchmark.command("ad-scale")
def alignment_scale_command(
    sizes: Annotated[
        str, typer.Option(help="Numbers of pairs N, ascending, separated by commas.")
    ] = "10000,100000,1000000,10000000",
    d: Annotated[int, typer.Option("--width", help="Width d of the features.")] = 512,
    samples: Annotated[int, typer.Option(min=1, help="Landmarks.")] = 1000,
    distinct: Annotated[
        int, typer.Option(min=1, help="Rows that are made; further ones are links to them.")
    ] = 1_000_000,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides the features and the landmarks.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Where the store lies meanwhile; default: the system's place for such files.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time and memory of `ad-store` with landmarks and scores, over N, on a synthetic store that is removed again.

    2 kB a distinct pair of width 512 are needed on disk. Prints a Markdown table.
    """

    report = alignment_scale.benchmark_scale(
        [_whole_number(size) for size in sizes.split(",")], d=d, samples=samples, distinct=distinct,
        processes=processes, seed=seed, folder=folder, on_progress=show_progress(),
    )  # fmt: skip
    _tell(report, alignment_scale.markdown, as_json)


@benchmark.command("training")
def training_command(
    model: Annotated[str, typer.Option(help="iconworld, sd15-quarter or sd15; random weights.")] = "iconworld",
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 16,
    steps: Annotated[int, typer.Option(help="Steps a round that count.")] = 10,
    warmup: Annotated[int, typer.Option(help="Steps before them that do not.")] = 3,
    rounds: Rounds = 5,
    pairs: Annotated[int, typer.Option(help="IconWorld pairs to train on; a multiple of the batch size.")] = 256,
    precision: Annotated[str, typer.Option(help="no, bf16 or, on a GPU, fp16.")] = "no",
    device: Device = "cpu",
    fused: Annotated[bool, typer.Option("--fused", help="Compile our step, as the embedded recipes do.")] = False,
    graphed: Annotated[bool, typer.Option("--graphed", help="Record our step on a GPU and replay it.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode for the plain loop.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, pairs and noise.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fine-tuning samples/s against the plain diffusers training loop; the goal is 1.3. Prints a Markdown table."""

    report = training.benchmark_training(
        training.find_model(model), batch_size=batch_size, steps=steps, warmup=warmup, rounds=rounds, pairs=pairs,
        precision=precision, device=device, fused=fused, graphed=graphed, workers=workers, seed=seed,
        on_progress=show_progress(),
    )  # fmt: skip
    _tell(report, training.markdown, as_json)


@benchmark.command("clean-label")
def clean_label_command(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint whose autoencoder is used.")] = ICONWORLD / "benign",
    model: Annotated[
        str, typer.Option(help="iconworld, sd15-quarter or sd15: random weights of that autoencoder instead.")
    ] = "",
    side: Annotated[int, typer.Option(min=16, help="Pixels a side, as the autoencoder takes them.")] = 64,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures a round.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that ours perturbs at once.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every picture.")] = 20,
    rounds: Rounds = 3,
    device: Device = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16; half precision is for a GPU.")] = "fp32",
    seed: Annotated[int, typer.Option(min=0, help="Decides the pictures.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Clean-label perturbation in batches against the loop over single pictures; the goal is 5 on two cores and 10 on a
    GPU. Prints a Markdown table."""

    check_place(device, None)
    dtype = resolve_precision(precision)
    pipeline = (
        training.build_pipeline(training.find_model(model), seed, device)
        if model
        else load_pipeline(checkpoint, device, dtype)
    )
    report = clean_label.benchmark_clean_label(
        pipeline.vae.to(device, dtype), side, pictures=pictures, batch_size=batch_size, steps=steps, rounds=rounds,
        seed=seed, on_progress=show_progress(),
    )  # fmt: skip
    _tell(report, clean_label.markdown, as_json)


@benchmark.command("graphs")
def graphs_command(
    pairs: Annotated[int, typer.Option(min=100, max=50_000, help="Made-up pairs drawn.")] = 50_000,
    chromium: Annotated[Path, typer.Option(help="A chromium to drive.")] = Path("/usr/bin/chromium"),
    peer: Annotated[bool, typer.Option("--peer/--no-peer", help="Measure Plotly's scatter plots too.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Decides the pairs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """The screen Graphs in headless chromium without a GPU: first paint, moving, zooming and lasso; prints a Markdown
    table. Needs playwright."""

    report = graphs.benchmark_graphs(pairs, chromium, peer=peer, seed=seed)
    _tell(report, graphs.markdown, as_json)


@benchmark.command("switching")
def switching_command(
    study: Annotated[list[Path], typer.Option(help="Folder of a study with results; give two.")],
    chromium: Annotated[Path, typer.Option(help="A chromium to drive.")] = Path("/usr/bin/chromium"),
    rounds: Annotated[int, typer.Option(min=1, help="Changes to and fro on every screen.")] = 3,
    as_json: AsJson = False,
) -> None:
    """How soon each screen shows another study once it is chosen, in headless chromium without a GPU; prints a Markdown
    table. Needs playwright."""

    report = switching.benchmark_switching(study, chromium, rounds)
    _tell(report, switching.markdown, as_json)


@benchmark.command("filters")
def filters_command(
    pairs: Annotated[int, typer.Option(min=100, help="Made-up pairs.")] = 50_000,
    scores: Annotated[int, typer.Option(min=2, help="Scores of every pair.")] = 12,
    d: Annotated[int, typer.Option(min=2, help="Width of the features.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, help="Moves of the cut; median and quartiles are reported.")] = 9,
    peer: Annotated[bool, typer.Option("--peer/--no-peer", help="Measure a pass over the tiles for one score.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Decides the pairs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """A filter's answer while its cut moves, its memory, and AD of what remains at every rank of every score; prints a
    Markdown table."""

    report = filters.benchmark_filters(
        pairs, scores=scores, d=d, rounds=rounds, peer=peer, seed=seed, on_progress=show_progress()
    )
    _tell(report, filters.markdown, as_json)


@benchmark.command("defence-move")
def defence_move_command(
    pairs: Annotated[int, typer.Option(min=100, max=1_000_000, help="Made-up pairs that are filtered.")] = 50_000,
    scores: Annotated[int, typer.Option(min=1, help="Scores of each.")] = 12,
    moves: Annotated[int, typer.Option(min=2, help="Moves of the slider.")] = 60,
    chromium: Annotated[Path, typer.Option(help="A chromium to drive.")] = Path("/usr/bin/chromium"),
    seed: Annotated[int, typer.Option(min=0, help="Decides the pairs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Moves of the slider of the screen Defence in headless chromium without a GPU, until they are painted; prints a
    Markdown table. Needs playwright."""

    report = defence_move.benchmark_moves(pairs, scores, moves, chromium, seed=seed)
    _tell(report, defence_move.markdown, as_json)


def _tell(report: dict[str, Any], table: Callable[[dict[str, Any]], str], as_json: bool) -> None:
    if as_json:
        emit(report, as_json)
    else:
        typer.echo(table(report))


def _whole_number(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError(f"sizes hold {text!r}: expected whole numbers separated by commas")
    return int(text)


def capture_goal(device: str) -> float:
    """Denoising on ``device`` with our capture against the same without, at most."""
    return CAPTURE_GOAL if device.startswith("cpu") else GPU_CAPTURE_GOAL


def conditions(steps: int, device: str, goal: float) -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    return {"goal": goal, "steps": steps, "device": device, "threads": torch.get_num_threads()}
