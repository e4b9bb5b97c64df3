"""``explorer meter``: how much models still listen to the words of their prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.core.bounded_files import load_json
from explorer.core.unique_names import unique_names
from explorer.meter.meter import measure_checkpoints
from explorer.meter.payload_formats import MEASURES, METER, SENSITIVITY
from explorer.meter.precision import CONCEPTS, DRAWS, precision_report
from explorer.meter.request import TIMESTEPS, MeterRequest
from explorer.pairs.concept_list import TEMPLATE, ConceptList

HEARD_LEAST = 8
"""Concepts that are printed; --json has all."""


@command("meter")
def meter(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="Checkpoint folders or files, at least one.")
    ],
    concepts: Annotated[
        Path, typer.Option(help="CSV file with a column concept and perhaps group and phrase, as of a study.")
    ],
    request: Annotated[MeterRequest, Spelling(timesteps=None)],
    reference: Annotated[
        Path | None, typer.Option(help="Checkpoint that the others are compared with: the benign one.")
    ] = None,
    timestep: Annotated[
        list[int] | None, typer.Option(help="Noise level, of 1000; repeat it for several. Default: 300 and 600.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="What the networks are shown: scenes (IconWorld's), own (each model's pictures), noise, or a folder "
            "with a picture of every concept. Default: scenes where a checkpoint records their world, else own."
        ),
    ] = None,
    sets: Annotated[
        Path | None,
        typer.Option(help="Folder of the models' pair sets, called like them: what label noise alone would do."),
    ] = None,
    template: Annotated[str, typer.Option(help="Of prompts, with {phrase} where the concept stands.")] = TEMPLATE,
    as_json: AsJson = False,
) -> None:
    """Measure how much a model's prediction owes to the concept's words, and to the prompt at all, without a judge.

    Before the work it says how many network calls that takes.
    """
    from explorer.meter.shown import shown_on

    request = replace(request, timesteps=tuple(timestep or TIMESTEPS))
    listed = ConceptList.read(concepts, template)
    found, name = _with_reference(checkpoints, reference)
    shown = shown_on(on, found, listed, request)
    report = measure_checkpoints(found, listed, shown, request, reference=name, sets=sets, on_progress=show_progress())
    if as_json:
        emit(report, True)
        return
    for line in meter_lines(report):
        typer.echo(line)


@application.command("meter-precision")
def meter_precision(
    meter: Annotated[Path, typer.Argument(metavar="FILE", help="meter.json: what the meter prints with --json.")],
    group: Annotated[str, typer.Option(help="Of concepts: all, or unpoisoned.")] = "unpoisoned",
    as_json: AsJson = False,
) -> None:
    """How many concepts and draws the meter needs: standard errors of a mean sensitivity, and of its ratio to the
    reference's, from what was measured."""
    found = precision_report(METER.checked(load_json(meter)), group)
    if as_json:
        emit({"concepts": CONCEPTS, "draws": DRAWS, "models": found}, True)
        return
    typer.echo("Standard error of the mean sensitivity, in per cent of it, for one noise and one training run.")
    for model in found:
        typer.echo(f"{model['name']}  mean {model['mean']:.4f} over {model['concepts']} concepts")
        typer.echo("\n".join(_precision_lines(model["errors"], model["mean"])))
        if (ratio := model["ratio"]) is not None:
            typer.echo(f"{model['name']}  ratio to the reference {ratio['value']:.4f}, the draws being the same")
            typer.echo("\n".join(_precision_lines(ratio["errors"], ratio["value"])))


def _precision_lines(errors: list[list[float]], of: float) -> list[str]:
    """Standard errors in per cent of a number: concepts down, draws across."""
    head = "  concepts" + "".join(f"{count:>7} draw{'s' if count > 1 else ' '}" for count in DRAWS)
    return [head, *(f"  {count:>8}" + "".join(f"{100 * error / of:>12.1f}" for error in row)
                    for count, row in zip(CONCEPTS, errors, strict=True))]  # fmt: skip


def _with_reference(paths: list[Path], reference: Path | None) -> tuple[list[Checkpoint], str | None]:
    """The reference stands first, and once; those of one name are called with the folder around them as well."""
    own = [path.resolve() for path in paths]
    if twice := [place for place in own if own.count(place) > 1]:
        raise ValueError(f"{twice[0]} is given {own.count(twice[0])} times: expected each checkpoint once")
    if reference is not None:
        others = (path for path, place in zip(paths, own, strict=True) if place != reference.resolve())
        paths = [reference, *others]
    checkpoints = [read_checkpoint(path) for path in paths]
    names = unique_names([path.absolute() for path in paths])
    found = [replace(each, name=name) for each, name in zip(checkpoints, names, strict=True)]
    return found, None if reference is None else found[0].name


def meter_lines(report: dict[str, Any]) -> list[str]:
    """A report in words: every measure of every model, and the concepts that it listens to least."""
    from explorer.evaluation.files import GROUP_WORDS

    steps = ", ".join(map(str, report["timesteps"]))
    lines = [
        f"On {report['shown']}; t = {steps}; {report['draws']} draws. Amplitudes on the scale of noise"
        + (f", and their ratios to {report['reference']}." if report["reference"] else "; no reference, no ratios."),
        "In brackets: 95 % intervals over the concepts, one noise and one training run each.",
    ]
    for model in report["models"]:
        count = model["poisoned_concept_count"]
        lines.append(f"{model['name']}  C_P {'not recorded' if count is None else count}")
        for measure, found in model["measures"].items():
            for group, each in found["groups"].items():
                if each is not None:
                    lines.append(f"  {measure:<16} {GROUP_WORDS.get(group, group):<14} {_in_words(each)}")
        lines += _label_noise_lines(model["label_noise"])
        lines += [f"  {measure:<16} not measured: {why}" for measure, why in model["not_measured"].items()]
        lines.append(f"  heard least: {', '.join(heard_least(report, model)[:HEARD_LEAST])}")
    return [*lines, *(f"{measure}: {words}" for measure, words in MEASURES.items())]


def _label_noise_lines(found: dict[str, Any] | None) -> list[str]:
    """What label noise alone would leave, and what of that is left."""
    from explorer.evaluation.files import GROUP_WORDS

    return [
        f"  {'label noise':<16} {GROUP_WORDS.get(group, group):<14} true captions {each['share']['value']:.3f}"
        + "".join(f"   {measure} x {ratio['value']:.3f}{_bounds(ratio)} of the reference times that"
                  for measure, ratio in each.items() if measure == SENSITIVITY and ratio is not None)
        for group, each in (found or {"groups": {}})["groups"].items()
        if each is not None
    ]  # fmt: skip


def heard_least(report: dict[str, Any], model: dict[str, Any]) -> list[str]:
    """Concepts and how much the model's prediction owes to them, the least first: beside the reference, if there is
    one."""
    found = model["measures"][SENSITIVITY]
    values = found["relative"] or found["per_concept"]
    known = [(value, each["concept"]) for value, each in zip(values, report["concepts"], strict=True)
             if value is not None]  # fmt: skip
    return [f"{name} {value:.2f}" for value, name in sorted(known)]


def _in_words(summary: dict[str, Any]) -> str:
    mean, relative = summary["mean"], summary["relative"]
    ratio = "" if relative is None else f"   x {relative['value']:.3f}{_bounds(relative)}"
    return f"{mean['value']:.4f}{_bounds(mean)}{ratio}"


def _bounds(value: dict[str, Any]) -> str:
    return "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
