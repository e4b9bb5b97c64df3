"""``explorer naming-study | naming-count``: whether a reader can name what the models draw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.extractor_options import ExtractorChoice
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.core.provenance import ROOT
from explorer.evaluation.config import NamingConfig

OF_HEAD = "Folder of the extractor whose features the head reads; default: the shipped one."

if TYPE_CHECKING:
    from explorer.evaluation.aesthetics import AestheticsHead


@command("naming-study")
def naming_study(
    config: Annotated[NamingConfig, Spelling(concepts_per_group=None)],
    output: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder to write.")],
    checkpoints: Annotated[Path, typer.Option(help="Folder of the benign control and the poisoned models.")] = (
        ROOT / "checkpoints" / "iconworld"
    ),
    as_json: AsJson = False,
) -> None:
    """Draw unlabelled pictures of the control and of the most poisoned model, in random order, for readers to name.

    A reader gets the tiles, nouns.txt and a copy of form.json to fill in, and not key.json.
    """
    from explorer.evaluation.naming_study import write_naming_study

    manifest = write_naming_study(checkpoints, output, config, on_progress=show_progress())
    emit({"study": str(output), **manifest["config"], "files": len(manifest["files"])}, as_json)


@command("naming-count")
def naming_count(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")],
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="Filled-in forms, one a reader.")],
    extractor: Annotated[ExtractorChoice, Spelling(extractor=typer.Option(None, help=OF_HEAD), feature_range=None)],
    aesthetics: Annotated[
        Path | None, typer.Option(help="Aesthetics head: does it score higher what readers name than what is none?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count how many pictures of each model every reader named, with 95 % Wilson intervals, and how many they called
    none or another noun."""
    from explorer.evaluation.files import GROUP_WORDS
    from explorer.evaluation.naming_study import count_named, held_against

    if aesthetics is None and extractor != ExtractorChoice(extractor=None):
        raise ValueError("an extractor is named without a head that reads it: expected --aesthetics FILE, too")
    report = count_named(study, answers)
    if aesthetics is not None:
        report["aesthetics"] = held_against(study, answers, _head(aesthetics, extractor))
    if as_json:
        emit(report, True)
        return
    for reader, models in report["readers"].items():
        for model, groups in models.items():
            named = {GROUP_WORDS.get(group, group): cell for group, cell in groups.items()}
            cells = (f"{group} {cell['named']}/{cell['shown']} [{cell['low']:.2f}, {cell['high']:.2f}]"
                     for group, cell in named.items())  # fmt: skip
            unnamed, others = groups["all"]["none"], groups["all"]["shown"] - groups["all"]["named"]
            typer.echo(f"{reader}  {model:<10} {'  '.join(cells)}  none {unnamed}, another noun {others - unnamed}")
    for model, cell in report.get("aesthetics", {}).items():
        reach = "no interval" if cell["low"] is None else f"[{cell['low']:.2f}, {cell['high']:.2f}]"
        area = "not measured" if cell["auc"] is None else f"{cell['auc']:.3f} {reach}"
        typer.echo(f"head, {model}: {area} that one of {cell['named']} named scores above one of {cell['none']} none")


def _head(weights: Path, chosen: ExtractorChoice) -> AestheticsHead:
    from explorer.evaluation.aesthetics import AestheticsHead

    named = chosen if chosen != ExtractorChoice(extractor=None) else ExtractorChoice()
    return AestheticsHead.load(weights, named.load(needs_range=False))
