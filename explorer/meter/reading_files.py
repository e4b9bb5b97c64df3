"""A model's reading in a file, for a measurement of several models that may be cut off between two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

if TYPE_CHECKING:
    from explorer.meter.measurement import Reading

TENSORS = ("sensitivity", "word_before", "guidance", "denoising_error")


def write_reading(path: Path, reading: Reading) -> None:
    """Write a ``.safetensors`` file of everything that was read, to the bit; ``kind`` is in its metadata."""
    from safetensors.torch import save_file

    held = {name: tensor for name in TENSORS if (tensor := getattr(reading, name)) is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in held.items()}, path, {"kind": json.dumps(reading.kind)})


def load_reading(path: Path) -> Reading:
    """What :func:`write_reading` wrote."""
    from explorer.meter.measurement import Reading

    with safe_open(path, "pt") as file:
        stored = set(file.keys())
        held = {name: file.get_tensor(name) if name in stored else None for name in TENSORS}
        kind = tuple(json.loads(file.metadata()["kind"]))
    return Reading(kind=kind, **held)
