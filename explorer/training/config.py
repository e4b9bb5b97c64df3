"""How long and how fast a network is trained, whatever it is."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from typing import Any

SCHEDULES = ("cosine", "constant", "stable-decay")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and how fast to train; what is trained is a :class:`~explorer.training.trainer.Task`."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Samples a step, over all processes."""
    learning_rate: float
    """Peak of the schedule."""
    schedule: str = "cosine"
    """After the warm-up: ``cosine`` to 2 % of the peak, ``constant``, or ``stable-decay``: constant, then linear to 2 %
    over the last ``decay_share`` of the steps."""
    decay_share: float = 0.3
    """Of ``stable-decay`` alone, in (0, 1]."""
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
    """``no`` (fp32), ``bf16`` or, on a GPU, ``fp16`` with loss scaling (autocast; weights stay fp32)."""
    fused: bool = False
    """Fuse the network's operations with torch.compile: minutes once, a quarter faster from then on. On a CPU it needs
    a C++ compiler. The result differs in rounding only."""
    graphed: bool = False
    """Record the kernels of the network's forward and backward pass once and replay them: a small network leaves a GPU
    waiting for the CPU that launches them. One process, on a GPU, ``accumulation`` 1; the result differs in rounding
    only."""
    accumulation: int = 1
    """Micro-batches a process splits its share of a step into: activations of one at a time, the same step. A loss that
    compares samples with one another sees only its micro-batch."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: far less memory for about a third more time, the same result."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    log_every: int = 20
    """Steps between lines of ``metrics.jsonl``."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}: expected one of {', '.join(SCHEDULES)}")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"precision is {self.precision!r}: expected 'no', 'bf16' or 'fp16'")
        # A replay writes its gradients over the last ones, and recomputing asks for the state of random numbers.
        if self.graphed and (self.fused or self.gradient_checkpointing or self.accumulation > 1):
            raise ValueError("graphed is True: expected accumulation 1, and neither fused nor gradient_checkpointing")
        if not 0 < self.decay_share <= 1:
            raise ValueError(f"decay_share is {self.decay_share}: expected 0 < share <= 1")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: expected 0 <= decay < 1")


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Factor on the peak learning rate at ``step`` (from 0), in (0, 1]."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "stable-decay":
        left = (config.steps - step) / (config.decay_share * config.steps)
        return 0.02 + 0.98 * min(left, 1.0)
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def default_settings() -> dict[str, Any]:
    """Of :class:`TrainingConfig`, by name, JSON-serialisable."""
    defaults = {field.name: field.default for field in fields(TrainingConfig) if field.default is not MISSING}
    return defaults | {"betas": list(defaults["betas"])}
