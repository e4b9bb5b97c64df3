"""``explorer checkpoints | set-base | fetch``: what the registry finds, what stands on what, and the hub on request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.models.checkpoint_contents import KIND_NAMES
from explorer.models.checkpoints import Checkpoint, scan_checkpoints, set_base, validate
from explorer.models.model_families import FAMILY_NAMES
from explorer.provenance import ROOT

CHECKPOINT_ROOT = ROOT / "checkpoints"


@application.command("checkpoints")
def checkpoints(
    root: Annotated[Path, typer.Argument(help="Folder that holds checkpoints.")] = CHECKPOINT_ROOT,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Read every weight, compare every file with its manifest, and draw a first small picture.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List checkpoints: kind, family, poisoned concepts, size, parameters, hash, and why broken ones are refused."""
    known: dict[Path, str | None] = {}
    found = [validate(checkpoint, thorough=thorough, known=known) for checkpoint in scan_checkpoints(root)]
    if as_json:
        emit({"root": str(root), "checkpoints": [_as_entry(checkpoint) for checkpoint in found]}, True)
        return
    if not found:
        typer.echo(f"no checkpoints in {root}")
    for checkpoint in found:
        typer.echo(_as_line(checkpoint))


@application.command("set-base")
def set_base_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a U-Net alone, or a single file or LoRA (.safetensors).")
    ],
    base: Annotated[Path, typer.Argument(help="Diffusers folder of the same family that lends what it lacks.")],
    as_json: AsJson = False,
) -> None:
    """Write down in its manifest which pipeline folder a U-Net, a single file or a LoRA stands on."""
    emit(_as_entry(set_base(checkpoint, base)), as_json)


@application.command("fetch")
def fetch(
    hub_id: Annotated[str, typer.Argument(help="owner/name or owner/name@revision.")],
    root: Annotated[Path, typer.Argument(help="Folder that holds checkpoints.")] = CHECKPOINT_ROOT,
    half: Annotated[bool, typer.Option("--half", help="Fetch the fp16 variant where there is one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a pipeline from the Hugging Face hub into a checkpoint folder: the only command that downloads a model."""
    from explorer.models.hub import fetch_pipeline

    emit(_as_entry(fetch_pipeline(hub_id, root, half=half)), as_json)


def _as_line(checkpoint: Checkpoint) -> str:
    state = "ok" if checkpoint.problem is None else f"broken: {checkpoint.problem}"
    count = checkpoint.poisoned_concept_count if checkpoint.poison_recorded else "?"
    return (
        f"{checkpoint.name:<28} {KIND_NAMES[checkpoint.kind]:<20} {FAMILY_NAMES[checkpoint.family]:<7} "
        f"C_P {count:>4}  {checkpoint.parameters / 1e6:7.1f} M  "
        f"{checkpoint.size_bytes / 1e6:8.1f} MB  {(checkpoint.hash or '-')[:12]:<12}  {state}"
    )


def _as_entry(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "kind": checkpoint.kind,
        "family": checkpoint.family,
        "folder": str(checkpoint.folder),
        "base": None if checkpoint.base is None else str(checkpoint.base),
        "problem": checkpoint.problem,
        "parameters": checkpoint.parameters,
        "size_bytes": checkpoint.size_bytes,
        "hash": checkpoint.hash,
        "poisoned_concept_count": checkpoint.poisoned_concept_count if checkpoint.poison_recorded else None,
        "poisoned_concepts": list(checkpoint.poisoned_concepts),
    }
