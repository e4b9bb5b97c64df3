"""``explorer study order | difference | layers``: which number orders arms as their damage does; two arms concept by
concept; attention layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.study import read_study, study
from explorer.studies.confirmation import confirmation
from explorer.studies.differences import difference, nested_share, over_studies, why_not_pooled
from explorer.studies.layers import by_layer
from explorer.studies.ordering import check_each_once, not_recorded, ordering

Group = Annotated[
    str,
    typer.Option(help="Of concepts: all, pool, poisoned, or unpoisoned (neither a target of poison nor of the pool)."),
]
OF_PICTURES = ("accuracy", "classifier", "broken")
"""Quantities that are shares of pictures."""
Folders = Annotated[list[Path], typer.Argument(metavar="STUDY...", help="Folders of studies, together.")]


@study.command("order")
def order(
    folders: Folders,
    outcome: Annotated[str, typer.Option(help="The damage: what evaluation or meter measured.")] = "accuracy",
    group: Group = "unpoisoned",
    without: Annotated[
        list[str] | None, typer.Option(help="Arm that does not count, in whichever study; may be repeated.")
    ] = None,
    confirm: Annotated[
        list[Path] | None,
        typer.Option(help="Study that the best number of the others is held against; may be repeated."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Another weight of feature AD, for AD and local AD from their stored parts, beside the usual."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank correlation of everything that is measured of arms, of pairs, of the meter and of pictures, with the damage.

    95 % intervals over arms, as if each were drawn by itself: arms of one run share benign pairs and noise.
    """
    studies = [read_study(folder) for folder in folders]
    if confirm:
        if without or alpha is not None:
            raise ValueError("--without and --alpha go without --confirm, which takes every arm and no number of pairs")
        _confirm(confirmation(studies, [read_study(each) for each in confirm], outcome=outcome, group=group), as_json)
        return
    found = ordering(studies, outcome=outcome, group=group, without=without or (), alpha=alpha)
    if as_json:
        emit(found, True)
        return
    arms = found["arms"]
    having = sum(arm["values"].get(outcome) is not None for arm in arms)
    of_all = "" if having == len(arms) else f" of {len(arms)}, those that have it"
    typer.echo(f"Spearman's correlation with {outcome} of {group} concepts over {having} arms{of_all}")
    if found["unknown"]:
        typer.echo(f"{len(arms) - having} arms are without it; {not_recorded(len(found['unknown']))}")
    for each in found["left_out"]:
        typer.echo(f"left out: {each['arm']} of {each['study']}, the same model as {each['same_as']}")
    known = {name: each for name, each in found["correlations"].items() if each is not None}
    for name, each in sorted(known.items(), key=lambda item: -abs(item[1]["value"])):
        typer.echo(f"{name:32s} {_interval(each)}  n = {each['n']}")
    if rest := sorted(found["correlations"].keys() - known.keys()):
        typer.echo(f"not measured of two of the {having} arms, or alike in all: {', '.join(rest)}")


def _confirm(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(found, True)
        return
    candidates = found["candidates"]
    typer.echo(f"Spearman's correlation with {found['outcome']} of {found['group']} concepts: where chosen, where "
               "held against")  # fmt: skip
    for each in candidates:
        counts = f"n = {each['chosen_on']['n']}, {each['held_against']['n']}"
        typer.echo(f"{each['name']:32s} {_interval(each['chosen_on'])}  {_interval(each['held_against'])}  {counts}")
    tied = f", with {found['tied']} as good" if found["tied"] else ""
    typer.echo(f"chosen: {candidates[0]['name']}{tied}; there it is number {found['place']} of {len(candidates)}")


@study.command("layers")
def layers(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study.")],
    group: Group = "unpoisoned",
    as_json: AsJson = False,
) -> None:
    """Attention layer by layer, of every evaluated arm, with 95 % intervals over concepts.

    Late attention to the concept and Geary's C of its map, overlap of two concepts' maps, and on painted scenes mass in
    the object and IoU with it.
    """
    found = by_layer(read_study(folder), group=group)
    if as_json:
        emit(found, True)
        return
    for layer, metrics in found["layers"].items():
        typer.echo(layer)
        for name, arms in metrics.items():
            told = ", ".join(f"{arm} {_mean(value)}" for arm, value in arms.items())
            typer.echo(f"  {name:18s} {told}")


def _mean(value: dict[str, Any] | None) -> str:
    if value is None:
        return "not measured"
    return f"{value['mean']:.4f}" + ("" if value["low"] is None else f" [{value['low']:.4f}, {value['high']:.4f}]")


@study.command("difference")
def difference_command(
    folders: Folders,
    first: Annotated[str, typer.Option(help="Arm.")],
    second: Annotated[str, typer.Option(help="Arm that is taken from it.")],
    group: Group = "unpoisoned",
    concept: Annotated[list[str] | None, typer.Option(help="Concept, in place of a group; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """What one arm has more than another, concept by concept, and as a share of it: mean and 95 % interval over the
    concepts, by study; of several studies, each a training run, over these as well, and of the share of accuracy over
    runs, the concepts in them and the noises, where it is stored what each noise drew. What differs by more than its
    training run, or holds the same models, is not averaged, and the reason is printed."""
    studies = [read_study(folder) for folder in folders]
    check_each_once(studies)
    found = [difference(study, first, second, group=group, names=concept or ()) for study in studies]
    reason = why_not_pooled(studies, [first, second]) if len(found) > 1 else None
    pooled = over_studies(found) if len(found) > 1 and reason is None else {}
    nested = nested_share(studies, first, second, group=group, names=concept or ()) if pooled else None
    if as_json:
        over = {"over_studies": pooled, "nested_share": nested} if pooled else {}
        emit({"differences": found, **over, **({} if reason is None else {"not_pooled": reason})}, True)
        return
    for each in found:
        for name, value in each["differences"].items():
            means = " - ".join(f"{mean:.3f}" for mean in value["of_arms"])
            told = f"{means} = {_interval(value)}  n = {value['n']}{_share(value)}{_pictures(value)}"
            typer.echo(f"{each['study']}: {first} - {second}, {name}: {told}")
    if reason is not None:
        typer.echo(f"not averaged over the {len(found)} studies: {reason}")
    for name, value in pooled.items():
        told = f"{_interval(value)}  n = {value['n']}{_share(value)}"
        typer.echo(f"over {len(found)} studies: {first} - {second}, {name}: {told}")
    if nested is not None:
        typer.echo(f"over {len(found)} studies, the concepts and the noises in them: {first} / {second}, accuracy: "
                   f"{_interval(nested).replace('+', '')}")  # fmt: skip
    if any(
        _beyond(name, value)
        for each in (*(each["differences"] for each in found), pooled)
        for name, value in each.items()
    ):
        typer.echo(
            "Student's intervals of few concepts or studies reach beyond what shares and their differences can be."
        )


def _beyond(name: str, value: dict[str, Any]) -> bool:
    """Whether bounds lie where no number can: a difference of two shares of pictures beyond 1, or a ratio below 0."""
    low, high = value["low"], value["high"]
    ratio = value["share"]
    return (name in OF_PICTURES and low is not None and max(-low, high) > 1) or (
        ratio is not None and ratio["low"] is not None and ratio["low"] < 0
    )


def _pictures(value: dict[str, Any]) -> str:
    if (counts := value.get("pictures")) is None:
        return ""
    return f"  right alone: {counts['rises']} and {counts['falls']} pictures, McNemar's p {counts['p']:.3g}"


def _share(value: dict[str, Any]) -> str:
    return "" if value["share"] is None else f"  share {_interval(value['share']).replace('+', '')}"


def _interval(value: dict[str, Any]) -> str:
    bounds = "" if value["low"] is None else f" [{value['low']:+.3f}, {value['high']:+.3f}]"
    return f"{value['value']:+.3f}{bounds}"
