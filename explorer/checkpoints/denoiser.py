"""The network of a checkpoint that denoises: its name, its configuration, and some of its tensors read alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from explorer.checkpoints.families import TRANSFORMER_FAMILIES
from explorer.checkpoints.weight_files import WeightError

if TYPE_CHECKING:
    import torch

    from explorer.checkpoints.registry import Checkpoint


def denoiser_name(checkpoint: Checkpoint) -> str:
    """Which component denoises."""
    return "transformer" if checkpoint.family in TRANSFORMER_FAMILIES else "unet"


def denoiser_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """``config.json`` of the component that denoises; of a single file, its base's.

    Raises:
        WeightError: if it cannot be read.
    """
    holder = checkpoint.whole if checkpoint.ways.is_file else checkpoint.place
    return holder.component(denoiser_name(checkpoint)).config()


def read_tensors(files: Iterable[Path], names: Iterable[str], owner: str) -> dict[str, torch.Tensor]:
    """Some tensors, straight from the files that hold them; nothing else is read.

    Args:
        owner: whose they are, for messages.

    Raises:
        WeightError: if a file is not readable or none has one of them.
    """
    wanted, found = set(names), {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as stored:
                found |= {name: stored.get_tensor(name) for name in wanted & set(stored.keys())}
        except (SafetensorError, OSError) as error:
            raise WeightError(f"{path.name} is not readable: {error}") from error
    if missing := sorted(wanted - found.keys()):
        raise WeightError(f"{owner} lacks {missing[0]}")
    return found
