"""``explorer app`` serves the screens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import application
from explorer.ui.shell.context import AppSettings

PASSWORD_VARIABLE = "EXPLORER_PASSWORD"


@application.command("app")
def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 7860,
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs --user.")] = "127.0.0.1",
    study: Annotated[
        list[Path] | None, typer.Option(help="Folder of a study; again for more. Default: the shipped one.")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints, to draw with: as a study without results.")
    ] = None,
    user: Annotated[str | None, typer.Option(help=f"User name; the password is read from {PASSWORD_VARIABLE}.")] = None,
    device: Annotated[str, typer.Option(help="Where the models run: cpu or cuda.")] = "cpu",
    precision: Annotated[str | None, typer.Option(help="Of the models: fp32 (the default), fp16 or bf16.")] = None,
    offload: Annotated[
        str | None, typer.Option(help="model or sequential: keep the models in memory, on the GPU part by part.")
    ] = None,
    warm_up: Annotated[bool, typer.Option(help="Load the models in the background after the first page.")] = True,
    root_path: Annotated[
        str,
        typer.Option(help="Path or URL a reverse proxy shows the app under, if it keeps the path."),
    ] = "",
) -> None:
    """Serve the app until interrupted."""
    credentials = None
    if user is not None:
        password = os.environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise ValueError(f"--user {user} is given but {PASSWORD_VARIABLE} is empty: expected a password there")
        credentials = (user, password)
    from explorer.ui.shell.application import launch

    settings = AppSettings(
        studies=tuple(study or ()), checkpoints=checkpoints, host=host, port=port, credentials=credentials,
        device=device, precision=precision, offload=offload, warm_up=warm_up, root_path=root_path,
    )  # fmt: skip
    launch(settings)
