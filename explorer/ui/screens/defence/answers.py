"""What the library says of a filter, for programs, for the page's exact figures, and for the files that it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.core.bounded_files import parse_json
from explorer.defence.exports import filtered_pairs
from explorer.defence.recipe import ScoreFilter, read_recipe
from explorer.defence.report import held_out_report
from explorer.studies.filtering import report_filter, scored_pairs
from explorer.ui.screens.defence.payload import describe_arm
from explorer.ui.screens.graphs.selection_code import decode_rows

if TYPE_CHECKING:
    from explorer.defence.filter_files import ScoredPairs
    from explorer.defence.recipe import Filter
    from explorer.ui.shell.open_study import OpenStudy

HALF_SEED = 0
"""As ``explorer study filter --choose`` takes it where no other is given."""


def filter_answer(opened: OpenStudy, arm: str, recipe: str, stamp: str | None = None) -> dict[str, Any]:
    """What ``explorer study filter --json`` prints.

    Imports torch where the pairs' features have to be asked.

    Args:
        opened: the study.
        arm: its name.
        recipe: as JSON.
        stamp: the arm's, as the payload gives it: a caller who knows another one means other scores.

    Raises:
        ManifestError: if the arm is not scored, or its files are missing or were changed.
        ValueError: if there is no such arm, or naming what is wrong with the recipe.
    """
    pairs = _pairs(opened, arm, stamp)
    return report_filter(opened.study, arm, _read(recipe, pairs, stamp))


def held_out_answer(opened: OpenStudy, arm: str, stamp: str, recipe: str, criterion: str) -> dict[str, Any]:
    """A threshold found on one half of the pairs and its grade on either: as ``explorer study filter --choose``.

    Args:
        recipe: as JSON, a filter of one score.
        criterion: see :data:`~explorer.defence.held_out.CRITERIA`.

    Raises:
        ManifestError: as :func:`filter_answer`.
        ValueError: as :func:`filter_answer`, for a filter of several scores or of a list, or as
            :func:`~explorer.defence.report.held_out_report`.
    """
    pairs = _pairs(opened, arm, stamp)
    chosen = _read(recipe, pairs, stamp)
    if not isinstance(chosen, ScoreFilter):
        raise ValueError("one threshold is to be found: expected a filter of one score")
    return held_out_report(pairs, chosen, criterion, HALF_SEED)[1]


def export_filtered(opened: OpenStudy, arm: str, stamp: str, recipe: str, *, form: str, which: str) -> bytes:
    """The pairs that a filter keeps or removes, as a file; see :func:`~explorer.defence.exports.filtered_pairs`.

    Raises:
        ManifestError: as :func:`filter_answer`.
        ValueError: as :func:`filter_answer`, or if there is no such form.
    """
    pairs = _pairs(opened, arm, stamp)
    return filtered_pairs(pairs, _read(recipe, pairs, stamp), form, which)


def _pairs(opened: OpenStudy, arm: str, stamp: str | None) -> ScoredPairs:
    found = describe_arm(opened, arm)
    if stamp not in (None, found["stamp"]):
        raise ValueError(f"the scores of {arm} have been measured again since: load the page again")
    return opened.remember(("filters", arm), found["stamp"], lambda: scored_pairs(opened.study, arm))


def _read(recipe: str, pairs: ScoredPairs, stamp: str | None) -> Filter:
    try:
        value = parse_json(recipe.encode("utf-8"))
    except ValueError as error:
        raise ValueError(f"the recipe is no JSON: {error}") from error
    return read_recipe(_with_names(value, pairs, stamp))


def _with_names(value: Any, pairs: ScoredPairs, stamp: str | None) -> Any:
    """The recipe with the pairs' names for every ``{"rows": "STAMP.CODE"}``, as the page writes a list of pairs."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"rows"}:
        own, _, code = str(value["rows"]).partition(".")
        if own != stamp:
            raise ValueError("the recipe lists pairs of other scores: expected those that the page shows")
        return {"uids": [pairs.uids[row] for row in decode_rows(code, len(pairs))]}
    lists = {name: value[name] for name in ("all", "any") if isinstance(value.get(name), list)}
    return value | {name: [_with_names(part, pairs, stamp) for part in parts] for name, parts in lists.items()}
