"""``explorer graft-study | graft-difference``: what parts of one model restore, or damage, in another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.checkpoints.registry import read_checkpoint
from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import command
from explorer.core.bounded_files import load_json
from explorer.core.provenance import ROOT
from explorer.evaluation.judge import ConceptJudge
from explorer.pairs.concept_list import TEMPLATE, ConceptList
from explorer.surgery.comparable import check_comparable
from explorer.surgery.differences import operation_difference, over_runs
from explorer.surgery.payload_formats import GRAFT_STUDY
from explorer.surgery.request import GraftStudyRequest


@command("graft-study")
def graft_study(
    recipient: Annotated[Path, typer.Argument(metavar="RECIPIENT", help="Checkpoint that gets parts.")],
    donor: Annotated[
        Path, typer.Argument(metavar="DONOR", help="Checkpoint of the same architecture that gives them.")
    ],
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="For graft-study.json and what was drawn.")],
    request: GraftStudyRequest,
    concepts: Annotated[Path, typer.Option(help="CSV file of the concepts to draw, as for the meter.")],
    among: Annotated[
        Path | None,
        typer.Option(help="CSV file of all concepts that a picture can be taken for; default: those drawn."),
    ] = None,
    extractor: Annotated[Path, typer.Option(help="Folder of the extractor that judges the pictures.")] = (
        ROOT / "checkpoints" / "iconworld" / "extractor"
    ),
    only: Annotated[
        list[str] | None,
        typer.Option(help="Operation to measure beside none and all, such as cross-attention; repeat it for several."),
    ] = None,
    on: Annotated[str | None, typer.Option(help="What the meter shows the networks, as for the meter.")] = None,
    template: Annotated[str, typer.Option(help="Of prompts, with {phrase} where the concept stands.")] = TEMPLATE,
    as_json: AsJson = False,
) -> None:
    """Measure what groups of modules restore in RECIPIENT if they come from DONOR, beside controls that move as far.

    Before the work it says how many pictures that takes, and about how long.
    """
    from explorer.meter.shown import shown_on
    from explorer.surgery.measured import Asked
    from explorer.surgery.study import study_grafts

    found, given = read_checkpoint(recipient), read_checkpoint(donor)
    listed = ConceptList.read(concepts, template)
    judge = ConceptJudge.load(extractor, listed if among is None else ConceptList.read(among, template))
    shown = None if request.meter is None else shown_on(on, [found, given], listed, request.meter)
    asked = Asked(concepts=listed, judge=judge, shown=shown, request=request)
    lists = {"concepts": concepts} | ({} if among is None else {"among": among})
    report = study_grafts(
        found, given, asked, output, only=tuple(only or ()), lists=lists, on_progress=show_progress()
    )  # fmt: skip
    if as_json:
        emit(report, True)
        return
    for line in graft_lines(report):
        typer.echo(line)


@application.command("graft-difference")
def graft_difference(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="graft-study.json of each training run.")],
    first: Annotated[str, typer.Option(help="Operation.")] = "cross-attention",
    second: Annotated[str, typer.Option(help="Operation that is taken from it.")] = "all-as-far-as-cross-attention",
    way: Annotated[int, typer.Option(min=1, help="Direction: 2 is the donor with the recipient's parts.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What one operation of graft studies changes more than another: means over concepts by study and, of several, each
    a training run, their mean with a 95 % interval over the runs."""
    if len({path.resolve() for path in files}) < len(files):
        raise ValueError(f"got {[str(path) for path in files]}: expected each file once")
    reports = [GRAFT_STUDY.checked(load_json(path)) for path in files]
    found = [operation_difference(report, first, second, way=way - 1) for report in reports]
    check_comparable(files, reports, way=way - 1)
    pooled = over_runs(found) if len(found) > 1 else {}
    if as_json:
        by_file = [{"file": str(path), **each} for path, each in zip(files, found, strict=True)]
        emit({"first": first, "second": second, "differences": by_file, "over_runs": pooled}, True)
        return
    for path, each in zip(files, found, strict=True):
        typer.echo(f"{path}: {first} - {second}: " + ", ".join(f"{name} {value:+.4f}" for name, value in each.items()))
    for name, each in pooled.items():
        bounds = "" if each["low"] is None else f" [{each['low']:+.4f}, {each['high']:+.4f}]"
        typer.echo(f"over {each['n']} runs: {name} {each['value']:+.4f}{bounds}")


def graft_lines(report: dict[str, Any]) -> list[str]:
    """Who judged the pictures, and a report as tables, one a direction."""
    from explorer.evaluation.files import GROUP_WORDS

    judge = report["judge"]
    lines = [f"pictures judged by {judge['name']} ({judge['identity'][:12]}…)"]
    for way in report["directions"]:
        lines += [
            f"{way['recipient']} with parts of {way['donor']}; {GROUP_WORDS.get(way['group'], way['group'])} concepts",
            f"{'what moves':<38} {'parameters':>10} {'distance':>9} {'top-1':>6}  {'change':<22} {'of all':>6} "
            f"{'per unit':>8} {'p, none':>8} {'p, as far':>9} {'hears':>6} "
            f"{'attends':>8} {'scatters':>8}",
        ]
        lines += [_row(each, way["group"]) for each in way["operations"]]
    return [
        *lines,
        "In brackets: 95 % intervals over the concepts, these seeds and one training run a model. of all: share of "
        "what moving every weight changes. per unit: change of top-1 by Euclidean distance moved. p, as far: beside "
        "all weights moved equally far. hears: the meter's sensitivity, as a share of that with every weight moved. "
        "attends, scatters: the attention that the concept gets in the last third of the steps, and Geary's C of its "
        "map there, each as a share of that with every weight moved (--attention).",
    ]


def _row(entry: dict[str, Any], group: str) -> str:
    found, meter = entry["groups"][group], entry["meter"]
    change, per_unit, beside = found["change"], found["per_distance"], found["against_equally_far"]
    shares = {"hears": meter and meter[group]["sensitivity"]["of_all"]}
    shares |= {name: each["of_all"] for name, each in ((entry["attention"] or {}).get(group) or {}).items()}
    of_all = {name: share["value"] for name, share in shares.items() if share is not None}
    bounds = "" if change["low"] is None else f" [{change['low']:+.2f}, {change['high']:+.2f}]"
    cells = (
        f"{entry['name']:<38}", f"{entry['parameters']:>10.3f}", f"{entry['distance']:>9.2f}",
        f"{found['accuracy']['value']:>6.3f}", f" {change['value']:+.3f}{bounds:<16}",
        f"{_number(found['of_all'], 2):>6}", f"{_number(per_unit and per_unit['value'], 4):>8}",
        f"{_number(found['against_none']['p'], 3):>8}", f"{_number(beside and beside['p'], 3):>9}",
        f"{_number(of_all.get('hears'), 2):>6}", f"{_number(of_all.get('late_word_mass'), 2):>8}",
        f"{_number(of_all.get('late_contiguity'), 2):>8}",
    )  # fmt: skip
    return " ".join(cells)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
