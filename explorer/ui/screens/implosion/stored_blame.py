"""Blame for one concept as the study has stored it: the app itself computes none, which takes minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from explorer.core.bounded_files import load_json
from explorer.core.provenance import ManifestError
from explorer.defence.payload_formats import BLAME, GRADED_BLAME
from explorer.studies.blame import blame_file
from explorer.studies.blame_grading import UNTRAINED, graded_blame_file
from explorer.studies.results import command_line
from explorer.ui.screens.graphs.payload import graphs_payload
from explorer.ui.shell.missing_steps import shown_folder
from explorer.ui.shell.open_study import STUDY_ROUTE
from explorer.ui.shell.pair_pictures import are_other_pairs, why_no_pictures

if TYPE_CHECKING:
    from explorer.ui.shell.open_study import OpenStudy

COST = "Gradients of 1,000 pairs by two models: five to ten minutes of one core for models as small as IconWorld's."


def stored_blame(opened: OpenStudy, arm: str, concept: str) -> dict[str, Any]:
    """Every score's most blamed pairs, with what each is proven to predict, and where their pictures are; in
    ``changed`` what they were computed from that is another one by now; or, in ``missing``, the command that computes
    them.

    Raises:
        ManifestError: if what is stored is not in this version's format.
        ValueError: if there is no such arm or concept, or a file is no JSON.
    """
    study = opened.study
    study.concept_list().concept(concept)
    path = blame_file(study, arm, concept)
    command = command_line("blame", shown_folder(study), arm, concept)
    if not path.is_file():
        made = f"the training pairs of {arm} that are blamed for {concept}"
        return {"problem": f"The study has not stored {made}: run `{command}`.",
                "missing": {"made": made, "lacks": "", "command": command, "cost": COST}}  # fmt: skip
    found = BLAME.checked(load_json(path), f"Run `{command}`.")
    graded = _graded(opened, arm)
    proven = {each["name"]: each["words"] for each in graded["lists"]} if graded else {}
    scores = [each | {"proven": proven.get(each["name"], UNTRAINED)} for each in found["scores"]]
    return found | {
        "scores": scores, "graded": graded, "graphs": _graphs(opened, arm),
        "pictures_url": f"{STUDY_ROUTE}/{opened.slug}/thumbnails/{quote(arm, safe='')}",
        "no_pictures": why_no_pictures(opened, arm), "changed": _changed(opened, found, command),
    }  # fmt: skip


def _changed(opened: OpenStudy, found: dict[str, Any], command: str) -> str:
    """In words; empty where nothing is known to have changed. What is not on this machine is not known to have."""
    arm, weights = found["arm"], found.get("weights") or [None]
    now = next((each.hash for each in opened.registry() if each.name == arm), None)
    parts = [f"the model {arm}"] if None not in (now, weights[-1]) and now != weights[-1] else []
    if are_other_pairs(opened, arm, found["data_hash"]):
        parts.append("its training pairs")
    return f"Computed before {' and '.join(parts)} changed: run `{command}`." if parts else ""


def _graded(opened: OpenStudy, arm: str) -> dict[str, Any] | None:
    path = graded_blame_file(opened.study, arm)
    if not path.is_file():
        return None
    command = command_line("blame-graded", shown_folder(opened.study), arm)
    return GRADED_BLAME.checked(load_json(path), f"Run `{command}`.")


def _graphs(opened: OpenStudy, arm: str) -> dict[str, Any] | None:
    """The arm's graphs, whose pictures stand in where the pairs are not on this machine."""
    try:
        return next((each for each in graphs_payload(opened)["sets"] if each["name"] == arm), None)
    except ManifestError:
        return None
