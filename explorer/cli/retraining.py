"""``explorer study retrain | recover``: train again on what a filter leaves, or on benign pairs alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Changes, command
from explorer.cli.study import Folder, read_study, study
from explorer.defence.training_sets import KnownPoison, RandomDraw
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.recipes import fine_tuning_recipe
from explorer.studies import retraining
from explorer.studies.arms import arm_checkpoint
from explorer.studies.filtering import read_recipe_file, saved_filter
from explorer.studies.retrained_results import retrained_results
from explorer.studies.study import Study
from explorer.training.config import TrainingConfig

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.defence.training_sets import LeftOut
    from explorer.studies.retraining import RetrainedModel
    from explorer.training.recipes import FineTuningRecipe

CHANGEABLE = (
    "steps", "batch_size", "accumulation", "learning_rate", "warmup_steps", "ema_decay", "precision", "fused",
    "gradient_checkpointing", "checkpoint_every",
)  # fmt: skip
ArmName = Annotated[str, typer.Argument(metavar="ARM", help="Arm of the study.")]
Training = Annotated[
    str | None,
    typer.Option(help="cpu, full, sd15, sd21 or sdxl; default: as the arm's own checkpoint says that it was trained."),
]
Resolution = Annotated[int | None, typer.Option(help="Side of the training pictures. Default: the recipe's.")]
Device = Annotated[str, typer.Option(help="cpu or cuda; under torchrun the local rank's GPU.")]


@command("retrain", study)
def retrain(
    folder: Folder,
    arm: ArmName,
    changes: Annotated[dict[str, Any], Changes(TrainingConfig, CHANGEABLE, "the recipe's")],
    recipe: Annotated[Path | None, typer.Option(help="JSON file of a filter.")] = None,
    filter_name: Annotated[str | None, typer.Option("--filter", help="A filter that is saved in the study.")] = None,
    random: Annotated[
        int | None, typer.Option(help="In place of a filter, leave out so many pairs drawn at random; 0 for none.")
    ] = None,
    random_seed: Annotated[int, typer.Option(min=0, help="Of that draw.")] = 0,
    known_poison: Annotated[
        bool, typer.Option("--known-poison", help="In place of a filter, leave out every pair recorded as poison.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the model; default: the filter's or its file's.")] = None,
    training: Training = None,
    resolution: Resolution = None,
    base: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from; default: the one that the arm's records.")
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Fine-tune an arm's base on the training pairs that a filter leaves; run it again to resume. The step `retrained`
    then draws and measures it."""
    found = Study.load(folder)
    rule, named = _left_out(found, recipe, filter_name, random, random_seed, known_poison)
    chosen = _training_recipe(found, arm, training, changes | {"resolution": resolution})
    made = retraining.retrain(
        found, arm, name or named, rule, chosen, base=base, device=device, on_progress=show_progress()
    )
    _emit(made, as_json)


@command("recover", study)
def recover(
    folder: Folder,
    arm: ArmName,
    changes: Annotated[dict[str, Any], Changes(TrainingConfig, CHANGEABLE, "the recipe's")],
    pairs: Annotated[Path, typer.Option(help="Pair set of benign pairs that the arm was not trained on.")],
    size: Annotated[
        list[int],
        typer.Option(
            help="Pairs to train on, the set's first; may be repeated. Ding et al. (2024), Table 6, take .1, .2, .4 "
            "and .6 of the arm's number."
        ),
    ],
    name: Annotated[
        str, typer.Option(help="Of the models, before their size: for another set or training of one size.")
    ] = retraining.RECOVERY,
    training: Training = None,
    resolution: Resolution = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Fine-tune an arm's own model on growing amounts of benign pairs, each pair seen as often; run it again to
    resume."""
    found, benign = Study.load(folder), PairSet.load(pairs)
    chosen = _training_recipe(found, arm, training, changes | {"resolution": resolution})
    for each in size:
        made = retraining.recover(
            found, arm, benign, each, chosen, name=name, device=device, on_progress=show_progress()
        )
        _emit(made, as_json)


def _left_out(
    found: Study, recipe: Path | None, filter_name: str | None, random: int | None, seed: int, known_poison: bool
) -> tuple[LeftOut, str]:
    """What is left out, and what a model of it is called."""
    given = [recipe is not None, filter_name is not None, random is not None, known_poison]
    if sum(given) != 1:
        raise ValueError(
            f"{sum(given)} of --recipe, --filter, --random and --known-poison are given: expected one of them"
        )
    if recipe is not None:
        return read_recipe_file(recipe), recipe.stem
    if filter_name is not None:
        return saved_filter(found, filter_name), filter_name
    if random is not None:
        return RandomDraw(count=random, seed=seed), f"random-{random}"
    return KnownPoison(), "known-poison"


def _training_recipe(found: Study, arm: str, name: str | None, changes: dict[str, Any]) -> FineTuningRecipe:
    from explorer.training.recipes import as_recorded, override

    if name is not None:
        return override(fine_tuning_recipe(name), **changes)
    checkpoint: Checkpoint = arm_checkpoint(found.arm(arm))
    if (recorded := checkpoint.config.get("recipe")) is None:
        raise ValueError(f"the checkpoint of {arm} does not record how it was trained: expected --training")
    typer.echo(f"training as {arm} records it: recipe {recorded}", err=True)
    return override(as_recorded(fine_tuning_recipe(recorded), checkpoint.config), **changes)


def _emit(made: RetrainedModel | None, as_json: bool) -> None:
    if made is not None:
        emit({"output": str(made.folder), "name": made.name, **made.record}, as_json)


@study.command("retrained")
def retrained(folder: Folder, as_json: AsJson = False) -> None:
    """What models draw that were trained again: top-1 by group of concepts, and the difference to the model that was
    trained without as many pairs drawn at random; recovery with the paper's numbers."""
    found = retrained_results(read_study(folder))
    if as_json:
        emit(found, True)
        return
    typer.echo(f"top-1 of {len(found['drawn'])} concepts, seeds {found['seeds']}, with the {found['interval']}")
    if found["control"] is not None:
        _print_model("control", found["control"])
    for arm, models in found["arms"].items():
        _print_model(arm, models["unfiltered"])
        for model in sorted(models["models"], key=lambda each: (each["removed"], each["name"])):
            lost = f"removed {model['removed']}, poison {_known(model['poison_removed'])}"
            _print_model(f"{arm} {model['name']}", model, lost, f"benign {_known(model['benign_lost'])}")
            for other in (model["against_random"], model["against_unfiltered"]):
                if other is not None:
                    typer.echo(f"  less {other['model']}: {_groups(other['top1'])}")
            if model.get("not_compared"):  # results of earlier releases do not say it
                typer.echo(f"  trained otherwise, and not compared with: {', '.join(model['not_compared'])}")
        for model in models["recovery"]:
            cost = f"{model['kept']} benign pairs, {model['steps']} steps"
            _print_model(f"{arm} {model['name']}", model, cost, f"{model['seconds']:.0f} s")
        if models["recovery"]:
            _print_paper(found["paper_recovery"])


def _print_model(name: str, model: dict[str, Any], *facts: str) -> None:
    typer.echo(f"{', '.join((name, *facts))}: {_groups(model['metrics']['top1'])}")


def _print_paper(paper: dict[str, Any]) -> None:
    typer.echo(f"{paper['label']}: {paper['definitions']['accuracy']}")
    for row in paper["rows"]:
        pairs = "" if row["benign_pairs"] is None else f", {row['benign_pairs']} benign pairs"
        told = ", ".join(f"{group} {value}" for group, value in row["accuracy"].items() if value is not None)
        typer.echo(f"  {row['model']}{pairs}: {told}")


def _groups(shares: dict[str, Any]) -> str:
    """Every group that is known and was drawn."""
    return ", ".join(f"{group} {interval_words(each)}" for group, each in shares.items() if each is not None)


def interval_words(share: dict[str, Any]) -> str:
    bounds = "" if share["low"] is None else f" [{share['low']:.3f}, {share['high']:.3f}]"
    return f"{share['mean']:.3f}{bounds}"


def _known(count: int | None) -> str:
    return "not recorded" if count is None else str(count)
