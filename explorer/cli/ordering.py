"""``explorer study order | difference``: which number orders arms as their damage does; two arms concept by concept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.study import study
from explorer.studies.differences import difference
from explorer.studies.ordering import ordering
from explorer.studies.study import Study

Group = Annotated[
    str,
    typer.Option(help="Of concepts: all, pool, poisoned, or unpoisoned (neither a target of poison nor of the pool)."),
]
Folders = Annotated[list[Path], typer.Argument(metavar="STUDY...", help="Folders of studies, together.")]


@study.command("order")
def order(
    folders: Folders,
    outcome: Annotated[str, typer.Option(help="The damage: what evaluation or meter measured.")] = "accuracy",
    group: Group = "unpoisoned",
    as_json: AsJson = False,
) -> None:
    """Rank correlation of everything that is measured of arms, of pairs, of the meter and of pictures, with the damage.

    95 % intervals over arms, as if each were drawn by itself: arms of one run share benign pairs and noise.
    """
    found = ordering([Study.load(folder) for folder in folders], outcome=outcome, group=group)
    if as_json:
        emit(found, True)
        return
    typer.echo(f"Spearman's correlation with {outcome} of {group} concepts over {len(found['arms'])} arms")
    known = {name: each for name, each in found["correlations"].items() if each is not None}
    for name, each in sorted(known.items(), key=lambda item: -abs(item[1]["value"])):
        typer.echo(f"{name:32s} {_interval(each)}  n = {each['n']}")
    if rest := sorted(found["correlations"].keys() - known.keys()):
        typer.echo(f"not measured of two arms, or alike in all: {', '.join(rest)}")


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
    concepts, by study."""
    found = [difference(Study.load(folder), first, second, group=group, names=concept or ()) for folder in folders]
    if as_json:
        emit({"differences": found}, True)
        return
    for each in found:
        for name, value in each["differences"].items():
            means = " - ".join(f"{mean:.3f}" for mean in value["of_arms"])
            share = "" if value["share"] is None else f"  share {_interval(value['share']).replace('+', '')}"
            told = f"{means} = {_interval(value)}  n = {value['n']}{share}"
            typer.echo(f"{each['study']}: {first} - {second}, {name}: {told}")


def _interval(value: dict[str, Any]) -> str:
    bounds = "" if value["low"] is None else f" [{value['low']:+.3f}, {value['high']:+.3f}]"
    return f"{value['value']:+.3f}{bounds}"
