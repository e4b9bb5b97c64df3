"""What a figure from a GPU is reported with: the card, its memory, where its time went, and how fast it multiplies."""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from explorer.core.provenance import code_version

TOP_KERNELS = 12
"""Kernels that a profile names."""
_FAILURES = (RuntimeError, AssertionError, AttributeError)
"""Of the profiler, where the driver lacks what it needs."""
_ANNOTATIONS = ("Optimizer.", "ProfilerStep", "## ", "Torch-Compiled Region")
"""Beginnings of names that are no kernels: what torch writes over a stretch of them."""
MATMUL_SIDE, MATMUL_REPEATS = 8192, 30
"""Of the square fp16 product that says what the card's tensor cores reach here."""


def is_gpu(device: str) -> bool:
    """Whether ``device`` names a CUDA device."""
    return device.startswith("cuda")


def device_conditions(device: str) -> dict[str, Any]:
    """What a reader needs to judge a figure; JSON-serialisable. ``gpu`` is None where the CPU computes."""
    triton = None
    if importlib.util.find_spec("triton") is not None:
        import triton as found

        triton = str(found.__version__)
    return {
        "device": device,
        "gpu": torch.cuda.get_device_name() if is_gpu(device) else None,
        "gpu_bytes": torch.cuda.get_device_properties(0).total_memory if is_gpu(device) else None,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "triton": triton,
        "threads": torch.get_num_threads(),
        "code_version": code_version(),
    }


def synchronise(device: str) -> None:
    """Wait for the GPU, where there is one: only then does the clock tell how long it worked."""
    if is_gpu(device):
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], Any], device: str) -> float:
    """Wall-clock seconds of ``work``, with nothing left running before or after it."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


class MemoryWatch:
    """The most GPU memory that tensors take from its making on; nothing is measured on a CPU."""

    def __init__(self, device: str) -> None:
        self.on_gpu = is_gpu(device)
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.before = allocated_bytes(device)

    def peak(self, beside: int | None = None) -> int | None:
        """Bytes beyond ``beside``, by default what was allocated at the beginning; None on a CPU."""
        if not self.on_gpu:
            return None
        return max(0, torch.cuda.max_memory_allocated() - (self.before if beside is None else beside))


def allocated_bytes(device: str) -> int:
    """Bytes of the tensors on the GPU; 0 on a CPU."""
    return torch.cuda.memory_allocated() if is_gpu(device) else 0


def free_memory(device: str) -> None:
    """Give back what no tensor holds, cycles of objects included."""
    gc.collect()
    if is_gpu(device):
        torch.cuda.empty_cache()


def matmul_rate(device: str, *, side: int = MATMUL_SIDE) -> float:
    """Multiplications and additions a second of a ``side`` x ``side`` fp16 product."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.float16) for _ in range(2))
    product = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(MATMUL_REPEATS):
            torch.mm(left, right, out=product)

    multiply()
    return 2 * side**3 * MATMUL_REPEATS / seconds_of(multiply, device)


class Profile:
    """What the device does between ``start`` and ``stop``, by torch.profiler; where that fails, ``error`` says how,
    because what was measured without it stands."""

    def __init__(self, device: str) -> None:
        self.device, self.error = device, ""
        activity = ProfilerActivity.CUDA if is_gpu(device) else ProfilerActivity.CPU
        self.profiler = profile(activities=[activity])

    def start(self) -> None:
        """Begin, with nothing left from before."""
        synchronise(self.device)
        try:
            self.profiler.start()
        except _FAILURES as error:
            self.error = _told(error)
        self.started = time.perf_counter()

    def stop(self) -> dict[str, Any]:
        """End and sum up: seconds, the share of them in which the GPU was idle (None on a CPU) and the operations that
        took longest."""
        synchronise(self.device)
        seconds = time.perf_counter() - self.started
        if not self.error:
            try:
                self.profiler.stop()
                return self._summary(seconds)
            except _FAILURES as error:
                self.error = _told(error)
        return {"seconds": seconds, "error": self.error}

    def _summary(self, seconds: float) -> dict[str, Any]:
        spans = self._spans() if is_gpu(self.device) else self._operations()
        totals: dict[str, list[float]] = {}
        for name, start, end in spans:
            found = totals.setdefault(name[:160], [0, 0.0])
            found[0] += 1
            found[1] += (end - start) / 1e6
        longest = sorted(totals.items(), key=lambda item: -item[1][1])[:TOP_KERNELS]
        busy = _covered(spans) / 1e6 if is_gpu(self.device) else None
        return {
            "seconds": seconds,
            "kernels": len(spans),
            "busy_seconds": busy,
            "idle_share": None if busy is None else max(0.0, 1 - busy / seconds),
            "longest": [{"name": name, "calls": calls, "seconds": took} for name, (calls, took) in longest],
        }

    def _spans(self) -> list[tuple[str, float, float]]:
        """Name, begin and end in microseconds of everything that ran on the GPU; what only annotates it is left out."""
        return [
            (event.name, event.time_range.start, event.time_range.end)
            for event in self.profiler.events()
            if event.device_type == DeviceType.CUDA
            and not event.is_user_annotation
            and not event.name.startswith(_ANNOTATIONS)
        ]

    def _operations(self) -> list[tuple[str, float, float]]:
        """Name and own microseconds of every operation on the CPU."""
        return [(event.name, 0.0, event.self_cpu_time_total) for event in self.profiler.events()]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def profiled(work: Callable[[], Any], device: str) -> dict[str, Any]:
    """A :class:`Profile` of ``work``, which should have run before."""
    profile = Profile(device)
    profile.start()
    work()
    return profile.stop()


def _covered(spans: list[tuple[str, float, float]]) -> float:
    """Length of the union of the spans: kernels of several streams may run at once."""
    covered, until = 0.0, float("-inf")
    for _, start, end in sorted(spans, key=lambda span: span[1]):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
