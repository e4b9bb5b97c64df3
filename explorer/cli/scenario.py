"""``explorer scenario``: one of the paper's experiments on any base and pairs, from sets to measurements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.extractor_options import NoneUnlessNamed
from explorer.cli.fine_tuning import CHANGEABLE, FromScratch
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Changes, Spelling, command
from explorer.scenarios.experiment_request import ScenarioRequest
from explorer.scenarios.recipes import fine_tuning_recipe
from explorer.scenarios.several_bases import FurtherBase, carry_out_on_bases
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
    other_base: Annotated[
        list[Path] | None,
        typer.Option(help="A further base that the same is done with, as in Table 3; may be repeated."),
    ] = None,
    other_training: Annotated[
        list[str] | None,
        typer.Option(help="Recipe of a further base, in the order of --other-base; default: --training's for all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Poison a benign set as an experiment of the paper does, fine-tune a model on each set, and measure them all as a
    study; run it again to resume."""
    from explorer.training.recipes import override

    recipes = [
        override(fine_tuning_recipe(name), **changes, resolution=resolution, from_scratch=from_scratch,
                 seed=request.dose.seed)
        for name in (training, *_other_recipes(training, other_base or [], other_training))
    ]  # fmt: skip
    further = [FurtherBase(path=path, recipe=own) for path, own in zip(other_base or (), recipes[1:], strict=True)]
    made = carry_out_on_bases(request, recipes[0], further, extractor.spec(), show_progress())
    emit(made, as_json)
    if told := "; ".join(_not_measured(made)):
        raise ValueError(f"not everything was measured: {told}")


def _other_recipes(training: str, bases: list[Path], named: list[str] | None) -> list[str]:
    """Names, one for each further base."""
    if named is not None and len(named) != len(bases):
        raise ValueError(f"{len(named)} other recipes for {len(bases)} other bases: expected one for each, or none")
    return named or [training] * len(bases)


def _not_measured(made: dict[str, Any]) -> Iterator[str]:
    for base, each in {"": made, **made.get("bases", {})}.items():
        of = f" of {base}" if base else ""
        yield from (f"{what}{of}: {problem}" for what, problem in each["failed"].items())
