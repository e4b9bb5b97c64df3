"""``explorer checkpoints | set-base | record-poison | fetch``: the registry, bases, known poison, the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.checkpoints.families import FAMILY_NAMES
from explorer.checkpoints.hub import fetch_pipeline
from explorer.checkpoints.poison_record import record_poison
from explorer.checkpoints.registry import Checkpoint, scan_checkpoints, set_base, validate
from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.core.poison_record import NO_POISON, NOT_RECORDED, UNNAMED, PoisonRecord
from explorer.core.progress import counted
from explorer.core.provenance import ROOT
from explorer.pairs.pair_import import is_concept_list, read_concepts

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
    scanned = counted(scan_checkpoints(root), show_progress(), "reading weights", "checkpoint")
    found = [validate(checkpoint, thorough=thorough, known=known) for checkpoint in scanned]
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


@application.command("record-poison")
def record_poison_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder, or a single file or LoRA (.safetensors).")],
    none: Annotated[bool, typer.Option("--none", help="Its training data is known to hold no poison.")] = False,
    concepts: Annotated[Path | None, typer.Option(help="Text file of the poisoned concepts, one a line.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="C_P, where the concepts' names are not known.")] = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="Take back what was recorded; with --replace.")] = False,
    attack: Annotated[str, typer.Option(help="Kind of poison, for the reader: dirty-label, clean-label ...")] = UNNAMED,
    replace: Annotated[bool, typer.Option("--replace", help="Write over another record, or take it back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write down in a checkpoint's manifest what is known of the poison in its training data."""
    if sum((none, concepts is not None, count is not None, unknown)) != 1:
        raise ValueError("expected one of --none, --concepts FILE, --count N and --unknown")
    if none or unknown:
        poison = NO_POISON if none else NOT_RECORDED
    else:
        if concepts is not None and is_concept_list(concepts):
            raise ValueError(f"{concepts} is a study's concept list, which does not say what is poisoned: expected a "
                             "text file of the poisoned concepts, one a line")  # fmt: skip
        known = count if concepts is None else tuple(dict.fromkeys(read_concepts(concepts)))
        poison = PoisonRecord(kind=attack, concepts=known)
    emit(_as_entry(record_poison(checkpoint, poison, replace=replace)), as_json)


@application.command("fetch")
def fetch(
    hub_id: Annotated[str, typer.Argument(help="owner/name or owner/name@revision.")],
    root: Annotated[Path, typer.Argument(help="Folder that holds checkpoints.")] = CHECKPOINT_ROOT,
    half: Annotated[bool, typer.Option("--half", help="Fetch the fp16 variant where there is one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a pipeline from the Hugging Face hub into a checkpoint folder: the only command that downloads a model."""
    emit(_as_entry(fetch_pipeline(hub_id, root, half=half)), as_json)


def _as_line(checkpoint: Checkpoint) -> str:
    state = "ok" if checkpoint.problem is None else f"broken: {checkpoint.problem}"
    state += "" if checkpoint.caveat is None or checkpoint.problem is not None else f": {checkpoint.caveat}"
    count = "?" if checkpoint.poison.concept_count is None else checkpoint.poison.concept_count
    return (
        f"{checkpoint.name:<28} {checkpoint.ways.title:<20} {FAMILY_NAMES[checkpoint.family]:<7} "
        f"C_P {count:>4}  {checkpoint.parameters / 1e6:7.1f} M  "
        f"{checkpoint.size_bytes / 1e6:8.1f} MB  {(checkpoint.hash or '-')[:12]:<12}  {state}"
    )


def _as_entry(checkpoint: Checkpoint) -> dict[str, Any]:
    poison = checkpoint.poison
    return {
        "name": checkpoint.name,
        "kind": checkpoint.kind,
        "family": checkpoint.family,
        "folder": str(checkpoint.folder),
        "base": None if checkpoint.base is None else str(checkpoint.base),
        "problem": checkpoint.problem,
        "caveat": checkpoint.caveat,
        "parameters": checkpoint.parameters,
        "size_bytes": checkpoint.size_bytes,
        "hash": checkpoint.hash,
        "poison": poison.kind,
        "poisoned_concept_count": poison.concept_count,
        "poison_recorded": poison.recorded,
        "poisoned_concepts": list(poison.concepts) if isinstance(poison.concepts, tuple) else None,
    }
