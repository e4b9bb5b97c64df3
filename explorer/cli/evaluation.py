"""``explorer evaluate | training-runs``: what models draw, and what is the same over training runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.core.provenance import ROOT
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.training_runs import GROUP, QUANTITIES, summarise_runs

Checkpoints = Annotated[Path, typer.Option(help="Folder of the extractor, the benign control and poisoned models.")]
ICONWORLD = ROOT / "checkpoints" / "iconworld"
OWN_SETS = ROOT / "runs" / "cpu" / "sets"
"""Where ``explorer train cpu`` leaves the sets of the shipped models."""


@command("evaluate")
def evaluate(
    config: Annotated[EvaluationConfig, Spelling(seeds=None, batch_size=None)],
    checkpoints: Checkpoints = ICONWORLD,
    sets: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pair sets, one per model, named like it; default: runs/cpu/sets, if it is there."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for evaluation.json, contact-sheet.png and drawings, which are made once.")
    ] = ROOT / "runs" / "evaluation",
    seeds: Annotated[int, typer.Option(help="Pictures per concept.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Draw "a photo of C" for every concept with every model, unless drawn before, and measure what was drawn."""
    from explorer.evaluation.files import evaluate_folder

    config = replace(config, seeds=tuple(range(seeds)))
    if sets is None and OWN_SETS.is_dir():
        sets = OWN_SETS
    report = evaluate_folder(checkpoints, sets, output, config, on_progress=show_progress())
    if as_json:
        emit(report, True)
        return
    for model in report["models"]:
        typer.echo(evaluation_line(model))
    typer.echo(
        "In brackets: 95 % intervals over the concepts, one training run each; --json has those over the noises, too."
    )


def evaluation_line(model: dict[str, Any]) -> str:
    """One model of ``evaluation.json`` in a line: AD and top-1 by group of nouns."""
    from explorer.evaluation.files import GROUP_WORDS

    shares = "  ".join(
        f"{GROUP_WORDS.get(group, group)} {value['mean']:.3f}{_bounds(value)}"
        for group, value in model["accuracy"].items()
        if value is not None
    )
    difficulty = model["alignment_difficulty"]
    measured = f"  AD {difficulty['ad']:.4f}" if difficulty else ""
    return f"{model['name']:<10} C_P {model['poisoned_concept_count']:>3}{measured}  top-1: {shares}"


def _bounds(value: dict[str, Any]) -> str:
    """Over concepts; none of one concept, or where all are alike. A share lies between 0 and 1, whatever Student's
    interval over few of them says. The noises are the same for all concepts and few, so that they are no replications.
    """
    known = value["over_concepts"]
    return "" if known["low"] is None else f" [{max(0, known['low']):.3f}, {min(1, known['high']):.3f}]"


@application.command("training-runs")
def training_runs(
    evaluations: Annotated[
        list[Path], typer.Argument(metavar="EVALUATION...", help="evaluation.json of each training run, at least two.")
    ],
    as_json: AsJson = False,
) -> None:
    """Mean and 95 % t-interval over training runs of what `explorer evaluate` measured on each of them."""
    report = summarise_runs(evaluations)
    if as_json:
        emit(report, True)
        return
    if report["attention_layers_differ"]:
        typer.echo("The runs' attention maps are of different layers: what is read from them is left out.")
    for path, counts in report["left_out"].items():
        typer.echo(f"{path}: models of C_P {', '.join(map(str, counts))} are left out, since another run lacks them.")
    for path, names in report["unrecorded"].items():
        typer.echo(f"{path}: {', '.join(names)} left out, since nobody recorded how many concepts are poisoned.")
    typer.echo(f"In brackets: 95 % t-intervals over the {len(evaluations)} training runs.")
    for model in report["models"]:
        typer.echo(f"C_P {model['poisoned_concept_count']}" + (f", {model['name']}" if model["name"] else ""))
        for name, value in model.items():
            if isinstance(value, dict) and "values" not in value:
                typer.echo(f"  {_words(name):<32} {_interval(value['value'], value)}")
            elif isinstance(value, dict):
                runs = " ".join(f"{each:.4f}" for each in value["values"])
                typer.echo(f"  {_words(name):<32} {_interval(value['mean'], value)}  runs {runs}")
    if any(_beyond(name, value) for model in report["models"] for name, value in model.items()):
        typer.echo("Student's intervals of few runs reach beyond 0 and 1, where no share lies.")
    for run, tracking in zip(report["runs"], report["tracking"], strict=True):
        shown = "  ".join(
            f"{name} {'alike in all' if r is None else f'{r:.4f}'}" for name, r in (tracking or {}).items()
        )
        found = shown or "AD or accuracy not measured, or of fewer than three models"
        typer.echo(f"{run}: {found}")


def _beyond(name: str, value: Any) -> bool:
    """Whether the bounds of a share of pictures lie where no share can."""
    share = QUANTITIES.get(name, ("", ""))[0] in ("accuracy", "utility")
    return share and value is not None and value["low"] is not None and (value["low"] < 0 or value["high"] > 1)


def _interval(value: float, bounds: dict[str, Any]) -> str:
    return f"{value:.4f} " + (
        "no interval" if bounds["low"] is None else f"[{bounds['low']:.4f}, {bounds['high']:.4f}]"
    )


def _words(name: str) -> str:
    """``accuracy_unpoisoned`` -> ``accuracy, not targeted``."""
    quantity, group = QUANTITIES.get(name, (name, None))
    return name if group != GROUP else f"{quantity}, not targeted"
