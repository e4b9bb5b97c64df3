"""The arms whose training pairs can be filtered, and where the files of each are.

What a filter removes is worked out in the browser; :mod:`explorer.ui.screens.defence.answers` asks the library.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from explorer.alignment.payload_formats import COLUMNS_NAME
from explorer.core.provenance import ROOT, ManifestError
from explorer.defence.payload_formats import FILTERS as FORMAT
from explorer.defence.payload_formats import RETRAINED as RETRAINED_FORMAT
from explorer.defence.recipe import recipe_json
from explorer.studies.results import FILTERS, GRAPHS, RETRAINED, command_line, step_manifest
from explorer.ui.screens.graphs.payload import STAMP_LETTERS, graphs_payload
from explorer.ui.shell.drawn import how_drawn
from explorer.ui.shell.missing_steps import shown_folder
from explorer.ui.shell.open_study import STUDY_ROUTE, OpenStudy, told

STRIP_NAME = "strip.png"
PAPER_RECOVERY = ROOT / "assets" / "paper" / "table6.json"


def defence_payload(opened: OpenStudy) -> dict[str, Any]:
    """Every arm whose training pairs are scored, those of which no poison is recorded first, the most poisoned last;
    saved filters; and retrained models.

    Raises:
        ManifestError: if no arm is scored, or a file is missing, changed, or not in this version's format.
    """
    graphs = _drawn_sets(opened)
    return {
        "arms": [arm | {"graphs": graphs.get(arm["name"])} for arm in _arms(opened)],
        "saved": _saved_filters(opened),
        "retrained": _retrained(opened),
        "paper_recovery": json.loads(PAPER_RECOVERY.read_text(encoding="utf-8")),
        "graphs_command": opened.result_command(GRAPHS),
    }


def opening_arm(opened: OpenStudy) -> str:
    """The arm that the screen opens with, the most poisoned one.

    Raises:
        ManifestError: as :func:`defence_payload`.
    """
    return _arms(opened)[-1]["name"]


def describe_arm(opened: OpenStudy, name: str) -> dict[str, Any]:
    """What is known of an arm's pairs, where its files are, and the command that trains on what a filter leaves.

    Raises:
        ManifestError: if it is not scored, or a file is missing, changed, or not in this version's format.
    """
    from explorer.ui.shell.pair_pictures import why_no_pictures  # heavy

    header = FORMAT.checked(
        opened.result_json(FILTERS, f"{name}/{FORMAT.name}"), f"Run `{opened.result_command(FILTERS)}`."
    )
    columns = opened.result_url(FILTERS, f"{name}/{COLUMNS_NAME}")
    return {
        **header["set"],
        "name": name,
        "stamp": columns.rpartition("=")[2][:STAMP_LETTERS],
        "header_url": opened.result_url(FILTERS, f"{name}/{FORMAT.name}"),
        "columns_url": columns,
        "pictures_url": f"{STUDY_ROUTE}/{opened.slug}/thumbnails/{quote(name, safe='')}",
        "no_pictures": why_no_pictures(opened, name),
        "command": command_line("retrain", shown_folder(opened.study), name, "--recipe", "filter.json"),
    }


def _arms(opened: OpenStudy) -> list[dict[str, Any]]:
    ending = f"/{FORMAT.name}"
    names = [name.removesuffix(ending) for name in opened.result_names(FILTERS) if name.endswith(ending)]
    arms = [describe_arm(opened, name) for name in names]
    return sorted(arms, key=lambda arm: (arm["poisoned"] is not None, arm["poisoned"] or 0, arm["name"]))


def _saved_filters(opened: OpenStudy) -> list[dict[str, Any]]:
    """Name and recipe of every filter saved with the study.

    Raises:
        ValueError: naming a file that is no recipe.
    """
    from explorer.studies.filtering import saved_filters

    return [{"name": name, "recipe": recipe_json(recipe)} for name, recipe in saved_filters(opened.study).items()]


def _drawn_sets(opened: OpenStudy) -> dict[str, dict[str, Any]]:
    """Sets that the screen Graphs draws, by name; none where its step is not done."""
    try:
        return {entry["name"]: entry for entry in graphs_payload(opened)["sets"]}
    except ManifestError:
        return {}


def _retrained(opened: OpenStudy) -> dict[str, Any]:
    """Models trained on what filters left, the address of their pictures and how these were drawn; or why there are
    none."""
    try:
        found = RETRAINED_FORMAT.checked(
            opened.result_json(RETRAINED, RETRAINED_FORMAT.name), f"Run `{opened.result_command(RETRAINED)}`."
        )
        settings = step_manifest(opened.study, RETRAINED)["config"]["settings"]
        drawn = how_drawn({"prompt": opened.study.template, **settings})
        return {**found, "how_drawn": drawn, "strip_url": opened.result_url(RETRAINED, STRIP_NAME)}
    except ManifestError as error:
        return told(opened, error)
