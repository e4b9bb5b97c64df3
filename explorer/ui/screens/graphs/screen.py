"""Screen 3, Graphs: the text graph and the image graph of a set of pairs side by side, one selection on both.

Everything is drawn in the browser from binary columns (``graphs_screen.js``), so that a click needs no answer from
here; the same inspection is an endpoint for programs (``/inspect_pair``), and selections are saved as parquet or for
DataComp by :mod:`explorer.ui.screens.graphs.export`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.screens.graphs.payload import SIDES, DrawnSet, drawn_set, graphs_payload
from explorer.ui.shell.context import AppContext
from explorer.ui.shell.viewer import viewer


def build_graphs_screen(context: AppContext) -> None:
    """Add the screen to the Blocks being built."""
    url = context.add_payload("graphs", graphs_payload)
    viewer("graphs_screen", {"url": url}, elem_id="graphs-viewer", label="text graph and image graph")

    def inspect_pair(uid: str, pair_set: str = "", study: str = "") -> dict[str, Any]:
        """Caption, true flag (null: not recorded), scores, ranks and neighbours on both sides of one drawn pair.

        ``pair_set`` names the set; without it, the one that the screen opens with.
        """
        opened = context.studies[0]
        try:
            opened = context.study(study)
            return inspection(drawn_set(opened, pair_set), uid)
        except ValueError as error:
            raise gr.Error(opened.in_words(error), print_exception=False) from error

    gr.api(inspect_pair, api_name="inspect_pair", queue=False)


def inspection(drawn: DrawnSet, uid: str) -> dict[str, Any]:
    """The inspector's content for one pair, as plain data.

    Raises:
        ValueError: if the pair is not among the drawn ones.
    """
    row, columns, scores = drawn.row(uid), drawn.columns, drawn.header["scores"]
    near = {side: columns[f"{side}_neighbours"][row].tolist() for side in SIDES}
    return {
        "set": drawn.name,
        "uid": uid,
        "caption": drawn.captions[row],
        "concepts": drawn.concepts(row),
        "main_concept": drawn.concept("main_concept", row),
        "is_poison": drawn.flag(row),
        "poisoned_concept": drawn.concept("poisoned_concept", row),
        "target_concept": drawn.concept("target_concept", row),
        "scores": {name: _measured(columns[name][row], columns[f"{name}_rank"][row]) for name in scores},
        "ranks": {name: _measured(columns[f"{name}_rank"][row], columns[f"{name}_rank"][row]) for name in scores},
        # Equal scores share the places from the one to the other.
        "last_ranks": {
            name: _measured(columns[f"{name}_rank_last"][row], columns[f"{name}_rank"][row]) for name in scores
        },
        "ranked_pairs": drawn.header["set"]["pairs"],
        "neighbours": {side: _describe_neighbours(drawn, side, row) for side in SIDES},
        "agreed": _names(drawn, [other for other in near["text"] if other in near["image"]]),
        "only_text": _names(drawn, [other for other in near["text"] if other not in near["image"]]),
        "only_image": _names(drawn, [other for other in near["image"] if other not in near["text"]]),
    }


def _measured(value: Any, rank: Any) -> Any:
    """None for what was not measured, which has no rank."""
    return value.item() if rank else None


def _names(drawn: DrawnSet, rows: list[int]) -> list[str | None]:
    """uids; None for a neighbour that is not drawn."""
    return [drawn.uids[row] if row >= 0 else None for row in rows]


def _describe_neighbours(drawn: DrawnSet, side: str, row: int) -> list[dict[str, Any]]:
    near = drawn.columns[f"{side}_neighbours"][row].tolist()
    similarities = drawn.columns[f"{side}_similarities"][row].tolist()
    return [
        {
            "uid": drawn.uids[other] if other >= 0 else None,
            "row": None if other >= 0 else -1 - other,
            "caption": drawn.captions[other] if other >= 0 else None,
            "is_poison": drawn.flag(other) if other >= 0 else None,
            "similarity": similarity,
        }
        for other, similarity in zip(near, similarities, strict=True)
    ]
