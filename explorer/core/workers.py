"""Several processes, GPUs or machines that measure one pair set together; ``torchrun`` or ``accelerate`` starts them.

Every process holds the features and computes its share of the tiles; sums come together as 64-bit integers, so that the
result is that of one process, bit for bit where their products are (the same number of threads, the same device).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from explorer.core.progress import OnProgress, unheard

if TYPE_CHECKING:
    import torch

    from explorer.core.share import Share

PATIENCE_HOURS = 24
"""How long a process waits for the others, here and in training: one imports pairs or encodes them for hours, far
longer than a collective operation may hang by default."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This process among all that work on the same measurement; by default it is the only one."""

    index: int = 0
    """Number of this process, 0..count-1; process 0 decides and prints."""
    count: int = 1
    """Number of processes."""
    local_index: int = 0
    """Number of this process among those of its machine."""
    device: str = "cpu"
    """Where this process computes: ``cpu``, or its own ``cuda:i``."""

    on_progress: OnProgress = unheard
    """Told about this process's part."""

    @property
    def share(self) -> Share:
        """This process's part of the tiles, with the sum over all processes."""
        from explorer.core.share import Share

        add_up = None if self.count == 1 else self._add_up
        return Share(index=self.index, count=self.count, add_up=add_up, on_progress=self.on_progress)

    def agree(self, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``decide`` returns in process 0 (JSON-serialisable), in every process.

        Raises:
            ValueError: in every process, where ``decide`` raises it in process 0.
        """
        if self.count == 1:
            return decide()
        decision: dict[str, Any] = {}
        if self.index == 0:
            try:
                decision = {"agreed": decide()}
            except ValueError as error:
                decision = {"refused": str(error)}
        decision = self._broadcast(decision)
        if "refused" in decision:
            raise ValueError(decision["refused"])
        return decision["agreed"]

    def wait(self) -> None:
        """Return when every process has come so far."""
        if self.count > 1:
            from torch import distributed

            distributed.barrier()

    def first_alone(self, work: Callable[[], Any]) -> Any:
        """``work()`` in every process, but first in one of each machine: the others find what it left on disk."""
        from torch import distributed

        if self.count > 1 and self.local_index > 0:
            distributed.barrier()
        result = work()
        if self.count > 1 and self.local_index == 0:
            distributed.barrier()
        return result

    def _broadcast(self, value: dict[str, Any]) -> dict[str, Any]:
        import torch
        from torch import distributed

        text = json.dumps(value).encode()
        length = torch.tensor([len(text)], device=self.device)
        distributed.broadcast(length, src=0)
        content = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.index == 0:
            content.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        distributed.broadcast(content, src=0)
        return json.loads(bytes(content.tolist()))

    @staticmethod
    def _add_up(sums: torch.Tensor) -> torch.Tensor:
        from torch import distributed

        distributed.all_reduce(sums)
        return sums


ALONE = Workers()


@contextmanager
def worker_group(device: str = "cpu", on_progress: OnProgress = unheard) -> Iterator[Workers]:
    """The processes that a launcher started (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``), joined by gloo or nccl.

    Without a launcher, or with one process, this process alone.

    Args:
        device: ``cpu`` or ``cuda``; each process of a machine takes its own GPU.

    Raises:
        ValueError: on an unknown device, one that is not there, or more processes than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local_index = int(os.environ.get("LOCAL_RANK", "0"))
    device = _own_device(device, local_index)
    if count == 1:
        yield Workers(device=device, on_progress=on_progress)
        return
    from torch import distributed

    backend = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(hours=PATIENCE_HOURS))
    try:
        yield Workers(
            index=distributed.get_rank(), count=distributed.get_world_size(), local_index=local_index, device=device,
            on_progress=on_progress,
        )  # fmt: skip
    finally:
        distributed.destroy_process_group()


def _own_device(device: str, local_index: int) -> str:
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}: expected cpu or cuda")
    if device == "cpu":
        return device
    import torch

    if local_index >= torch.cuda.device_count():
        raise ValueError(
            f"device is 'cuda' for process {local_index} of this machine, which has {torch.cuda.device_count()} GPUs: "
            "expected one for each process"
        )
    torch.cuda.set_device(local_index)
    return f"cuda:{local_index}"
