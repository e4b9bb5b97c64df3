"""Write what is known of the poison in a checkpoint's training data into its manifest."""

from __future__ import annotations

import os
from pathlib import Path

from explorer.checkpoints.registry import Checkpoint, read_checkpoint, write_down
from explorer.core.poison_record import PoisonRecord


def record_poison(path: Path | str, poison: PoisonRecord, *, replace: bool = False) -> Checkpoint:
    """Write down in a checkpoint's manifest what is known of the poison in its training data; all else in there stays.

    Args:
        path: checkpoint folder or .safetensors file.
        poison: ``NOT_RECORDED`` takes back what was recorded.
        replace: write over another record, or take it back.

    Returns:
        The checkpoint as the registry now sees it.

    Raises:
        ValueError: if there is no such checkpoint, it says something else already, or the manifest cannot be written;
            then nothing changes.
    """
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise ValueError(f"{path} does not exist: expected a checkpoint folder or a .safetensors file")
    found = read_checkpoint(path)
    if found.problem is not None:
        raise ValueError(f"{path.name} cannot be recorded: {found.problem}")
    config = found.manifest.get("config") or {}
    if not isinstance(config, dict):
        raise ValueError(f"{path.name} cannot be recorded: config in its manifest is {config!r}, expected an object")
    if found.poison.recorded and found.poison != poison and not replace:
        raise ValueError(f"the manifest of {path.name} says {found.poison} already: expected --replace to change that")
    return write_down(found, {"poison": poison.as_json()})
