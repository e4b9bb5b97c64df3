"""The screen *Defence*: which training pairs a filter would remove, what that costs, and what is left to learn.

It is worked out and drawn in the browser (``defence_screen.js``), so that it follows the slider; the library's own
answer is an endpoint for programs (``/filter_pairs``).
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.screens.defence.payload import defence_payload, opening_arm
from explorer.ui.shell.context import AppContext
from explorer.ui.shell.viewer import viewer


def build_defence_screen(context: AppContext) -> None:
    """Add the screen to the Blocks being built."""
    url = context.add_payload("defence", defence_payload)
    viewer("defence_screen", {"url": url}, elem_id="defence-viewer", label="defence")

    def filter_pairs(recipe: str, arm: str = "", study: str = "") -> dict[str, Any]:
        """What a filter removes of an arm's training pairs, and what that costs: as ``explorer study filter --json``.

        ``recipe`` is a filter as JSON; without ``arm``, the one that the screen opens with is meant.
        """
        from explorer.ui.screens.defence.answers import filter_answer

        opened = context.studies[0]
        try:
            opened = context.study(study)
            return context.models.do(lambda: filter_answer(opened, arm or opening_arm(opened), recipe))
        except (ValueError, OSError) as error:
            raise gr.Error(opened.in_words(error), print_exception=False) from error

    gr.api(filter_pairs, api_name="filter_pairs", queue=False)
