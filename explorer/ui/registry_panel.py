"""The header of the page and the screen *Checkpoints*: what was found, and why a broken one cannot be used."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.provenance import ManifestError, read_manifest
from explorer.ui.messages import notice
from explorer.ui.permalink import COLUMN_RANGE, NO_MODEL
from explorer.ui.viewer import viewer

if TYPE_CHECKING:
    from explorer.models.checkpoints import Checkpoint
    from explorer.ui.context import AppContext


def build_header(context: AppContext) -> None:
    """Name, world, device, number of checkpoints, and the switch between dark and light."""
    viewer("header", header_facts(context), elem_id="header", label="overview")


def header_facts(context: AppContext) -> dict[str, str]:
    """What the header says; plain text."""
    registry = context.registry()
    broken = sum(checkpoint.problem is not None for checkpoint in registry)
    count = f"{len(registry) - broken} checkpoints" + (f", {broken} broken" if broken else "")
    return {"world": _world(context), "device": "CPU", "checkpoints": count}


def build_registry_panel(context: AppContext, choosers: list[gr.Dropdown]) -> None:
    """The table of checkpoints with a button that scans the folder again, and one that reads every weight."""
    gr.HTML(
        "<p class='lead'>Every model found in the checkpoint folder. A broken one is listed with the reason and "
        "left out of the choosers.</p>",
        container=False,
        padding=False,
    )
    table = gr.HTML(registry_table(context.registry()), elem_id="registry", container=False, padding=False)
    with gr.Row():
        refresh = gr.Button("Look again", elem_id="registry-refresh", scale=0, min_width=140)
        check = gr.Button("Check every weight", elem_id="registry-check", scale=0, min_width=180)

    def look_again() -> list[Any]:
        return [registry_table(context.refresh_registry()), *chooser_updates(context, len(choosers))]

    def check_weights() -> str:
        from explorer.models.checkpoints import validate

        return registry_table([validate(checkpoint, thorough=True) for checkpoint in context.refresh_registry()])

    refresh.click(look_again, outputs=[table, *choosers], api_name="checkpoints")
    check.click(
        check_weights, outputs=table, concurrency_id="model-work", concurrency_limit=1, api_visibility="private"
    )


def registry_table(registry: list[Checkpoint]) -> str:
    """The checkpoints as an HTML table, every text escaped."""
    if not registry:
        return notice(
            "Train them with `python -m explorer train`, or start the app with --checkpoints FOLDER.",
            kind="error",
            title="No checkpoints were found.",
        )
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("Model", "C_P", "Parameters", "Size", "State"))
    rows = "".join(_row(checkpoint) for checkpoint in registry)
    return f"<table class='explorer-table'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(checkpoint: Checkpoint) -> str:
    kind = "poisoned" if checkpoint.poisoned_concept_count else "benign"
    concepts = ", ".join(checkpoint.poisoned_concepts)
    state = "ready" if checkpoint.problem is None else f"broken: {checkpoint.problem}"
    tone = "good" if checkpoint.problem is None else "bad"
    return (
        f"<tr><th scope='row'><span class='dot {kind}'></span>{html.escape(checkpoint.name)}</th>"
        f"<td title='{html.escape(concepts, quote=True)}'>{checkpoint.poisoned_concept_count}</td>"
        f"<td>{checkpoint.parameters / 1e6:.1f} M</td><td>{checkpoint.size_bytes / 2**20:.1f} MiB</td>"
        f"<td class='{tone}'>{html.escape(state)}</td></tr>"
    )


def _world(context: AppContext) -> str:
    """Name and size of the world by the extractor's manifest."""
    try:
        config = read_manifest(context.settings.checkpoints / "extractor").get("config", {})
    except ManifestError:
        return context.settings.checkpoints.name
    count = config.get("world", {}).get("concept_count")
    return f"IconWorld, {count} concepts" if count else str(config.get("name", "unnamed world"))


def chooser_updates(context: AppContext, count: int) -> list[Any]:
    """New choices for the column choosers; the first two columns are required."""
    names = context.checkpoint_names()
    return [gr.update(choices=names if index < COLUMN_RANGE[0] else [NO_MODEL, *names]) for index in range(count)]
