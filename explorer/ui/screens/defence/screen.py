"""The screen *Defence*: which training pairs a filter would remove, what that costs, and what is left to learn.

It is worked out and drawn in the browser (``defence_screen.js``), so that it follows the slider; the library's own answer
is an endpoint for programs (``/filter_pairs``).
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.screens.defence.payload import defence_payload
from explorer.ui.shell.context import AppContext
from explorer.ui.shell.viewer import viewer


def build_defence_screen(context: AppContext) -> None:
    """Add the screen to the Blocks being built."""
    url = context.add_payload("defence", defence_payload)
    viewer("defence_screen", {"url": url}, elem_id="defence-viewer", label="defence")
