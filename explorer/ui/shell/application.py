"""The whole page: header, one tab a screen, and the server it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.utils import LRUCache

from explorer.checkpoints.placement import check_place, resolve_precision
from explorer.ui.screens.alignment.screen import build_alignment_screen
from explorer.ui.screens.checkpoints.screen import build_header, build_registry_panel
from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.screens.compare.screen import build_compare_screen
from explorer.ui.screens.defence.screen import build_defence_screen
from explorer.ui.screens.graphs.screen import build_graphs_screen
from explorer.ui.screens.implosion.screen import build_implosion_screen
from explorer.ui.shell.context import STATIC_ROUTE, AppContext, AppSettings
from explorer.ui.shell.endpoint_inputs import endpoints_of
from explorer.ui.shell.page_address import Shows, address_input
from explorer.ui.shell.server import make_server
from explorer.ui.shell.stopping import StoppableServer, serve
from explorer.ui.shell.theme import CHOOSE_THEME, make_theme

TITLE = "Implosion Explorer"
HEAD = (
    '<meta name="explorer-studies" content="{studies}">'
    f'<link rel="stylesheet" href=".{STATIC_ROUTE}/explorer.css">'
    f'<script src=".{STATIC_ROUTE}/event_stream.js"></script>'
    '<meta name="color-scheme" content="dark light">'
    '<meta name="referrer" content="no-referrer">'
)
QUEUE_SIZE = 16
MAX_SESSIONS = 128
"""Gradio keeps a copy of the page's components for each session, 10,000 of them unless told otherwise."""
MAX_CALLS_KNOWN = 2000
"""Sessions with calls whose answer nobody has fetched; a few hundred bytes each."""
MAX_EVENTS_COUNTED = 100
SECONDS_BETWEEN_LOOKS = 0.02
"""At its queue: Gradio looks a thousand times a second for clicks, which costs an idle app 4 % of a core."""
CACHE_AGE_SECONDS = 3600


def build_application(context: AppContext, live: LiveGeneration) -> gr.Blocks:
    """All screens; nothing heavy is imported and no model is loaded."""
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(CACHE_AGE_SECONDS, CACHE_AGE_SECONDS),
    ) as blocks:
        address = address_input()
        header = build_header(context)
        shows = Shows(loaded=blocks.load, chosen=_every_change(header[0]))
        with gr.Tabs(elem_id="screens"):
            with gr.Tab("Compare", id="compare"):
                choosers = build_compare_screen(context, live, address, shows)
            with gr.Tab("Implosion", id="implosion"):
                build_implosion_screen(context)
            with gr.Tab("Graphs", id="graphs"):
                build_graphs_screen(context)
            with gr.Tab("Alignment difficulty", id="alignment"):
                build_alignment_screen(context, address, shows)
            with gr.Tab("Defence", id="defence"):
                build_defence_screen(context)
            with gr.Tab("Checkpoints", id="checkpoints"):
                build_registry_panel(context, header, choosers, address, shows)
        blocks.unload(live.leave_session)
    blocks.queue(max_size=QUEUE_SIZE, default_concurrency_limit=4)
    _bound_costs(blocks)
    return blocks


def _every_change(header: gr.HTML) -> Callable[..., Any]:
    """An event that is answered for the study that is shown last, however quickly others were chosen before.

    What waits for the answer before it is put off, and reads the address anew. Gradio puts off an event with all that
    listen to it, which would put one another off for ever: each follows by itself instead.
    """
    chosen = header.study(None, js="() => []", trigger_mode="multiple", api_visibility="private")
    return partial(chosen.then, trigger_mode="always_last")


def _bound_costs(blocks: gr.Blocks) -> None:
    """Hold what Gradio keeps of sessions that have left, and what it does while nobody clicks, to what a shared machine
    can spare."""
    blocks.state_session_capacity = MAX_SESSIONS
    queue = blocks._queue  # which has no options for the following
    queue.pending_messages_per_session = RecentlyUsed(MAX_SESSIONS)
    queue.pending_event_ids_session = RecentlyUsed(MAX_CALLS_KNOWN)
    queue.ANALYTICS_MAX_EVENTS = MAX_EVENTS_COUNTED
    queue.sleep_when_free = SECONDS_BETWEEN_LOOKS


class RecentlyUsed(LRUCache):
    """Gradio's own makes room by age alone, even for what is in use."""

    def __getitem__(self, key: str) -> Any:
        self.move_to_end(key)
        return super().__getitem__(key)


def make_application_server(settings: AppSettings) -> FastAPI:
    """The ASGI application: Blocks mounted beside health routes, static files and artefacts.

    Raises:
        ValueError: if the address is not a loopback address and no credentials are set.
    """
    context = AppContext(settings=settings)
    live = LiveGeneration(context)
    blocks = build_application(context, live)
    server = make_server(context, live, endpoints_of(blocks))
    gr.mount_gradio_app(
        server,
        blocks,
        path="/",
        root_path="",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=0,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=make_theme(),
        head=HEAD.replace("{studies}", " ".join(opened.slug for opened in context.studies)),
        js=CHOOSE_THEME,
    )
    # Gradio looks whether a file may be served only in an app that its own launch() has started, and mounting has no
    # option for it. No file of a caller's comes this far (request_guard); if one did, it would be refused here.
    blocks.has_launched = True
    server.state.stop = lambda: _stop(live)
    server.state.is_busy = lambda: context.models.is_busy
    return server


def _stop(live: LiveGeneration) -> None:
    """End live work and close open event streams, and say so; on the event loop's thread."""
    print(f"{TITLE} stops." + (" The comparison at work is not finished." if live.close() else ""), flush=True)


def launch(settings: AppSettings) -> None:
    """Serve the app until interrupted.

    Raises:
        FileNotFoundError: if a folder that is named as a study holds none.
        ValueError: if a study or a folder of checkpoints is named that is none, the address needs credentials,
            ``root_path`` is neither a path nor a URL, or there is no such device, precision or offload here.
    """
    if (settings.device, settings.precision, settings.offload) != ("cpu", None, None):  # what is always there needs no
        check_place(settings.device, settings.offload)  # torch to be checked
        resolve_precision(settings.precision)
    if (folder := settings.checkpoints) is not None:
        if not folder.is_dir():
            raise ValueError(f"checkpoints is {folder}: expected an existing folder")
        settings = replace(settings, checkpoints=folder.resolve())
    host, port = settings.host, settings.port
    server = make_application_server(settings)
    print(f"{TITLE} on http://{host}:{port}", flush=True)
    serve(StoppableServer(server, host, port, server.state.stop), server.state.is_busy)
