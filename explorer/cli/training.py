"""``explorer train``: make the embedded world's models by a named recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.core.provenance import ROOT


@application.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="cpu or full.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the training state; default: under runs.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the finished models; default RUN/models.")] = None,
    stage: Annotated[
        str, typer.Option(help="everything, or one of autoencoder, extractor, base, sets, fine-tuning, remainder.")
    ] = ("everything"),
    adopt: Annotated[
        Path | None, typer.Option(help="Finished models whose encoders and base are taken instead of training them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Added to the recipe's: other pairs, poison and noise.")] = 0,
    rank_rotation: Annotated[
        int,
        typer.Option(
            help="Moves the nouns' ranks in the fine-tuning sets; half of the nouns: the halves change places."
        ),
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train autoencoder, extractor, base, benign control and poisoned models; run it again to resume."""
    from explorer.checkpoints.placement import check_place
    from explorer.scenarios.build import WorldBuild
    from explorer.scenarios.recipes import find_recipe

    check_place(device, None)
    variant = bool(seed or rank_rotation)
    chosen = find_recipe(recipe).variant(seed=seed, rank_rotation=rank_rotation)
    chosen.fine_tuning_world()  # refuses an impossible rotation now, not after the base was trained
    run = run or ROOT / "runs" / "-".join([recipe, *([f"seed{seed}", f"rotation{rank_rotation}"] if variant else [])])
    output = output or run / "models"
    build = WorldBuild(
        recipe=chosen, run=run, output=output, device=device, say=lambda line: typer.echo(line, err=True)
    )
    stages = {
        "everything": build.everything,
        "autoencoder": build.autoencoder,
        "extractor": build.extractor,
        "base": build.base,
        "sets": build.sets,
        "fine-tuning": build.all_fine_tuned,
        "remainder": build.remainder,
    }
    if stage not in stages:
        raise ValueError(f"stage {stage!r} is unknown: expected one of {sorted(stages)}")
    if adopt is not None:
        build.adopt(adopt)
    stages[stage]()
    emit(
        {
            "recipe": recipe,
            "seed": seed,
            "rank_rotation": rank_rotation,
            "stage": stage,
            "run": str(run),
            "output": str(output),
        },
        as_json,
    )
