"""The whole page: header, one tab a screen, and the server it runs in."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from explorer.models.placement import check_place, resolve_precision
from explorer.ui.alignment_screen import build_alignment_screen
from explorer.ui.compare_screen import build_compare_screen
from explorer.ui.context import STATIC_ROUTE, AppContext, AppSettings
from explorer.ui.graphs_screen import build_graphs_screen
from explorer.ui.implosion_screen import build_implosion_screen
from explorer.ui.live_generation import LiveGeneration
from explorer.ui.registry_panel import build_header, build_registry_panel
from explorer.ui.server import make_server
from explorer.ui.theme import CHOOSE_THEME, make_theme

TITLE = "Implosion Explorer"
HEAD = (
    f'<link rel="stylesheet" href="{STATIC_ROUTE}/explorer.css">'
    '<meta name="color-scheme" content="dark light">'
    '<meta name="referrer" content="no-referrer">'
)
MAX_UPLOAD = "20mb"
QUEUE_SIZE = 16
CACHE_AGE_SECONDS = 3600


def build_application(context: AppContext, live: LiveGeneration) -> gr.Blocks:
    """All screens; nothing heavy is imported and no model is loaded."""
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(CACHE_AGE_SECONDS, CACHE_AGE_SECONDS),
    ) as blocks:
        header = build_header(context)
        with gr.Tabs(elem_id="screens"):
            with gr.Tab("Compare", id="compare"):
                choosers = build_compare_screen(context, live, blocks)
            with gr.Tab("Implosion", id="implosion"):
                build_implosion_screen(context)
            with gr.Tab("Graphs", id="graphs"):
                build_graphs_screen(context)
            with gr.Tab("Alignment difficulty", id="alignment"):
                build_alignment_screen(context)
            with gr.Tab("Checkpoints", id="checkpoints"):
                build_registry_panel(context, header, choosers, blocks)
        blocks.unload(live.leave_session)
    blocks.queue(max_size=QUEUE_SIZE, default_concurrency_limit=4)
    return blocks


def make_application_server(settings: AppSettings) -> FastAPI:
    """The ASGI application: Blocks mounted beside health routes, static files and artefacts.

    Raises:
        ValueError: if the address is not a loopback address and no credentials are set.
    """
    context = AppContext(settings=settings)
    live = LiveGeneration(context)
    server = make_server(context, live)
    blocks = build_application(context, live)
    gr.mount_gradio_app(
        server,
        blocks,
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=MAX_UPLOAD,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=make_theme(),
        head=HEAD,
        js=CHOOSE_THEME,
    )
    return server


def launch(
    *,
    checkpoints: Path | str | None = None,
    precomputed: Path | str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    credentials: tuple[str, str] | None = None,
    device: str = "cpu",
    precision: str | None = None,
    offload: str | None = None,
    warm_up: bool = True,
) -> None:
    """Serve the app until interrupted.

    Raises:
        ValueError: if ``checkpoints`` is not a folder, the address needs credentials, or there is no such device,
            precision or offload here.
    """
    import uvicorn

    chosen = {"checkpoints": checkpoints, "precomputed": precomputed}
    folders = {name: Path(folder).resolve() for name, folder in chosen.items() if folder is not None}
    settings = AppSettings(
        **folders, host=host, port=port, credentials=credentials, device=device, precision=precision, offload=offload,
        warm_up=warm_up,
    )  # fmt: skip
    if (device, precision, offload) != ("cpu", None, None):  # what is always there needs no torch to be checked
        check_place(device, offload)
        resolve_precision(precision)
    if checkpoints is not None and not settings.checkpoints.is_dir():
        raise ValueError(f"checkpoints is {checkpoints}: expected an existing folder")
    server = make_application_server(settings)
    print(f"{TITLE} on http://{host}:{port}", flush=True)
    uvicorn.run(server, host=host, port=port, log_level="warning")
