"""One training loop for every network of the project, on accelerate, resumable bit by bit.

All randomness of a step is a function of (seed, step), so a checkpoint holds no generator state: weights, optimiser
moments, the moving average and the step number are the whole of it, and they fit a safetensors file.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from explorer.provenance import hash_json, write_json

if TYPE_CHECKING:
    from accelerate import Accelerator

STATE_NAME = "state.safetensors"
METRICS_NAME = "metrics.jsonl"
SETTINGS_NAME = "settings.json"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and how fast to train; what is trained is the :class:`Task`."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Samples a step, over all processes."""
    learning_rate: float
    """Peak of the schedule."""
    schedule: str = "cosine"
    """``cosine`` (to 2 % of the peak) or ``constant``, after the warm-up."""
    warmup_steps: int = 50
    """Linear warm-up."""
    weight_decay: float = 0.01
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Of AdamW."""
    gradient_clip: float = 1.0
    """Largest gradient norm; above it the gradient is scaled down."""
    ema_decay: float = 0.0
    """Of the moving average of the weights; 0 keeps none."""
    precision: str = "no"
    """``no`` (fp32) or ``bf16`` (autocast; weights stay fp32)."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    log_every: int = 20
    """Steps between lines of ``metrics.jsonl``."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule is {self.schedule!r}: expected 'cosine' or 'constant'")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f"precision is {self.precision!r}: expected 'no' or 'bf16'")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: expected 0 <= decay < 1")


class Task(Protocol):
    """What a training run trains: a module whose forward pass is the loss, and its data."""

    network: torch.nn.Module
    """``network(batch)`` returns a scalar loss."""

    def __len__(self) -> int:
        """Number of training samples."""

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The samples at ``indices`` ``[n]``, with whatever noise the step needs drawn from ``generator``."""


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Factor on the peak learning rate at ``step`` (from 0), in (0, 1]."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def step_indices(step: int, size: int, config: TrainingConfig) -> torch.Tensor:
    """Which samples step ``step`` sees, int64 ``[batch_size]``: walks through one seeded permutation an epoch."""
    positions = torch.arange(step * config.batch_size, (step + 1) * config.batch_size)
    epochs = positions // size
    orders = {
        epoch: torch.randperm(size, generator=_generator(config.seed, "epoch", epoch))
        for epoch in epochs.unique().tolist()
    }
    return torch.stack([orders[epoch][position] for epoch, position in
                        zip(epochs.tolist(), (positions % size).tolist(), strict=True)])  # fmt: skip


def _generator(seed: int, *purpose: Any) -> torch.Generator:
    return torch.Generator().manual_seed(int(hash_json([seed, *purpose])[:15], 16))


def train(
    task: Task,
    config: TrainingConfig,
    folder: Path,
    *,
    identity: dict[str, Any],
    on_step: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
) -> torch.nn.Module:
    """Train ``task`` to ``config.steps``, resuming from ``folder`` if it holds a checkpoint of the same run.

    Args:
        identity: what else decides the result (data hash, network config); a checkpoint of another identity is refused.
        on_step: called with (finished steps, loss) at each logged step.
        should_stop: asked after each step; if it says yes a checkpoint is written and training ends early.
        device: ``cpu`` or ``cuda``.

    Returns:
        ``task.network`` with the final weights (their moving average where ``ema_decay`` > 0), in fp32 on the CPU.

    Raises:
        ValueError: if ``folder`` belongs to another run, or the loss becomes NaN or infinite.
    """
    from accelerate import Accelerator

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, {"config": {**asdict(config), "betas": list(config.betas)}, "identity": identity})
    accelerator = Accelerator(mixed_precision=config.precision, cpu=device == "cpu")
    network = task.network
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    prepared, optimizer = accelerator.prepare(network, optimizer)
    average = _moving_average(network, config)
    start = _restore(folder, network, optimizer.optimizer, average)
    loop = _Loop(
        task=task, config=config, folder=folder, accelerator=accelerator, prepared=prepared, optimizer=optimizer,
        average=average, on_step=on_step,
    )  # fmt: skip
    loop.run(start, should_stop or (lambda: False))
    final = average.module if average is not None else accelerator.unwrap_model(prepared)
    return final.to("cpu").eval()


def finished_steps(folder: Path) -> int:
    """How many steps the checkpoint in ``folder`` has behind it; 0 if there is none."""
    from safetensors import safe_open

    path = Path(folder) / STATE_NAME
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as state:
        return int(state.metadata()["finished_steps"])


@dataclass(frozen=True, kw_only=True)
class _Loop:
    task: Task
    config: TrainingConfig
    folder: Path
    accelerator: Accelerator
    prepared: torch.nn.Module
    optimizer: Any
    average: torch.optim.swa_utils.AveragedModel | None
    on_step: Callable[[int, float], None] | None

    def run(self, start: int, should_stop: Callable[[], bool]) -> None:
        self.prepared.train()
        since, losses = time.perf_counter(), []
        for step in range(start, self.config.steps):
            losses.append(self._step(step))
            done = step + 1
            if done % self.config.log_every == 0 or done == self.config.steps:
                seconds = (time.perf_counter() - since) / len(losses)
                self._log(done, losses, seconds)
                since, losses = time.perf_counter(), []
            stopping = should_stop()
            if done % self.config.checkpoint_every == 0 or done == self.config.steps or stopping:
                self._save(done)
            if stopping:
                return

    def _step(self, step: int) -> torch.Tensor:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        indices = step_indices(step, len(self.task), config)[rank::processes]
        batch = self.task.batch(indices, _generator(config.seed, "step", step, rank))
        loss = self.prepared({name: value.to(self.accelerator.device) for name, value in batch.items()})
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.prepared.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.prepared))
        return loss.detach()

    def _log(self, done: int, losses: list[torch.Tensor], seconds: float) -> None:
        mean = self.accelerator.reduce(torch.stack(losses).float().mean(), reduction="mean").item()
        if not math.isfinite(mean):
            raise ValueError(f"the loss is {mean} at step {done}: expected a finite number; lower the learning rate")
        if self.accelerator.is_main_process:
            rate = self.config.learning_rate * learning_rate_factor(done - 1, self.config)
            line = {"step": done, "loss": mean, "learning_rate": rate, "seconds_per_step": round(seconds, 4)}
            with open(self.folder / METRICS_NAME, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            if self.on_step is not None:
                self.on_step(done, mean)

    def _save(self, done: int) -> None:
        if not self.accelerator.is_main_process:
            return
        network = self.accelerator.unwrap_model(self.prepared)
        _write_state(self.folder / STATE_NAME, network, self.optimizer.optimizer, self.average, done)


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS_NAME
    if not path.exists():
        write_json(path, settings)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(settings))
    if found != wanted:
        differing = sorted(
            name
            for part in ("config", "identity")
            for name in {*found[part], *wanted[part]}
            if found[part].get(name) != wanted[part].get(name)
        )
        raise ValueError(f"{folder} holds a run with other settings ({', '.join(differing)}): choose another folder")


def _moving_average(network: torch.nn.Module, config: TrainingConfig) -> torch.optim.swa_utils.AveragedModel | None:
    if config.ema_decay == 0:
        return None
    update = torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)
    return torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=update)


def _write_state(
    path: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Any, done: int
) -> None:
    from safetensors.torch import save_file

    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": moments[name] for name in MOMENTS}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # Tied weights would be refused as shared memory, so every tensor is copied.
    contiguous = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    save_file(contiguous, temporary, metadata={"finished_steps": str(done)})
    os.replace(temporary, path)


def _restore(folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Any) -> int:
    from safetensors.torch import load_file

    path = folder / STATE_NAME
    if not path.is_file():
        return 0
    tensors = load_file(path)
    network.load_state_dict(_part(tensors, "network."))
    state = optimizer.state_dict()
    moments = _part(tensors, "optimizer.")
    indices = {int(name.split(".")[0]) for name in moments}
    state["state"] = {index: {name: moments[f"{index}.{name}"] for name in MOMENTS} for index in indices}
    optimizer.load_state_dict(state)
    if average is not None:
        average.load_state_dict(_part(tensors, "average."))
    return finished_steps(folder)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
