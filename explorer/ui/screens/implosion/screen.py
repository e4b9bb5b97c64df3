"""The screen *Implosion*: how models of rising C_P fall apart, drawn by ``implosion.js``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.ui.screens.implosion.payload import implosion_payload
from explorer.ui.shell.viewer import viewer

if TYPE_CHECKING:
    from explorer.ui.shell.context import AppContext


def build_implosion_screen(context: AppContext) -> None:
    """Add the screen to the Blocks being built."""
    url = context.add_payload("implosion", implosion_payload)
    viewer("implosion", {"url": url}, elem_id="implosion-viewer", label="implosion")
