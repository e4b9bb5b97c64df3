"""``explorer study filter``: what a filter removes of an arm's pairs, what it costs and leaves, and lists of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.filter_options import FilterOptions
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import command
from explorer.cli.study import Folder, study
from explorer.core.provenance import replacing
from explorer.defence.exports import filtered_pairs
from explorer.defence.recipe import Combination, ScoreFilter
from explorer.defence.report import compared, filter_report, held_out_report
from explorer.pairs.uid_files import FORMS as KNOWN
from explorer.studies.filtering import (
    current_scored_pairs,
    read_recipe_file,
    remaining_structure,
    save_filter,
    saved_filter,
)
from explorer.studies.results import FILTERS, command_line
from explorer.studies.study import Study

if TYPE_CHECKING:
    from explorer.defence.filter_files import ScoredPairs
    from explorer.defence.recipe import Filter

INTERVAL = "{value:.4f} ({low:.4f} to {high:.4f})"
SAVE_FIRST = "save the filter with --name NAME to fine-tune on what it leaves"
FORMS = ".parquet, .csv, .json or .npy"


@command("filter", study)
def filter_pairs(
    folder: Folder,
    arm: Annotated[str, typer.Argument(metavar="ARM", help="Arm whose training pairs are filtered.")],
    options: FilterOptions,
    against: Annotated[
        str | None, typer.Option(help="Another filter, a saved name or a JSON file, to compare.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Save the filter in the study under this name.")] = None,
    export: Annotated[Path | None, typer.Option(help=f"New file for a list of the pairs: {FORMS}.")] = None,
    which: Annotated[str, typer.Option(help="kept or removed: the pairs of --export.")] = "kept",
    as_json: AsJson = False,
) -> None:
    """What a filter removes of an arm's training pairs, AD of what remains, and, where it is known which pairs are
    poison, how good it is. Nothing of the pairs is changed."""
    found = Study.load(folder)
    pairs = options.with_own_scores(current_scored_pairs(found, arm))
    chosen = options.chosen(found, pairs)
    if chosen is None:
        _list_scores(pairs, as_json)
        return
    if export is not None:
        _check_export(export)
    held_out = {}
    if options.choose is not None:
        chosen, told = held_out_report(pairs, chosen, options.choose, options.half_seed)
        held_out = {"held_out": told}
    report = filter_report(pairs, chosen, remaining_structure(found, arm, pairs, show_progress())) | held_out
    if against is not None:
        report["compared"] = compared(pairs, chosen, _named_or_file(found, against))
    if name is not None:
        report["saved"] = str(save_filter(found, name, chosen))
    if export is not None:
        report["exported"] = _export(pairs, chosen, export, which)
    report["next"] = _next(folder, arm, name, options, _brought(pairs, chosen))
    emit(report if as_json else _told(report), as_json)


def _named_or_file(found: Study, value: str) -> Filter:
    return read_recipe_file(Path(value)) if value.endswith(".json") else saved_filter(found, value)


def _check_export(path: Path) -> None:
    if path.suffix.removeprefix(".") not in KNOWN:
        raise ValueError(f"the list goes to {path}: expected a file name that ends in {FORMS}")
    if path.exists():
        raise ValueError(f"{path} exists already: choose another file for the list")


def _export(pairs: ScoredPairs, chosen: Filter, path: Path, which: str) -> dict[str, Any]:
    content = filtered_pairs(pairs, chosen, path.suffix.removeprefix("."), which)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return {"file": str(path), "which": which}


def _next(folder: Path, arm: str, name: str | None, options: FilterOptions, brought: list[str]) -> str:
    """The one command that fine-tunes on what is left, or what has to be done before there is one.

    Args:
        name: under which the filter was saved just now.
        brought: scores of the filter that the study does not have.
    """
    if brought:
        return (
            f"fine-tuning by the study needs {' and '.join(brought)} in it: name the file and columns as scores and "
            f"columns in [filters] of study.toml, then `{command_line('run', folder, FILTERS)}`; or give --export "
            "removed.parquet --which removed, a list for `fine-tune --without`"
        )
    if name is None and options.choose is not None:  # the chosen cut is in no file yet
        return SAVE_FIRST
    if (saved := name or options.saved) is not None:
        return command_line("retrain", folder, arm, "--filter", saved)
    if options.recipe is not None:
        return command_line("retrain", folder, arm, "--recipe", options.recipe)
    return SAVE_FIRST


def _brought(pairs: ScoredPairs, recipe: Filter) -> list[str]:
    """The scores that a filter asks and that were brought along, each once."""
    if isinstance(recipe, Combination):
        return list(dict.fromkeys(name for each in recipe.filters for name in _brought(pairs, each)))
    return [recipe.score] if isinstance(recipe, ScoreFilter) and recipe.score in pairs.brought else []


def _list_scores(pairs: ScoredPairs, as_json: bool) -> None:
    described = [pairs.describe(name) for name in pairs.scores]
    if as_json:
        emit({"set": pairs.header["set"], "alignment": pairs.header["alignment"], "scores": described}, True)
        return
    for each in described:
        typer.echo(f"{each['name']}: {each['words']} Suspicious: {each['remove']}.")
        half = each["at_half_the_poison"]
        shown = {
            "auc": each["auc"], "average precision": each["average_precision"],
            "benign lost at half of the poison": half and half["benign_lost_share"],
        }  # fmt: skip
        for what, value in shown.items():
            typer.echo(f"  {what}  {_interval(value)}")
        if each["unscored"]:
            typer.echo(f"  unknown of {each['unscored']:,} pairs")


def _interval(value: dict[str, float | None] | None) -> str:
    if value is None:
        return "unknown: it takes pairs known to be poison and pairs known to be benign"
    if value["low"] == value["high"]:  # None; files that were written before that was said have them alike
        return f"{value['value']:.4f} (no interval: all draws of the pairs agree)"
    return INTERVAL.format(**value)


def _counted(part: dict[str, int | None]) -> str:
    """How many pairs of which kind; a kind of which nothing is recorded has no number."""
    kinds = [f"{part[kind]:,} {kind}" for kind in ("poison", "benign") if part[kind] is not None]
    if part["unrecorded"] or not kinds:
        kinds.append(f"{part['unrecorded']:,} of which it is not recorded")
    return ", ".join([f"{part['pairs']:,} pairs", *kinds])


def _told(report: dict[str, Any]) -> dict[str, Any]:
    """A report in lines for a person."""
    before, after = report["alignment_before"], report["alignment"]
    told: dict[str, Any] = {
        "removed": f"{report['removed']:,} of {report['pairs']:,} pairs; {report['unscored']:,} without a score stay, "
        f"{report['tied_at_cut']:,} stay that score the same as one removed",
    }
    for part in ("feature_ad", "structure_ad", "ad"):
        told[part] = f"{before[part]:.4f} before, {'unknown' if after[part] is None else format(after[part], '.4f')}"
    told["structure_from"] = after["structure_from"]
    for what, value in (report["grade"] or {"grade": None}).items():
        told[what] = _interval(value)
    lost = report["collateral"]
    told["lost"] = f"{lost['lost']:,} of {lost['pairs']:,} {lost['of']}"
    if lost["concepts"]:
        named = (f"{each['concept']} {each['removed']}/{each['pairs']}" for each in lost["concepts"])
        told["concepts_hit_most"] = ", ".join(named)
    for groups in ("lengths", "scripts"):
        if lost[groups]["uneven"]:
            shares = (f"{each['name']} {each['lost_share']['value']:.1%}" for each in lost[groups]["groups"])
            told[f"{groups}_hit_unevenly"] = ", ".join(shares)
    if held := report.get("held_out"):
        told["threshold"] = held["threshold"]
        for half in ("chosen_on", "graded_on"):
            grade = held[half]["grade"]
            told[half] = f"{held[half]['pairs']:,} pairs: F1 {_interval(grade and grade['f1'])}"
    if other := report.get("compared"):
        for part in ("both", "only_this", "only_against"):
            told[part] = _counted(other[part])
    return told | {key: report[key] for key in ("saved", "exported", "next") if key in report}
