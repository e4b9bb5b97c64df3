"""The header of the page and the screen *Checkpoints*: what was found, and why a broken one cannot be used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.checkpoints.hub import HubError, fetch_pipeline
from explorer.core.bounded_files import printable
from explorer.ui.screens.checkpoints.base_chooser import (
    base_updates,
    build_base_chooser,
    next_choice,
    set_base_notice,
)
from explorer.ui.screens.checkpoints.registry_table import registry_table
from explorer.ui.screens.compare.screen import chooser_updates
from explorer.ui.shell.messages import escaped, notice, working
from explorer.ui.shell.model_thread import MODEL_WORK
from explorer.ui.shell.page_address import Shows, send_address, study_named
from explorer.ui.shell.viewer import viewer

if TYPE_CHECKING:
    from explorer.ui.shell.context import AppContext
    from explorer.ui.shell.open_study import OpenStudy

LONGEST_NAME = 80
MAX_PAGES = 256


def build_header(context: AppContext) -> list[gr.HTML]:
    """Name, chooser of the studies, device, number of checkpoints and the switch between dark and light; below, what
    is to be known of the results. The header's event ``study`` says that another study was chosen."""
    opened = context.study()
    header = viewer("header", header_facts(context, opened), elem_id="header", label="overview", events=("study",))
    return [header, gr.HTML("", elem_id="origin", container=False, padding=False)]


def origin_notice(opened: OpenStudy) -> str:
    """A message if results are not of the models, pairs and settings that the study has now; empty if they are."""
    found = opened.stale_steps()
    if not found:
        return ""
    words = (
        f"{', '.join(found)}: measured before the study was changed. What you generate in Compare is of the models "
        f"here now. To measure again: `{opened.result_command(*found)}`."
    )
    reasons = "".join(f"<li>{step}: {escaped(opened.without_places(why))}</li>" for step, why in found.items())
    details = f"<details class='stale'><summary>What is different</summary><ul>{reasons}</ul></details>"
    return notice(words, title="Results are stale.") + details


def header_facts(context: AppContext, opened: OpenStudy) -> dict[str, Any]:
    """What the header says; plain text."""
    registry = opened.registry()
    broken = sum(checkpoint.problem is not None for checkpoint in registry)
    sound = len(registry) - broken
    without = sum(arm.checkpoint is None for arm in opened.study.arms)
    more = [(broken, "broken"), (without, "arm without" if without == 1 else "arms without")]
    count = ", ".join([_counted(sound), *(f"{found} {what}" for found, what in more if found)])
    studies = [{"slug": found.slug, "name": printable(found.study.name, LONGEST_NAME)} for found in context.studies]
    return {"slug": opened.slug, "studies": studies, "device": _place(context), "checkpoints": count}


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
    hub: gr.Accordion
    hub_id: gr.Textbox
    fetch: gr.Button
    fetch_told: gr.HTML


def build_registry_panel(
    context: AppContext,
    header: list[gr.HTML],
    choosers: list[gr.Dropdown],
    address: gr.Textbox,
    shows: Shows,
) -> None:
    """The table of checkpoints, buttons that scan the folder again or read every weight, a base, a field for the hub.

    Args:
        header: what :func:`build_header` built.
        choosers: of a checkpoint, on the screen *Compare*.
        address: see :func:`~explorer.ui.shell.page_address.address_input`.
        shows: see :class:`~explorer.ui.shell.page_address.Shows`.
    """
    panel = _lay_out(context.study())
    shown = [panel.table, *header, *panel.base_choosers]
    everything = [*shown, *choosers]
    told = [panel.check_told, panel.base_told, panel.fetch_told]
    events = _Events(context=context, told=len(told), shown=len(everything))
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    outputs = [panel.table, header[0], *panel.base_choosers, panel.hub, *told]
    for begins in (shows.loaded, shows.chosen):
        begins(events.show_study, inputs=address, outputs=outputs, queue=False, js=send_address(1), **quiet)
        # By itself, since looking through a large study may take a second.
        begins(events.tell_origin, inputs=address, outputs=header[1], queue=False, js=send_address(1), **quiet)
    panel.refresh.click(
        events.look_again, inputs=address, outputs=everything, js=send_address(1), api_name="checkpoints"
    )
    chosen = [address, *panel.base_choosers]
    _announce_then(
        panel.set_base, "Comparing the checkpoint with the base …", events.name_base,
        inputs=chosen, outputs=[panel.base_told, *everything], queue="set-base",
    )  # fmt: skip
    _announce_then(
        panel.check, "Waiting until the models are free …", events.check_weights,
        inputs=chosen, outputs=[panel.check_told, *everything], queue=MODEL_WORK,
    )  # fmt: skip
    panel.fetch.click(
        events.fetch_from_hub, inputs=[address, panel.hub_id], outputs=[panel.fetch_told, *everything],
        js=send_address(2), concurrency_id="hub", concurrency_limit=1, api_visibility="private",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Events:
    """What the screen's clicks do, each for the study that the page's address names."""

    context: AppContext
    told: int
    """Places for answers to clicks, put back when another study is shown."""
    shown: int
    """Components that show the registry, on this screen and on others."""
    pages: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """What the latest sessions show, as addresses call it: an answer about another study comes too late."""

    def show_study(self, address: str, request: gr.Request) -> list[Any]:
        """Another study in everything but what is known of its results."""
        self.pages[str(request.session_hash)] = self._slug(address)
        while len(self.pages) > MAX_PAGES:
            self.pages.popitem(last=False)
        try:
            opened = self.context.study(study_named(address))
        except ValueError as error:
            return [notice(str(error), kind="error"), *[gr.skip()] * 4, *[""] * self.told]
        table, header, *bases = self._show(opened)
        return [table, header, *bases, gr.update(visible=opened.scanned), *[""] * self.told]

    def tell_origin(self, address: str) -> str:
        """What is to be known of the study's results."""
        try:
            return origin_notice(self.context.study(study_named(address)))
        except ValueError as error:
            return notice(str(error), kind="error")

    def look_again(self, request: gr.Request, address: str, *chosen: str | None) -> list[Any]:
        """Read the study and its checkpoints again."""
        return self._unless_left(request, address, self._read_again(address, *chosen))

    def _read_again(self, address: str, *chosen: str | None) -> list[Any]:
        opened = self.context.study(study_named(address))
        problem = ""
        try:
            opened.refresh_registry()
        except (ValueError, OSError) as error:  # study.toml was changed: what was read before is still shown
            problem = unread_notice(opened, error)
        table, header, *bases = self._show(opened, *chosen)
        return [table, header, problem or origin_notice(opened), *bases, *chooser_updates(opened)]

    def name_base(self, request: gr.Request, address: str, checkpoint: str | None, base: str | None) -> list[Any]:
        """Write a checkpoint's base down."""
        opened = self.context.study(study_named(address))
        words, done = set_base_notice(opened, checkpoint, base)
        # On to the next one: another click must not set the same base again.
        chosen = next_choice(opened, base) if done else (checkpoint, base)
        return self._unless_left(request, address, [words, *self._read_again(address, *chosen)])

    def check_weights(self, request: gr.Request, address: str, *chosen: str | None) -> Iterator[list[Any]]:
        """Read every weight, telling of it."""
        opened = self.context.study(study_named(address))
        for words in check_every_weight(opened):
            told = [words, registry_table(opened), *[gr.skip()] * (self.shown - 1)]
            yield self._unless_left(request, address, told)
        # Minutes may have passed: what the page shows in the two choosers by now is not ``chosen``, and stays.
        offered = [gr.update(choices=update["choices"]) for update in base_updates(opened, *chosen)]
        facts = [header_facts(self.context, opened), origin_notice(opened)]
        told = [words, registry_table(opened), *facts, *offered, *chooser_updates(opened)]
        yield self._unless_left(request, address, told)

    def fetch_from_hub(self, address: str, text: str, request: gr.Request) -> list[Any]:
        """Fetch a pipeline into a folder of checkpoints."""
        words = fetch_notice(self.context.study(study_named(address)), text)
        return self._unless_left(request, address, [words, *self._read_again(address)])

    def _show(self, opened: OpenStudy, *chosen: str | None) -> list[Any]:
        return [registry_table(opened), header_facts(self.context, opened), *base_updates(opened, *chosen)]

    def _slug(self, address: str) -> str:
        """Of the study that an address names; one that names none is of the first, as is the page whose address has
        had that study's name added since."""
        return study_named(address) or self.context.study().slug

    def _unless_left(self, request: gr.Request, address: str, shown: list[Any]) -> list[Any]:
        """``shown``; nothing if the page shows another study by now."""
        slug = self._slug(address)
        return shown if self.pages.get(str(request.session_hash), slug) == slug else [gr.skip()] * len(shown)


def _lay_out(opened: OpenStudy) -> RegistryPanel:
    gr.HTML(
        "<p class='screen-note'>Every model of the study: on how many poisoned concepts it was trained, and how much "
        "of a prompt it still hears. A broken one is listed with the reason and left out of the choosers.</p>",
        container=False,
        padding=False,
    )
    table = gr.HTML(registry_table(opened), elem_id="registry", container=False, padding=False)
    with gr.Row():
        refresh = gr.Button("Look again", elem_id="registry-refresh", scale=0, min_width=140)
        check = gr.Button("Check every weight", elem_id="registry-check", scale=0, min_width=240)
    check_told = gr.HTML(elem_id="registry-checked", container=False, padding=False)
    base_choosers, set_base, base_told = build_base_chooser(opened)
    # A study names its checkpoints: what is fetched has a place in a folder of checkpoints alone.
    with gr.Accordion("Fetch a pipeline from the Hugging Face hub", open=False, visible=opened.scanned) as hub:
        hub_id = gr.Textbox(
            label="owner/name or owner/name@revision",
            info="Nothing is looked up until you press Fetch. Only safetensors are fetched, never code or pickles.",
            elem_id="registry-hub-id",
        )
        fetch = gr.Button("Fetch", elem_id="registry-fetch", scale=0, min_width=140)
        fetch_told = gr.HTML(elem_id="registry-fetched", container=False, padding=False)
    return RegistryPanel(
        table=table, refresh=refresh, check=check, check_told=check_told, base_choosers=list(base_choosers),
        set_base=set_base, base_told=base_told, hub=hub, hub_id=hub_id, fetch=fetch, fetch_told=fetch_told,
    )  # fmt: skip


def _announce_then(
    button: gr.Button,
    words: str,
    work: Callable[..., Any],
    *,
    inputs: list[Any],
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
        work, inputs=inputs, outputs=outputs, concurrency_id=queue, concurrency_limit=1, preprocess=False,
        js=send_address(len(inputs)), **quiet,
    ).then(
        lambda: gr.update(interactive=True), outputs=button, queue=False, **quiet,
    )  # fmt: skip


def unread_notice(opened: OpenStudy, error: Exception) -> str:
    """Why a study that was changed is shown as it was read before."""
    return notice(opened.in_words(error), kind="error", title="The study cannot be read again.")


def check_every_weight(opened: OpenStudy) -> Iterator[str]:
    """Read every weight of every checkpoint; after each, the registry knows what was found.

    Yields:
        A message before each checkpoint, and what came of it all at the end.
    """
    try:
        registry = opened.refresh_registry()
    except (ValueError, OSError) as error:
        yield unread_notice(opened, error)
        return
    size = sum(checkpoint.size_bytes for checkpoint in registry)
    done = 0
    known: dict[Path, str | None] = {}
    for index, checkpoint in enumerate(registry):
        words = f"Reading {checkpoint.name}, {checkpoint.size_bytes / 2**20:.1f} MiB ({index + 1} of {len(registry)})"
        yield working(words, done / max(size, 1))
        opened.check_weights(checkpoint, known)
        done += checkpoint.size_bytes
    broken = [checkpoint.name for checkpoint in opened.registry() if checkpoint.problem is not None]
    if broken:
        words = f"Broken and left out of the choosers: {', '.join(broken)}. The table says why."
        yield notice(words, kind="error", title="Checked.")
    else:
        yield notice(f"{_counted(len(registry))}, and nothing is wrong.", kind="done", title="Checked.")


def fetch_notice(opened: OpenStudy, hub_id: str) -> str:
    """Fetch a pipeline into the checkpoint folder and say what came of it."""
    try:
        found = fetch_pipeline(hub_id or "", opened.study.folder)
    except HubError as error:
        return notice(f"{opened.in_words(error)}.", kind="error")
    return notice(f"{found.name} is in {opened.study.name}.", kind="done")


def _counted(checkpoints: int) -> str:
    return f"{checkpoints} checkpoint{'' if checkpoints == 1 else 's'}"
