"""Which weights a module holds, told by their values: the same for every file format they may lie in."""

from __future__ import annotations

import hashlib
from typing import Any

from explorer.core.provenance import hash_json


def module_identity(module: Any) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor of a diffusers or transformers model, and its
    configuration; 64 hex digits."""
    import torch

    digest = hashlib.sha256(hash_json(plain_config(module)).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def plain_config(module: Any) -> dict[str, str]:
    """A model's configuration without what does not change the network: load path and library version."""
    config = module.config
    entries = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {key: str(value) for key, value in entries.items() if not key.startswith("_") and "version" not in key}
