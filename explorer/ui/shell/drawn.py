"""How the pictures were drawn that numbers are of; it is saved with them."""

from __future__ import annotations

from typing import Any


def how_drawn(settings: dict[str, Any]) -> dict[str, Any]:
    """Prompt, seeds, steps and guidance, of what else ``settings`` hold.

    Raises:
        KeyError: if one of them is missing.
    """
    return {name: settings[name] for name in ("prompt", "seeds", "steps", "guidance_scale")}
