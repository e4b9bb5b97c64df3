"""``explorer train``: make the embedded world's models by a named recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.scenarios.request import BuildRequest, carry_out


@command("train")
def train(
    request: Annotated[BuildRequest, Spelling(recipe=typer.Argument())],
    as_json: AsJson = False,
) -> None:
    """Train autoencoder, extractor, base, benign control and poisoned models; run it again to resume."""
    emit(carry_out(request, show_progress()), as_json)
