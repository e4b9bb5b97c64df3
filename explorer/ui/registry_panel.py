"""The header of the page and the screen *Checkpoints*: what was found, and why a broken one cannot be used."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.models.checkpoint_contents import KIND_NAMES
from explorer.models.model_families import FAMILY_NAMES
from explorer.provenance import ManifestError, read_manifest
from explorer.ui.messages import notice
from explorer.ui.permalink import COLUMN_RANGE, NO_MODEL
from explorer.ui.viewer import viewer

if TYPE_CHECKING:
    from explorer.models.checkpoints import Checkpoint
    from explorer.ui.context import AppContext


COLUMNS = ("Model", "Kind", "Family", "C_P", "Parameters", "Size", "Hash", "State")


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
    """The table of checkpoints, buttons that scan the folder again or read every weight, and a field for the hub."""
    gr.HTML(
        "<p class='lead'>Every model found in the checkpoint folder. A broken one is listed with the reason and "
        "left out of the choosers.</p>",
        container=False,
        padding=False,
    )
    table = gr.HTML(registry_table(context.registry()), elem_id="registry", container=False, padding=False)
    with gr.Row():
        refresh = gr.Button("Look again", elem_id="registry-refresh", scale=0, min_width=140)
        check = gr.Button("Check every weight", elem_id="registry-check", scale=0, min_width=240)
    with gr.Accordion("Fetch a pipeline from the Hugging Face hub", open=False):
        hub_id = gr.Textbox(
            label="owner/name or owner/name@revision",
            info="Nothing is looked up until you press Fetch. Only safetensors are fetched, never code or pickles.",
            elem_id="registry-hub-id",
        )
        fetch = gr.Button("Fetch", elem_id="registry-fetch", scale=0, min_width=140)
        told = gr.HTML(elem_id="registry-fetched", container=False, padding=False)

    def look_again() -> list[Any]:
        return [registry_table(context.refresh_registry()), *chooser_updates(context, len(choosers))]

    def check_weights() -> str:
        from explorer.models.checkpoints import validate

        return registry_table([validate(checkpoint, thorough=True) for checkpoint in context.refresh_registry()])

    def fetch_from_hub(text: str) -> list[Any]:
        return [fetch_notice(context, text), *look_again()]

    refresh.click(look_again, outputs=[table, *choosers], api_name="checkpoints")
    check.click(
        check_weights, outputs=table, concurrency_id="model-work", concurrency_limit=1, api_visibility="private"
    )
    fetch.click(
        fetch_from_hub,
        inputs=hub_id,
        outputs=[told, table, *choosers],
        concurrency_id="hub",
        concurrency_limit=1,
        api_visibility="private",
    )


def fetch_notice(context: AppContext, hub_id: str) -> str:
    """Fetch a pipeline into the checkpoint folder and say what came of it."""
    from explorer.models.hub import HubError, fetch_pipeline

    try:
        found = fetch_pipeline(hub_id, context.settings.checkpoints)
    except HubError as error:
        return notice(f"{error}.", kind="error")
    return notice(f"{found.name} is in {context.settings.checkpoints}.", kind="done")


def registry_table(registry: list[Checkpoint]) -> str:
    """The checkpoints as an HTML table, every text escaped."""
    if not registry:
        return notice(
            "Train them with `python -m explorer train`, or start the app with --checkpoints FOLDER.",
            kind="error",
            title="No checkpoints were found.",
        )
    head = "".join(f"<th scope='col'>{name}</th>" for name in COLUMNS)
    rows = "".join(_row(checkpoint) for checkpoint in registry)
    return f"<table class='explorer-table'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(checkpoint: Checkpoint) -> str:
    colour = "poisoned" if checkpoint.poisoned_concept_count else "benign"
    concepts = ", ".join(checkpoint.poisoned_concepts)
    state = "ready" if checkpoint.problem is None else f"broken: {checkpoint.problem}"
    shown_hash = checkpoint.hash or "–"
    tone = "good" if checkpoint.problem is None else "bad"
    return (
        f"<tr><th scope='row'><span class='dot {colour}'></span>{html.escape(checkpoint.name)}</th>"
        f"<td>{KIND_NAMES[checkpoint.kind]}</td><td>{FAMILY_NAMES[checkpoint.family]}</td>"
        f"<td title='{html.escape(concepts, quote=True)}'>{checkpoint.poisoned_concept_count}</td>"
        f"<td>{checkpoint.parameters / 1e6:.1f} M</td><td>{checkpoint.size_bytes / 2**20:.1f} MiB</td>"
        f"<td><code title='{shown_hash}'>{shown_hash[:12]}</code></td>"
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
