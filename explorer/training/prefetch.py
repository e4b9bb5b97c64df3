"""Batches made ahead by threads, so that a GPU does not wait for the CPU that feeds it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

Made = TypeVar("Made")

MOST_THREADS = 8
AHEAD = 2
"""Steps that each thread is ahead of the one that is taken."""


def prefetched(make: Callable[[int], Made], steps: range, threads: int) -> Iterator[Made]:
    """``make(step)`` for every step, in order; the same values whatever ``threads`` is, if ``make`` is a function of
    the step alone.

    Args:
        threads: how many make values ahead; 0 makes each when it is asked for.

    Raises:
        Exception: what ``make`` raises, at the step that it raised it for.
    """
    if threads == 0:
        yield from map(make, steps)
        return
    # One core each: the operations of a batch are many and small.
    pool = ThreadPoolExecutor(threads, "prefetch", initializer=torch.set_num_threads, initargs=(1,))
    try:
        waiting = iter(steps)
        pending: deque[Future[Made]] = deque(pool.submit(make, step) for step in islice(waiting, AHEAD * threads))
        while pending:
            made = pending.popleft().result()
            if (step := next(waiting, None)) is not None:
                pending.append(pool.submit(make, step))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def feeding_threads(device: torch.device, processes: int) -> int:
    """How many threads feed a process's device: none on the CPU, whose cores train, else its share of the cores."""
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_THREADS, cores // processes - 1))
