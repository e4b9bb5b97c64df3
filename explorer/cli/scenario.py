"""``explorer scenario``: one of the paper's experiments on any base and pairs, from sets to measurements."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.extractor_options import NoneUnlessNamed
from explorer.cli.fine_tuning import CHANGEABLE, FromScratch
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Changes, Spelling, command
from explorer.scenarios.experiment import ScenarioRequest, carry_out_scenario
from explorer.scenarios.recipes import fine_tuning_recipe
from explorer.training.config import TrainingConfig


@command("scenario")
def scenario(
    request: Annotated[
        ScenarioRequest,
        Spelling(
            scenario=typer.Argument(),
            folder=typer.Argument(),
            benign=typer.Option("--set"),
            concepts=typer.Option("--concept-list"),
            perturbation=Spelling(
                steps=typer.Option("--perturbation-steps", help="Of clean-label poison: gradient steps of a picture."),
                budget=typer.Option(
                    help="Of clean-label poison: most that any value of a picture changes, of its range."
                ),
                first_step=None,
                last_step=None,
            ),
        ),
    ],
    extractor: NoneUnlessNamed,
    training: Annotated[str, typer.Option(help="sd15, sd21 or sdxl; for IconWorld cpu or full.")],
    changes: Annotated[dict[str, Any], Changes(TrainingConfig, CHANGEABLE, "the recipe's")],
    resolution: Annotated[
        int | None, typer.Option(help="Side of the training pictures. Default: the recipe's.")
    ] = None,
    from_scratch: FromScratch = False,
    as_json: AsJson = False,
) -> None:
    """Poison a benign set as an experiment of the paper does, fine-tune a model on each set, and measure them all as a
    study; run it again to resume."""
    from explorer.training.recipes import override

    recipe = override(fine_tuning_recipe(training), **changes, resolution=resolution, from_scratch=from_scratch,
                      seed=request.dose.seed)  # fmt: skip
    made = carry_out_scenario(request, recipe, extractor.spec(), show_progress())
    emit(made, as_json)
    if made["failed"]:
        told = "; ".join(f"{what}: {problem}" for what, problem in made["failed"].items())
        raise ValueError(f"not everything was measured: {told}")
