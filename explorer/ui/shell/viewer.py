"""A ``gr.HTML`` whose content is drawn by one of our ES modules beside its screen.

The template is constant, so Gradio never replaces what the module drew; the value stays small (ids, numbers,
URLs) because Gradio compares it as a string at every change. A module exports
``mount({element, props, trigger, watch, signal})`` and is mounted anew when the page goes to another study, which ends
``signal`` (``mounting.js``); ``charts.js`` and ``maps.js`` hold what modules share.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.shell.context import STATIC_ROUTE


def mount_script(module: str, events: tuple[str, ...] = ()) -> str:
    """``js_on_load`` code that loads ``<module>.js`` and mounts it.

    Args:
        module: name without ``.js``.
        events: custom events the module triggers. Gradio accepts a listener for an event only if its quoted
            name stands in this code.
    """
    names = ", ".join(f"'{event}'" for event in events)
    return (
        f"const events = [{names}];\n"
        # A proxy may show the page under any path.
        f"const load = (name) => import(new URL(`.{STATIC_ROUTE}/${{name}}.js`, document.baseURI));\n"
        f"Promise.all([load('mounting'), load('{module}')])"
        ".then(([{ mountAnew }, module]) => mountAnew(module, {element, props, trigger, watch, events}))"
    )


def viewer(module: str, value: Any, *, elem_id: str, label: str, events: tuple[str, ...] = ()) -> gr.HTML:
    """A viewer drawn by ``<module>.js`` that reads ``value`` (small, JSON-serialisable).

    Args:
        label: what a screen reader calls the region and its heading.
    """
    template = (
        f'<h2 class="visually-hidden">{label[0].upper()}{label[1:]}</h2>'
        f'<div class="viewer-root" role="region" aria-label="{label}"><p class="loading">Loading {label}…</p></div>'
    )
    return gr.HTML(
        value,
        html_template=template,
        js_on_load=mount_script(module, events),
        elem_id=elem_id,
        apply_default_css=False,
        container=False,
        padding=False,
    )
