"""What is known of the poison in a checkpoint's training data, written into its manifest by whoever knows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from explorer.checkpoints.registry import Checkpoint, poison_in, read_checkpoint, write_down


def record_poison(path: Path | str, poison: dict[str, Any] | None, *, replace: bool = False) -> Checkpoint:
    """Write down in a checkpoint's manifest what is known of the poison in its training data; all else in there stays.

    Args:
        path: checkpoint folder or .safetensors file.
        poison: ``concepts`` (C_P, or the poisoned concepts' names; 0 where there is no poison) and ``kind``; None
            takes back what was recorded.
        replace: write over another record.

    Returns:
        The checkpoint as the registry now sees it.

    Raises:
        ValueError: if there is no such checkpoint, it says something else already, ``poison`` is no such record, or the
            manifest cannot be written; then nothing changes.
    """
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise ValueError(f"{path} does not exist: expected a checkpoint folder or a .safetensors file")
    poison_in({"poison": poison})
    found = read_checkpoint(path)
    if found.problem is not None:
        raise ValueError(f"{path.name} cannot be recorded: {found.problem}")
    config = found.manifest.get("config") or {}
    if not isinstance(config, dict):
        raise ValueError(f"{path.name} cannot be recorded: config in its manifest is {config!r}, expected an object")
    recorded = config.get("poison")
    if recorded not in (None, poison) and not replace:
        kind = recorded.get("kind", "poison") if isinstance(recorded, dict) else "poison"
        told = f"{kind}, C_P = {found.poisoned_concept_count}"
        raise ValueError(f"the manifest of {path.name} says {told} already: expected --replace to write over it")
    return write_down(found, {"poison": poison})
