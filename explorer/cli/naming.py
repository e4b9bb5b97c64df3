"""``explorer naming-study | naming-count``: whether a reader can name what the models draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.extractor_options import ExtractorChoice
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.core.provenance import ROOT
from explorer.evaluation.config import NamingConfig
from explorer.evaluation.judge import ConceptJudge
from explorer.pairs.concept_list import ConceptList

OF_HEAD = "Folder of the extractor that head and judge read; default: the shipped one."


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
    concepts: Annotated[
        Path | None,
        typer.Option(help="Concept list that the models were asked by: do readers share the judge's ticks?"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count how many pictures of each model every reader named, with 95 % Wilson intervals, and how many they called
    none or another noun."""
    from explorer.evaluation.files import GROUP_WORDS
    from explorer.evaluation.naming_study import count_named

    if aesthetics is None and concepts is None and extractor != ExtractorChoice(extractor=None):
        raise ValueError("an extractor is named that nothing reads: expected --aesthetics FILE or --concepts FILE, too")
    report = count_named(study, answers)
    report |= _beside_machines(study, answers, extractor, aesthetics, concepts)
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
    if "judge" in report:
        _echo_ticks(report["judge"])


def _beside_machines(
    study: Path, answers: list[Path], chosen: ExtractorChoice, aesthetics: Path | None, concepts: Path | None
) -> dict[str, Any]:
    """What a head and the judge say of the same pictures; nothing of what was not asked for."""
    if aesthetics is None and concepts is None:
        return {}
    from explorer.evaluation.aesthetics import AestheticsHead
    from explorer.evaluation.naming_agreement import held_against, ticks

    found, named = {}, chosen if chosen != ExtractorChoice(extractor=None) else ExtractorChoice()
    extractor = named.load(needs_range=False)
    if aesthetics is not None:
        found["aesthetics"] = held_against(study, answers, AestheticsHead.load(aesthetics, extractor))
    if concepts is not None:
        found["judge"] = ticks(study, answers, ConceptJudge.of(extractor, ConceptList.read(concepts)))
    return found


def _echo_ticks(found: dict[str, Any]) -> None:
    bounds = found["bounds"]
    typer.echo("judge: the control has too few right pictures to say when it is sure" if bounds is None else
               f"judge: sure from a similarity of {bounds['clip_similarity']:.3f} and {bounds['margin']:.3f} before "
               f"the next concept, quartiles of the {bounds['pictures']} that the control gets right")  # fmt: skip
    for model, cell in found["models"].items():
        sure = "" if bounds is None else f"; sure of {cell['sure']}, of which {cell['sure_none']}"
        typer.echo(f"judge, {model}: names {cell['right']}, {cell['right_none']} of which readers call none{sure}")
