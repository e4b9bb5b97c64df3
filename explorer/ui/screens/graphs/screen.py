"""Screen 3, Graphs: the text graph and the image graph of a pair set side by side, one selection on both.

Everything is drawn in the browser from one precomputed payload (``graphs_screen.js``), so that a click
needs no answer from here; the same inspection is an endpoint for programs (``/inspect_pair``).
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.alignment.payload_formats import GRAPHS as FORMAT
from explorer.alignment.payload_formats import THUMBNAILS_NAME
from explorer.core.provenance import ManifestError
from explorer.studies.results import GRAPHS
from explorer.ui.shell.context import AppContext
from explorer.ui.shell.open_study import OpenStudy
from explorer.ui.shell.viewer import viewer

SCORES = ("feature_distance", "structure_distance", "sample_ad")
SAMPLE_COLUMNS = ("uid", "caption", "concepts", "main_concept", "is_poison", "poisoned_concept", "target_concept")
SIDES = ("text", "image")
REMEDY = "Run the study's step graphs again."


def build_graphs_screen(context: AppContext) -> None:
    """Add the screen to the Blocks being built."""
    url = context.add_payload("graphs", graphs_payload)
    viewer("graphs_screen", {"url": url}, elem_id="graphs-viewer", label="text graph and image graph")

    def inspect_pair(uid: str, study: str = "") -> dict[str, Any]:
        """Caption, true flag (null: not recorded), scores, ranks and neighbours on both sides of one drawn pair."""
        try:
            return inspection(graphs_payload(context.study(study)), uid)
        except ValueError as error:
            raise gr.Error(context.in_words(error), print_exception=False) from error

    gr.api(inspect_pair, api_name="inspect_pair", queue=False)


def graphs_payload(opened: OpenStudy) -> dict[str, Any]:
    """What the browser draws: ``graphs.json`` and where the thumbnails are.

    Raises:
        ManifestError: if an artefact is missing, changed, or not in this version's format.
    """
    payload = opened.result_json(GRAPHS, FORMAT.name)
    check_graphs(payload)
    return {**payload, "thumbnails_url": opened.result_url(GRAPHS, THUMBNAILS_NAME)}


def check_graphs(payload: dict[str, Any]) -> None:
    """Refuse a payload of another version, or whose parallel lists differ in length."""
    FORMAT.checked(payload, REMEDY)
    columns = {name: payload["samples"][name] for name in (*SAMPLE_COLUMNS, *SCORES)}
    columns |= {f"{side} layout": payload[side]["layout"] for side in SIDES}
    columns |= {f"{side} neighbours": payload[side]["neighbours"] for side in SIDES}
    expected = len(columns["uid"])
    for name, column in columns.items():
        if len(column) != expected:
            raise ManifestError(f"{FORMAT.name} has {len(column)} entries of {name} for {expected} pairs. {REMEDY}")


def inspection(payload: dict[str, Any], uid: str) -> dict[str, Any]:
    """The inspector's content for one pair, as plain data.

    Raises:
        ValueError: if the pair is not among the drawn ones.
    """
    samples = payload["samples"]
    if uid not in samples["uid"]:
        raise ValueError(f"pair {uid!r} is not drawn: expected one of the {len(samples['uid'])} pairs of the sample")
    row = samples["uid"].index(uid)
    near = {side: payload[side]["neighbours"][row] for side in SIDES}
    return {
        **{name: samples[name][row] for name in SAMPLE_COLUMNS},
        "is_poison": _flag(samples, row),
        "scores": {name: samples[name][row] for name in SCORES},
        "ranks": {name: samples[f"{name}_rank"][row] for name in SCORES},
        # Equal scores share the places from the one to the other; null where the artefact does not say.
        "last_ranks": {name: samples.get(f"{name}_rank_last", [None] * (row + 1))[row] for name in SCORES},
        "ranked_pairs": payload["set"]["pairs"],
        "neighbours": {side: _describe_neighbours(payload, side, row) for side in SIDES},
        "agreed": [samples["uid"][other] for other in near["text"] if other in near["image"]],
        "only_text": [samples["uid"][other] for other in near["text"] if other not in near["image"]],
        "only_image": [samples["uid"][other] for other in near["image"] if other not in near["text"]],
    }


def _flag(samples: dict[str, Any], row: int) -> bool | None:
    """Whether the pair is poison; None where nobody recorded it."""
    flag = samples["is_poison"][row]
    return None if flag is None else bool(flag)


def _describe_neighbours(payload: dict[str, Any], side: str, row: int) -> list[dict[str, Any]]:
    samples, graph = payload["samples"], payload[side]
    near = zip(graph["neighbours"][row], graph["similarities"][row], strict=True)
    return [
        {
            "uid": samples["uid"][other],
            "caption": samples["caption"][other],
            "is_poison": _flag(samples, other),
            "similarity": similarity,
        }
        for other, similarity in near
    ]
