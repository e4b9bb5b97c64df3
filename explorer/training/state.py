"""What a training run keeps in its folder: the settings that identify it, and the state it resumes from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from explorer.core.provenance import replacing, write_json

STATE_NAME = "state.safetensors"
SETTINGS_NAME = "settings.json"
LOSSES = "losses"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
SCALER = {"scale": "scale", "growth_tracker": "_growth_tracker"}
"""What fp16's loss scaling remembers, by its name here and in ``GradScaler.state_dict``."""


def claim_folder(folder: Path, settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Write ``settings`` (``config`` and ``identity``) into ``folder``, or check that they are the ones found there.

    Args:
        defaults: configuration values of a run that was started before the setting existed.

    Raises:
        ValueError: naming the settings that differ.
    """
    path = folder / SETTINGS_NAME
    if not path.exists():
        write_json(path, settings)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(settings))
    found["config"] = {**json.loads(json.dumps(defaults)), **found["config"]}
    if found != wanted:
        differing = sorted(
            name
            for part in ("config", "identity")
            for name in {*found[part], *wanted[part]}
            if found[part].get(name) != wanted[part].get(name)
        )
        raise ValueError(f"{folder} holds a run with other settings ({', '.join(differing)}): choose another folder")


def finished_steps(folder: Path) -> int:
    """How many steps the checkpoint in ``folder`` has behind it; 0 if there is none."""
    path = Path(folder) / STATE_NAME
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as state:
        return int(state.metadata()["finished_steps"])


def unlogged_losses(folder: Path) -> list[torch.Tensor]:
    """Losses of the steps behind the checkpoint in ``folder`` that no logged line has averaged yet."""
    path = Path(folder) / STATE_NAME
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as state:
        return list(state.get_tensor(LOSSES)) if LOSSES in state.keys() else []  # noqa: SIM118 - no mapping


def write_state(
    folder: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    average: torch.optim.swa_utils.AveragedModel | None,
    scaler: torch.amp.GradScaler | None,
    done: int,
    losses: torch.Tensor | None = None,
) -> None:
    """Everything that ``done`` steps left behind, by atomic rename.

    Args:
        losses: float32 ``[n]`` of the last steps, which no logged line has averaged yet.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": moments[name] for name in MOMENTS}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    if scaler is not None:
        kept = scaler.state_dict()
        tensors |= {f"scaler.{name}": torch.tensor(kept[key], dtype=torch.float64) for name, key in SCALER.items()}
    if losses is not None:
        tensors[LOSSES] = losses
    path = folder / STATE_NAME
    # Tied weights would be refused as shared memory, so every tensor is copied; on the CPU, where there is room.
    contiguous = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    with replacing(path, alone=True) as temporary:
        save_file(contiguous, temporary, metadata={"finished_steps": str(done)})


def restore_state(
    folder: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    average: torch.optim.swa_utils.AveragedModel | None,
    scaler: torch.amp.GradScaler | None,
) -> int:
    """Put back what :func:`write_state` wrote; returns the steps behind it, 0 where ``folder`` holds no state."""
    path = folder / STATE_NAME
    if not path.is_file():
        return 0
    tensors = load_file(path)
    network.load_state_dict(_part(tensors, "network."))
    state = optimizer.state_dict()
    moments = _part(tensors, "optimizer.")
    indices = {int(name.split(".")[0]) for name in moments}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state["state"] = {
        index: {name: _laid_out_like(parameters[index], moments[f"{index}.{name}"]) for name in MOMENTS}
        for index in indices
    }
    optimizer.load_state_dict(state)
    if average is not None:
        average.load_state_dict(_part(tensors, "average."))
    if scaler is not None:
        kept = _part(tensors, "scaler.")
        growth = int(kept["growth_tracker"].item())
        scaler.load_state_dict(scaler.state_dict() | {"scale": kept["scale"].item(), SCALER["growth_tracker"]: growth})
    return finished_steps(folder)


def forget_later_metrics(path: Path, start: int) -> None:
    """Drop the lines of steps after ``start``, which are about to be taken again, and lines that a kill cut off."""
    if not path.is_file():
        return
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    kept = [line for line in whole if _logged_step(line) <= start]
    with replacing(path, alone=True) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _logged_step(line: str) -> float:
    """Step of a line of ``metrics.jsonl``; infinite for one that is no whole JSON."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf


def _laid_out_like(parameter: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """Fused AdamW walks through parameter and moments in the order of memory, which for a channels-last parameter is
    not the one they were stored in. Its step count is a scalar and stays as it is."""
    if stored.shape != parameter.shape:
        return stored
    return torch.empty_like(parameter, dtype=stored.dtype, device=stored.device).copy_(stored)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
