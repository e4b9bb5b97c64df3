"""The header of the page and the screen *Checkpoints*: what was found, and why a broken one cannot be used."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.checkpoints.families import FAMILY_NAMES
from explorer.core.bounded_files import printable
from explorer.core.provenance import ManifestError
from explorer.ui.screens.checkpoints.base_chooser import (
    TITLE,
    base_updates,
    build_base_chooser,
    kind_words,
    next_choice,
    set_base_notice,
)
from explorer.ui.screens.compare.screen import chooser_updates
from explorer.ui.shell.messages import in_the_app, notice, working
from explorer.ui.shell.viewer import viewer

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.ui.shell.context import AppContext


COLUMNS = ("Model", "Kind", "Family", "Poisoned concepts (C_P)", "Parameters", "Size", "SHA-256", "State")


def build_header(context: AppContext) -> list[gr.HTML]:
    """Name, world, device, number of checkpoints and the switch between dark and light; below, what is to be known of
    the precomputed results."""
    header = viewer("header", header_facts(context), elem_id="header", label="overview")
    return [header, gr.HTML(origin_notice(context), elem_id="origin", container=False, padding=False)]


def overview(context: AppContext) -> list[Any]:
    """Values of what :func:`build_header` built."""
    return [header_facts(context), origin_notice(context)]


def origin_notice(context: AppContext) -> str:
    """A message if the precomputed results are not of the models in the checkpoint folder; empty if they are."""
    others = context.precomputed_of_other_models()
    if not others:
        return ""
    return notice(
        f"{', '.join(others)}: not in {context.settings.checkpoints.name}, or with other weights there. What is marked "
        "Precomputed and every measurement belong to the models they were made from; what you generate in Compare is "
        f"of yours. {_what_makes_results(context)}",
        title="Results of other models.",
    )


def _what_makes_results(context: AppContext) -> str:
    """What can be done about results of other models, by what the checkpoint folder holds."""
    root = context.settings.checkpoints
    if not ((root / "extractor").is_dir() and any(_is_control(found) for found in context.registry())):
        return (
            "Implosion, Graphs and Alignment difficulty show IconWorld's models, judged by its own extractor; models "
            "of other worlds cannot be judged by it. AD of your own pairs: `python -m explorer ad SET`, with an "
            "extractor that knows them."
        )
    folder = shlex.quote(str(root))
    return (
        f"To measure these models (SETS: the folder of their pair sets): `python -m explorer evaluate --checkpoints "
        f"{folder} --sets SETS --output OUT`, then `python -m explorer precompute --checkpoints {folder} --sets SETS "
        f"--evaluation OUT/evaluation.json --output VIEW`, then start the app with `--checkpoints {folder} "
        "--precomputed VIEW`."
    )


def _is_control(checkpoint: Checkpoint) -> bool:
    """Whether `explorer evaluate` can compare others with it: benign by its manifest, which names its world."""
    if checkpoint.problem is not None or checkpoint.poison.poisoned is not False:
        return False
    return isinstance(checkpoint.manifest["config"].get("world"), dict)


def header_facts(context: AppContext) -> dict[str, str]:
    """What the header says; plain text."""
    registry = context.registry()
    broken = sum(checkpoint.problem is not None for checkpoint in registry)
    sound = len(registry) - broken
    count = _counted(sound) + (f", {broken} broken" if broken else "")
    return {"world": _world(context), "device": _place(context), "checkpoints": count}


def _place(context: AppContext) -> str:
    settings = context.settings
    device = "CPU" if settings.device == "cpu" else settings.device
    return ", ".join(part for part in (device, settings.precision, settings.offload and "CPU offload") if part)


@dataclass(frozen=True, kw_only=True)
class RegistryPanel:
    """The components of the screen, top to bottom."""

    table: gr.HTML
    refresh: gr.Button
    check: gr.Button
    check_told: gr.HTML
    base_choosers: list[gr.Dropdown]
    set_base: gr.Button
    base_told: gr.HTML
    hub_id: gr.Textbox
    fetch: gr.Button
    fetch_told: gr.HTML


def build_registry_panel(
    context: AppContext, header: list[gr.HTML], choosers: list[gr.Dropdown], blocks: gr.Blocks
) -> None:
    """The table of checkpoints, buttons that scan the folder again or read every weight, a base, a field for the hub.

    Args:
        header: what :func:`build_header` built.
        choosers: of a checkpoint, on the screen *Compare*.
        blocks: told to show the registry as it is whenever the page is opened.
    """
    panel = _lay_out(context)
    shown = [panel.table, *header, *panel.base_choosers]
    everything = [*shown, *choosers]

    def show(*chosen: str | None) -> list[Any]:
        return [registry_table(context.registry()), *overview(context), *base_updates(context, *chosen)]

    def look_again(*chosen: str | None) -> list[Any]:
        context.refresh_registry()
        return [*show(*chosen), *chooser_updates(context)]

    def name_base(checkpoint: str | None, base: str | None) -> list[Any]:
        told, done = set_base_notice(context, checkpoint, base)
        # On to the next one: another click must not set the same base again.
        return [told, *look_again(*(next_choice(context, base) if done else (checkpoint, base)))]

    def check_weights(*chosen: str | None) -> Iterator[list[Any]]:
        for told in check_every_weight(context):
            yield [told, registry_table(context.registry()), *[gr.skip()] * (len(everything) - 1)]
        # Minutes may have passed: what the page shows in the two choosers by now is not ``chosen``, and stays.
        offered = [gr.update(choices=update["choices"]) for update in base_updates(context, *chosen)]
        yield [told, registry_table(context.registry()), *overview(context), *offered, *chooser_updates(context)]

    def fetch_from_hub(text: str) -> list[Any]:
        return [fetch_notice(context, text), *look_again()]

    blocks.load(show, outputs=shown, queue=False, show_progress="hidden", api_visibility="private")
    panel.refresh.click(look_again, outputs=everything, api_name="checkpoints")
    _announce_then(
        panel.set_base, "Comparing the checkpoint with the base …", name_base,
        inputs=panel.base_choosers, outputs=[panel.base_told, *everything], queue="set-base",
    )  # fmt: skip
    _announce_then(
        panel.check, "Waiting until the models are free …", check_weights,
        inputs=panel.base_choosers, outputs=[panel.check_told, *everything], queue="model-work",
    )  # fmt: skip
    panel.fetch.click(
        fetch_from_hub,
        inputs=panel.hub_id,
        outputs=[panel.fetch_told, *everything],
        concurrency_id="hub",
        concurrency_limit=1,
        api_visibility="private",
    )


def _lay_out(context: AppContext) -> RegistryPanel:
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
    check_told = gr.HTML(elem_id="registry-checked", container=False, padding=False)
    base_choosers, set_base, base_told = build_base_chooser(context)
    with gr.Accordion("Fetch a pipeline from the Hugging Face hub", open=False):
        hub_id = gr.Textbox(
            label="owner/name or owner/name@revision",
            info="Nothing is looked up until you press Fetch. Only safetensors are fetched, never code or pickles.",
            elem_id="registry-hub-id",
        )
        fetch = gr.Button("Fetch", elem_id="registry-fetch", scale=0, min_width=140)
        fetch_told = gr.HTML(elem_id="registry-fetched", container=False, padding=False)
    return RegistryPanel(
        table=table, refresh=refresh, check=check, check_told=check_told, base_choosers=list(base_choosers),
        set_base=set_base, base_told=base_told, hub_id=hub_id, fetch=fetch, fetch_told=fetch_told,
    )  # fmt: skip


def _announce_then(
    button: gr.Button,
    words: str,
    work: Callable[..., Any],
    *,
    inputs: list[gr.Dropdown],
    outputs: list[Any],
    queue: str,
) -> None:
    """Say ``words`` in the first output at once, then do ``work``, one at a time among all that name this ``queue``.

    Meanwhile the button does nothing: a click would ask for the same again.
    """
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    button.click(
        lambda: [notice(words, kind="working"), gr.update(interactive=False)],
        outputs=[outputs[0], button], queue=False, **quiet,
    ).then(
        work, inputs=inputs, outputs=outputs, concurrency_id=queue, concurrency_limit=1, preprocess=False, **quiet,
    ).then(
        lambda: gr.update(interactive=True), outputs=button, queue=False, **quiet,
    )  # fmt: skip


def check_every_weight(context: AppContext) -> Iterator[str]:
    """Read every weight of every checkpoint; after each, the registry knows what was found.

    Yields:
        A message before each checkpoint, and what came of it all at the end.
    """
    registry = context.refresh_registry()
    size = sum(checkpoint.size_bytes for checkpoint in registry)
    done = 0
    known: dict[Path, str | None] = {}
    for index, checkpoint in enumerate(registry):
        words = f"Reading {checkpoint.name}, {checkpoint.size_bytes / 2**20:.1f} MiB ({index + 1} of {len(registry)})"
        yield working(words, done / max(size, 1))
        context.check_weights(checkpoint, known)
        done += checkpoint.size_bytes
    broken = [checkpoint.name for checkpoint in context.registry() if checkpoint.problem is not None]
    if broken:
        words = f"Broken and left out of the choosers: {', '.join(broken)}. The table says why."
        yield notice(words, kind="error", title="Checked.")
    else:
        yield notice(f"{_counted(len(registry))}, and nothing is wrong.", kind="done", title="Checked.")


def fetch_notice(context: AppContext, hub_id: str) -> str:
    """Fetch a pipeline into the checkpoint folder and say what came of it."""
    from explorer.checkpoints.hub import HubError, fetch_pipeline

    try:
        found = fetch_pipeline(hub_id or "", context.settings.checkpoints)
    except HubError as error:
        return notice(f"{context.in_words(error)}.", kind="error")
    return notice(f"{found.name} is in {context.settings.checkpoints.name}.", kind="done")


def registry_table(registry: list[Checkpoint]) -> str:
    """The checkpoints as an HTML table, every text escaped."""
    if not registry:
        return notice(
            "Put a model into the folder and press Look again, or start the app with `--checkpoints FOLDER`.",
            kind="error",
            title="No checkpoints were found.",
        )
    head = "".join(f"<th scope='col'>{name}</th>" for name in COLUMNS)
    rows = "".join(_row(checkpoint) for checkpoint in registry)
    return f"<table class='explorer-table'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _counted(checkpoints: int) -> str:
    return f"{checkpoints} checkpoint{'' if checkpoints == 1 else 's'}"


def _row(checkpoint: Checkpoint) -> str:
    poison = checkpoint.poison
    colour = {True: "poisoned", False: "benign", None: "unrecorded"}[poison.poisoned]
    count = "not recorded" if poison.concept_count is None else poison.concept_count
    concepts = printable(", ".join(poison.names))
    place = f"below, under “{TITLE}”"
    state = "ready" if checkpoint.problem is None else f"broken: {in_the_app(checkpoint.problem, place)}"
    shown_hash = checkpoint.hash or "–"
    tone = "good" if checkpoint.problem is None else "bad"
    return (
        f"<tr><th scope='row'><span class='dot {colour}'></span>{html.escape(checkpoint.name)}</th>"
        f"<td>{kind_words(checkpoint, checkpoint.ways.title)}</td><td>{FAMILY_NAMES[checkpoint.family]}</td>"
        f"<td title='{html.escape(concepts, quote=True)}'>{count}</td>"
        f"<td>{checkpoint.parameters / 1e6:.1f} M</td><td>{checkpoint.size_bytes / 2**20:.1f} MiB</td>"
        f"<td><code title='{shown_hash}'>{shown_hash[:12]}</code></td>"
        f"<td class='{tone}'>{html.escape(state)}</td></tr>"
    )


def _world(context: AppContext) -> str:
    """Name and size of the world by the extractor's manifest."""
    try:
        name, count = context.extractor_world()
    except ManifestError:
        return printable(context.settings.checkpoints.name)
    return name if count is None else f"IconWorld, {count} concepts"
