"""Weights of an aesthetics head or a classifier, from a local .safetensors file and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file; of a pickle the message says how to convert it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: expected local .safetensors weights")
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path} is not a .safetensors file, and pickled weights are never loaded: if you trust it, convert it "
            f"elsewhere with safetensors.torch.save_file(torch.load('{path.name}', weights_only=True), "
            f"'{path.stem}.safetensors')"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """What the header of a file that :func:`read_tensors` reads says beside its tensors."""
    with safe_open(path, framework="pt") as opened:
        return opened.metadata() or {}
