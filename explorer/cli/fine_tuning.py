"""``explorer fine-tune | recipes``: fine-tune a Stable Diffusion by a named recipe, and what each recipe needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Changes, command
from explorer.cli.source_options import AsRead
from explorer.cli.training_state import default_state
from explorer.core.provenance import ROOT
from explorer.pairs.uid_files import read_uids
from explorer.scenarios.recipes import fine_tuning_recipe
from explorer.training.config import TrainingConfig
from explorer.training.pairs import pair_set_or_source

SHARED = "On several machines: on storage that all of them share."
FromScratch = Annotated[
    bool,
    typer.Option(
        "--from-scratch", help="Start from random weights in place of the base's U-Net; its other parts stay."
    ),
]
LeftOut = Annotated[
    Path | None, typer.Option(help="Training pairs to leave out: uids as .parquet, .json or DataComp's .npy.")
]
Weighting = Annotated[
    str | None, typer.Option(help="Of the timesteps' losses: uniform or min-snr. Default: the recipe's.")
]
Timesteps = Annotated[
    str | None,
    typer.Option(help="How they are drawn: uniform, or logit-normal, more of the middle. Default: the recipe's."),
]
CHANGEABLE = (
    "steps", "batch_size", "accumulation", "learning_rate", "warmup_steps", "ema_decay", "precision",
    "gradient_checkpointing", "fused", "graphed", "checkpoint_every",
)  # fmt: skip


@command("fine-tune")
def fine_tune(
    base: Annotated[Path, typer.Option(help="Checkpoint folder: a pipeline, or a U-Net on one.")],
    pairs: Annotated[
        str, typer.Option("--set", help="Pair set, whose training split is used; or any SOURCE of `import`.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the fine-tuned U-Net.")],
    recipe: Annotated[str, typer.Option(help="sd15, sd21 or sdxl; for IconWorld cpu or full.")],
    reading: AsRead,
    changes: Annotated[dict[str, Any], Changes(TrainingConfig, CHANGEABLE, "the recipe's")],
    without: LeftOut = None,
    resolution: Annotated[int | None, typer.Option(help="Side in pixels. Default: the recipe's.")] = None,
    trained_group: Annotated[
        str | None,
        typer.Option(help="Modules to train alone, such as cross-attention (docs/checkpoints.md). Default: all."),
    ] = None,
    frozen_group: Annotated[str | None, typer.Option(help="Modules that stay as they are. Default: none.")] = None,
    from_scratch: FromScratch = False,
    weighting: Weighting = None,
    timesteps: Timesteps = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of order, noise, caption dropout. Default: the recipe's.")
    ] = None,
    # Not --run: torchrun would take it for a short form of its own --run-path, even behind the module's name.
    state: Annotated[
        Path | None,
        typer.Option(help=f"Folder of the training state; default runs/fine-tune/OUT-HASH, of its path. {SHARED}"),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help=f"Folder of encoded pairs; default runs/encoded. {SHARED}")] = None,
    track: Annotated[str | None, typer.Option(help="tensorboard or wandb, beside metrics.jsonl.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; under torchrun the local rank's GPU.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Fine-tune a U-Net on your pairs; run it again to resume. For K processes: torchrun --nproc-per-node K -m explorer
    fine-tune ..."""
    from explorer.training import fine_tune as experiment
    from explorer.training.recipes import override

    groups = {"trained_group": trained_group, "frozen_group": frozen_group}
    chosen = override(
        fine_tuning_recipe(recipe), **changes, **groups, from_scratch=from_scratch, weighting=weighting,
        timesteps=timesteps, resolution=resolution, seed=seed,
    )  # fmt: skip
    run = state or default_state("fine-tune", out)
    manifest = experiment.fine_tune(
        base, pair_set_or_source(pairs, **vars(reading)), chosen, out, run=run,
        cache=cache or ROOT / "runs" / "encoded", left_out=() if without is None else read_uids(without),
        device=device, track=track, on_progress=show_progress(),
    )  # fmt: skip
    if manifest is not None:
        config, metrics = manifest["config"], manifest["metrics"]
        shown = {name: config[name] for name in ("recipe", "base", "prediction_type", "resolution", "pairs")}
        emit({"output": str(out), "run": str(run), **shown, **metrics}, as_json)


@application.command("recipes")
def recipes(
    processes: Annotated[int, typer.Option(min=1, help="GPUs that share a step.")] = 1,
    as_json: AsJson = False,
) -> None:
    """The fine-tuning recipes of the paper, and what each needs: memory on a GPU before any activation, and disk for
    the encoded pairs and for the import of the pairs themselves."""
    from explorer.training.recipes import FINE_TUNING_RECIPES

    entries = {name: _as_entry(recipe, processes) for name, recipe in FINE_TUNING_RECIPES.items()}
    if as_json:
        emit(entries, True)
        return
    for name, entry in entries.items():
        typer.echo(f"[{name}]")
        emit(entry, False)


def _as_entry(recipe: Any, processes: int) -> dict[str, Any]:
    from explorer.training.recipes import GIBIBYTE, expected_gpu_memory

    training = recipe.training
    memory = expected_gpu_memory(recipe, processes=processes)
    parameters = memory.pop("parameters")
    return {
        "resolution": recipe.resolution,
        "prediction_type": recipe.prediction_type,
        "pairs": recipe.pairs,
        "learning_rate": training.learning_rate,
        "steps": training.steps,
        "batch_size": training.batch_size,
        "accumulation": training.accumulation,
        "precision": training.precision,
        "ema_decay": training.ema_decay,
        "gradient_checkpointing": training.gradient_checkpointing,
        "parameters": parameters,
        **{f"{part}_gib": round(size / GIBIBYTE, 3) for part, size in memory.items()},
        "activations": "not measured here",
    }
