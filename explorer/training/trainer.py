"""One training loop for every network of the project, on accelerate, resumable bit by bit.

All randomness of a step is a function of (seed, step), so a checkpoint holds no generator state: weights, optimiser
moments, the moving average and the step number are the whole of it, and they fit a safetensors file. Nor does it
depend on the number of processes: each of them takes its share of the one batch of a step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, Progress, unheard
from explorer.core.provenance import hash_json
from explorer.core.workers import PATIENCE_HOURS
from explorer.training.config import TrainingConfig, default_settings, learning_rate_factor
from explorer.training.prefetch import feeding_threads, prefetched
from explorer.training.recorded_step import recorded
from explorer.training.state import (
    claim_folder,
    forget_later_metrics,
    restore_state,
    unlogged_losses,
    write_state,
)
from explorer.training.tracking import Tracker, check_tracker, open_tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

METRICS_NAME = "metrics.jsonl"


class Task(Protocol):
    """What a training run trains: a module whose forward pass is the loss, and its data."""

    network: torch.nn.Module
    """``network(batch)`` returns a scalar loss."""

    def __len__(self) -> int:
        """Number of training samples."""

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The samples at ``indices`` ``[n]``, one a row of every tensor, with whatever noise the step needs drawn from
        ``generator``."""


def step_indices(step: int, size: int, config: TrainingConfig) -> torch.Tensor:
    """Which samples step ``step`` sees, int64 ``[batch_size]``: walks through one seeded permutation an epoch."""
    first = step * config.batch_size
    epochs = range(first // size, (first + config.batch_size - 1) // size + 1)
    orders = torch.cat([_epoch_order(config.seed, epoch, size) for epoch in epochs])
    start = first - epochs[0] * size
    return orders[start : start + config.batch_size].clone()


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, size: int) -> torch.Tensor:
    return torch.randperm(size, generator=_generator(seed, "epoch", epoch))


def _generator(seed: int, *purpose: Any) -> torch.Generator:
    return torch.Generator().manual_seed(int(hash_json([seed, *purpose])[:15], 16))


def train(
    task: Task,
    config: TrainingConfig,
    folder: Path,
    *,
    identity: dict[str, Any],
    on_progress: OnProgress = unheard,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
    track: str | None = None,
) -> torch.nn.Module:
    """Train ``task`` to ``config.steps``, resuming from ``folder`` if it holds a checkpoint of the same run.

    Under ``torchrun`` or ``accelerate launch`` every process calls this with the same arguments and shares the work;
    the result differs from one process's in rounding only.

    Args:
        identity: what else decides the result (data hash, network config); a checkpoint of another identity is refused.
        on_progress: told at the start and, with the loss, at each logged step, in the main process.
        should_stop: asked after each step; if it says yes in any process a checkpoint is written and training ends
            early.
        device: ``cpu`` or ``cuda``; under a launcher the GPU of the local rank.
        track: ``tensorboard`` or ``wandb`` beside ``metrics.jsonl``; None for neither.

    Returns:
        ``task.network`` with the final weights (their moving average where ``ema_decay`` > 0), in fp32 on the CPU.

    Raises:
        ValueError: if ``folder`` belongs to another run, another process trains there, the device or tracker is not
            there, the batch cannot be shared evenly, or the loss or a weight becomes NaN or infinite; such weights are
            never saved.
    """
    check_tracker(track)
    accelerator = start_accelerator(config.precision, device)
    _check_shares(config, accelerator)
    folder = Path(folder)
    with locked(folder) if accelerator.is_main_process else nullcontext():
        return _train(task, config, folder, accelerator, identity, on_progress, should_stop, track)


def _train(
    task: Task,
    config: TrainingConfig,
    folder: Path,
    accelerator: Accelerator,
    identity: dict[str, Any],
    on_progress: OnProgress,
    should_stop: Callable[[], bool] | None,
    track: str | None,
) -> torch.nn.Module:
    """:func:`train`, by the processes whose main one holds the folder's lock."""
    network = task.network
    if config.gradient_checkpointing:
        _enable_gradient_checkpointing(network)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"config": {**asdict(config), "betas": list(config.betas)}, "identity": identity}
    claim_folder(folder, settings, default_settings())
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    prepared, optimizer = accelerator.prepare(network, optimizer)
    average = _moving_average(network, config)
    start = restore_state(folder, network, optimizer.optimizer, average=average, scaler=accelerator.scaler)
    if accelerator.is_main_process:
        forget_later_metrics(folder / METRICS_NAME, start)
    tracker = open_tracker(track, folder, settings, start) if track and accelerator.is_main_process else None
    loop = _Loop(
        task=task, config=config, folder=folder, accelerator=accelerator, prepared=prepared, optimizer=optimizer,
        forward=torch.compile(prepared) if config.fused else prepared, average=average, on_progress=on_progress,
        tracker=tracker,
    )  # fmt: skip
    try:
        loop.run(start, should_stop)
    finally:
        if tracker is not None:
            tracker.close()
    final = average.module if average is not None else accelerator.unwrap_model(prepared)
    if config.gradient_checkpointing:
        for part in _checkpointing_parts(final):
            part.disable_gradient_checkpointing()
    return final.to("cpu").eval()


def start_accelerator(precision: str, device: str) -> Accelerator:
    """The accelerator of this process; joins the others where a launcher started several.

    Raises:
        ValueError: if ``device`` is not there, or cannot do ``precision``.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState

    if device not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}: expected 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but PyTorch finds no such GPU: expected 'cpu'")
    if device == "cpu" and precision == "fp16":
        raise ValueError("precision is 'fp16' on the CPU: expected 'no' or 'bf16'")
    # accelerate keeps the first precision and device it was given; the phases of one build may differ.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=PATIENCE_HOURS))
    accelerator = Accelerator(mixed_precision=precision, cpu=device == "cpu", kwargs_handlers=[patience])
    if accelerator.device.type != device:
        raise ValueError(f"device is {device!r}, but the processes were started on {accelerator.device.type!r}")
    return accelerator


def _check_shares(config: TrainingConfig, accelerator: Accelerator) -> None:
    processes, place = accelerator.num_processes, accelerator.device.type
    if config.graphed and (place != "cuda" or processes > 1):
        raise ValueError(f"graphed is True for {processes} processes on {place}: expected one on cuda")
    if config.batch_size % (processes * config.accumulation):
        raise ValueError(
            f"batch_size is {config.batch_size}: expected a multiple of {processes * config.accumulation} "
            f"({processes} processes, {config.accumulation} micro-batches each)"
        )


def _checkpointing_parts(network: torch.nn.Module) -> list[Any]:
    """The diffusers models in ``network`` that can recompute their activations."""
    return [part for part in network.modules() if getattr(part, "_supports_gradient_checkpointing", False)]


def _enable_gradient_checkpointing(network: torch.nn.Module) -> None:
    parts = _checkpointing_parts(network)
    if not parts:
        raise ValueError(f"gradient_checkpointing is True, but nothing in {type(network).__name__} supports it")
    for part in parts:
        part.enable_gradient_checkpointing()


@dataclass(frozen=True, kw_only=True)
class _Loop:
    task: Task
    config: TrainingConfig
    folder: Path
    accelerator: Accelerator
    prepared: torch.nn.Module
    forward: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    """``prepared``, compiled where the configuration says so."""
    optimizer: Any
    average: torch.optim.swa_utils.AveragedModel | None
    on_progress: OnProgress
    tracker: Tracker | None
    """In the main process of a tracked run."""

    def run(self, start: int, should_stop: Callable[[], bool] | None) -> None:
        self.prepared.train()
        if self.accelerator.is_main_process:
            self._report(start, {})
        # A line averages the same steps whether the run was cut off between them or not.
        losses = [loss.to(self.accelerator.device) for loss in unlogged_losses(self.folder)]
        since, first = time.perf_counter(), start
        for done, loss in enumerate(self._losses(start), start=start + 1):
            losses.append(loss)
            if done % self.config.log_every == 0 or done == self.config.steps:
                self._log(done, losses, (time.perf_counter() - since) / (done - first))
                since, first, losses = time.perf_counter(), done, []
            stopping = should_stop is not None and self._agree(should_stop())
            if done % self.config.checkpoint_every == 0 or done == self.config.steps or stopping:
                self._save(done, losses)
            if stopping:
                return

    def _on_device(self, share: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        device = self.accelerator.device
        return {name: value.to(device, non_blocking=value.is_pinned()) for name, value in share.items()}

    def _losses(self, start: int) -> Iterator[torch.Tensor]:
        """Take every step from ``start`` on; the loss of each."""
        steps = range(start, self.config.steps)
        threads = feeding_threads(self.accelerator.device, self.accelerator.num_processes)
        with ExitStack() as stack:
            if self.config.graphed and steps:
                stack.enter_context(recorded(self.prepared, self._on_device(self._micro_batches(start)[0])))
            batches = stack.enter_context(closing(prefetched(self._micro_batches, steps, threads)))
            for step, shares in zip(steps, batches, strict=True):
                yield self._step(step, shares)

    def _step(self, step: int, shares: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config)
        losses = []
        for number, share in enumerate(shares, start=1):
            last = number == len(shares)
            # Gradients travel between processes once a step.
            with nullcontext() if last else self.accelerator.no_sync(self.prepared):
                loss = self.forward(self._on_device(share))
                self.accelerator.backward(loss / len(shares))
            losses.append(loss.detach().clone())  # a replay writes the next one over it
        self.accelerator.clip_grad_norm_(self.prepared.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.prepared))
        return torch.stack(losses).mean().float()

    def _micro_batches(self, step: int) -> list[dict[str, torch.Tensor]]:
        """This process's share of the batch of ``step``, in ``accumulation`` parts; a function of the step alone."""
        config = self.config
        # The 0 was once the rank; every process draws the whole batch, so that their number changes nothing.
        generator = _generator(config.seed, "step", step, 0)
        batch = self.task.batch(step_indices(step, len(self.task), config), generator)
        rank, stride = self.accelerator.process_index, self.accelerator.num_processes * config.accumulation
        offsets = range(rank, stride, self.accelerator.num_processes)
        shares = [{name: value[offset::stride] for name, value in batch.items()} for offset in offsets]
        if self.accelerator.device.type == "cuda":  # what is copied beside the computation has to be pinned
            shares = [{name: value.contiguous().pin_memory() for name, value in share.items()} for share in shares]
        return shares

    def _agree(self, stopping: bool) -> bool:
        """Whether any process wants to stop: all must leave at the same step."""
        if self.accelerator.num_processes == 1:
            return stopping
        wishes = torch.tensor(float(stopping), device=self.accelerator.device)
        return self.accelerator.reduce(wishes, reduction="sum").item() > 0

    def _log(self, done: int, losses: list[torch.Tensor], seconds: float) -> None:
        mean = self.accelerator.reduce(torch.stack(losses).mean(), reduction="mean").item()
        if not math.isfinite(mean):
            raise ValueError(f"the loss is {mean} at step {done}: expected a finite number; lower the learning rate")
        if self.accelerator.is_main_process:
            rate = self.config.learning_rate * learning_rate_factor(done - 1, self.config)
            line = {"step": done, "loss": mean, "learning_rate": rate, "seconds_per_step": round(seconds, 4)}
            with open(self.folder / METRICS_NAME, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            if self.tracker is not None:
                values = {"loss": mean, "learning_rate": rate, "samples_per_second": self.config.batch_size / seconds}
                self.tracker.log(done, values)
            self._report(done, {"loss": mean})

    def _report(self, done: int, figures: dict[str, float]) -> None:
        self.on_progress(Progress(task=self.folder.name, done=done, total=self.config.steps, figures=figures))

    def _save(self, done: int, losses: list[torch.Tensor]) -> None:
        network = self.accelerator.unwrap_model(self.prepared)
        # In every process, since all of them hold the same weights and must end together.
        _check_finite(network, done)
        unlogged = self.accelerator.reduce(torch.stack(losses), reduction="mean") if losses else None
        if not self.accelerator.is_main_process:
            return
        write_state(
            self.folder, network, self.optimizer.optimizer, average=self.average, scaler=self.accelerator.scaler,
            done=done, losses=unlogged,
        )  # fmt: skip


def _check_finite(network: torch.nn.Module, done: int) -> None:
    """Refuse to save weights that no training could go on from; the loss tells of them only at the next logged step."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and not parameter.isfinite().all():
            raise ValueError(
                f"{name} has NaN or infinite values at step {done}: expected finite numbers; lower the learning rate"
            )


def _moving_average(network: torch.nn.Module, config: TrainingConfig) -> torch.optim.swa_utils.AveragedModel | None:
    if config.ema_decay == 0:
        return None
    update = torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)
    return torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=update)
