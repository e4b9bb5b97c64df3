"""``explorer checkpoints``: what the registry finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.models.checkpoints import Checkpoint, scan_checkpoints, validate
from explorer.provenance import ROOT

CHECKPOINT_ROOT = ROOT / "checkpoints"


@application.command("checkpoints")
def checkpoints(
    root: Annotated[Path, typer.Argument(help="Folder that holds checkpoints.")] = CHECKPOINT_ROOT,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every weight and compare every file with its hash.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List checkpoints: poisoned concepts, size, parameters, and what is wrong with broken ones."""
    found = [validate(checkpoint, thorough=thorough) for checkpoint in scan_checkpoints(root)]
    if as_json:
        emit({"root": str(root), "checkpoints": [_as_entry(checkpoint) for checkpoint in found]}, True)
        return
    if not found:
        typer.echo(f"no checkpoints in {root}")
    for checkpoint in found:
        state = "ok" if checkpoint.problem is None else f"broken: {checkpoint.problem}"
        typer.echo(
            f"{checkpoint.name:<28} C_P {checkpoint.poisoned_concept_count:>4}  "
            f"{checkpoint.parameters / 1e6:7.1f} M  {checkpoint.size_bytes / 1e6:8.1f} MB  {state}"
        )


def _as_entry(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "folder": str(checkpoint.folder),
        "base": None if checkpoint.base is None else str(checkpoint.base),
        "problem": checkpoint.problem,
        "parameters": checkpoint.parameters,
        "size_bytes": checkpoint.size_bytes,
        "poisoned_concept_count": checkpoint.poisoned_concept_count,
        "poisoned_concepts": list(checkpoint.poisoned_concepts),
    }
