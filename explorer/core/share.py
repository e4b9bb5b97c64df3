"""One worker's part of the work, and how the workers' sums come together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from explorer.core.progress import OnProgress, counted, unheard


@dataclass(frozen=True, kw_only=True)
class Share:
    """One worker's part of the tiles, and how the workers' sums come together."""

    index: int = 0
    """Number of this worker, 0..count-1."""
    count: int = 1
    """Number of workers."""
    add_up: Callable[[torch.Tensor], torch.Tensor] | None = None
    """All workers' elementwise sum of an int64 or fp64 tensor, given to each; None where there is one worker."""

    on_progress: OnProgress = unheard
    """Told about this worker's tasks."""

    def part(self, tasks: list[Any]) -> list[Any]:
        """This worker's tasks: neighbours, as many as every other worker's or one fewer."""
        first, end = (len(tasks) * index // self.count for index in (self.index, self.index + 1))
        return tasks[first:end]

    def each(self, tasks: list[Any]) -> Iterator[Any]:
        """The same one after the other, reported as they are done."""
        return counted(self.part(tasks), self.on_progress, "structure distances", "tile")

    def total(self, sums: torch.Tensor) -> torch.Tensor:
        """``sums`` of all workers."""
        return sums if self.add_up is None else self.add_up(sums)


ALONE = Share()
"""One worker does all."""
