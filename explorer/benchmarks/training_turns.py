"""Our training loop timed step by step, with the plain loop taking its turns between our steps.

Ours is one call of :func:`~explorer.training.trainer.train`, so that preparing and compiling fall into the warm-up; its
reports say when a stretch of steps is done, and it is ended before it writes its state, which is no part of a step.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.benchmarks.device_figures import MemoryWatch, Profile, allocated_bytes, profiled, seconds_of, synchronise
from explorer.training.fine_tune import train_unet
from explorer.training.recipes import override

if TYPE_CHECKING:
    from explorer.core.progress import Progress
    from explorer.training.encoded_pairs import EncodedPairs
    from explorer.training.recipes import FineTuningRecipe

PLAIN, OURS = "plain diffusers loop", "ours"


@dataclass(frozen=True, kw_only=True)
class Turns:
    """How many steps take turns."""

    steps: int
    """Counted steps a round."""
    warmup: int
    """Steps before the first round that are not counted."""
    rounds: int
    profile: bool = False
    """Profile a few more steps in the end."""

    @property
    def stretch(self) -> int:
        """Steps between two reports of our loop, which have it wait for the GPU."""
        return math.gcd(self.steps, self.warmup)

    @property
    def total(self) -> int:
        """Steps of ours in all."""
        return self.warmup + self.rounds * self.steps + (self.stretch if self.profile else 0)


@dataclass(kw_only=True)
class Timings:
    """What was measured so far, by loop."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {PLAIN: [], OURS: []})
    """Of ``steps`` steps, one a round."""
    peak_bytes: dict[str, int | None] = field(default_factory=lambda: {PLAIN: None, OURS: None})
    """The most GPU memory of one loop alone, weights, moments and encoders of its own included; None on a CPU."""
    profile: dict[str, Any] = field(default_factory=dict)
    """Of ``stretch`` steps, by loop."""


class _EnoughError(Exception):
    """Ends our loop where everything is measured."""


def time_turns(
    unet: Any,
    scheduler: Any,
    encoded: EncodedPairs,
    recipe: FineTuningRecipe,
    turns: Turns,
    *,
    device: str,
    plain: Callable[[int], Any] | None,
    on_round: Callable[[Timings], None],
) -> Timings:
    """Train ``unet`` in place by ``recipe``, whose number of steps and reports is replaced by ``turns``'.

    Args:
        plain: takes that many steps of the plain loop, which was warmed up; None times ours alone.
        on_round: told after every round, and after the profile.
    """
    recipe = override(recipe, steps=turns.total, log_every=turns.stretch, checkpoint_every=turns.total)
    listener = _Listener(turns, device, plain, on_round, beside=allocated_bytes(device) - bytes_of(unet))
    with tempfile.TemporaryDirectory(prefix="training") as folder, contextlib.suppress(_EnoughError):
        train_unet(
            unet, scheduler, encoded, recipe, Path(folder) / "run", start="random", device=device,
            on_progress=listener.hear,
        )  # fmt: skip
    return listener.timings


def bytes_of(module: Any) -> int:
    """Bytes of a module's tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Listener:
    """Hears of our steps, stops the clock, and lets the plain loop have its turn."""

    def __init__(
        self,
        turns: Turns,
        device: str,
        plain: Callable[[int], Any] | None,
        on_round: Callable[[Timings], None],
        beside: int,
    ) -> None:
        self.turns, self.device, self.plain, self.on_round = turns, device, plain, on_round
        self.beside = beside
        """Bytes that the plain loop's tensors take between its steps."""
        self.timings = Timings()

    def hear(self, progress: Progress) -> None:
        counted = progress.done - self.turns.warmup
        if counted < 0:
            return
        synchronise(self.device)
        timings, done = self.timings, len(self.timings.seconds[OURS])
        if done == self.turns.rounds:  # only the profiled steps came after the last round
            timings.profile[OURS] = self.profile.stop()
            if self.plain is not None:
                timings.profile[PLAIN] = profiled(lambda: self.plain(self.turns.stretch), self.device)
            self.on_round(timings)
            raise _EnoughError
        if counted == (done + 1) * self.turns.steps:
            timings.seconds[OURS].append(time.perf_counter() - self.started)
            timings.peak_bytes[OURS] = self.watch.peak(self.beside)
            if self.plain is not None:
                self._plain_turn()
            self.on_round(timings)
            done += 1
        elif counted:
            return
        if done == self.turns.rounds:
            if not self.turns.profile:
                raise _EnoughError
            self.profile = Profile(self.device)
            self.profile.start()
            return
        self.watch = MemoryWatch(self.device)
        self.started = time.perf_counter()

    def _plain_turn(self) -> None:
        watch = MemoryWatch(self.device)
        self.timings.seconds[PLAIN].append(seconds_of(lambda: self.plain(self.turns.steps), self.device))
        ours = allocated_bytes(self.device) - self.beside
        self.timings.peak_bytes[PLAIN] = watch.peak(ours)
