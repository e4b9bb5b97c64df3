"""``explorer app`` serves the screens; ``explorer benchmark-startup`` times how soon they answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit

PASSWORD_VARIABLE = "EXPLORER_PASSWORD"


@application.command("app")
def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 7860,
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs --user.")] = "127.0.0.1",
    checkpoints: Annotated[Path | None, typer.Option(help="Folder that holds checkpoints.")] = None,
    precomputed: Annotated[Path | None, typer.Option(help="Folder of precomputed artefacts.")] = None,
    user: Annotated[str | None, typer.Option(help=f"User name; the password is read from {PASSWORD_VARIABLE}.")] = None,
    warm_up: Annotated[bool, typer.Option(help="Load the models in the background after the first page.")] = True,
) -> None:
    """Serve the app until interrupted."""
    credentials = None
    if user is not None:
        password = os.environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise ValueError(f"--user {user} is given but {PASSWORD_VARIABLE} is empty: expected a password there")
        credentials = (user, password)
    from explorer.ui.application import launch

    launch(
        checkpoints=checkpoints,
        precomputed=precomputed,
        host=host,
        port=port,
        credentials=credentials,
        warm_up=warm_up,
    )


@application.command("benchmark-startup")
def benchmark_startup(
    repeats: Annotated[int, typer.Option(min=1, max=50, help="Starts of each kind, interleaved.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Time until our page is usable against an empty gradio.Blocks, in fresh processes."""
    from explorer.experiments.startup_benchmark import measure_startup

    emit(measure_startup(repeats).report(), as_json)
