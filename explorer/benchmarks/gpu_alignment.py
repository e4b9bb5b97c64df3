"""Structure AD on a GPU at sizes that a CPU does not reach: exact up to a million pairs, landmarks for ten million."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from explorer.alignment.structure.estimators import landmark_estimate
from explorer.benchmarks.alignment import AGREEMENT, LIMIT_GOAL, PeerTiming, ratios, reason_to_skip
from explorer.benchmarks.alignment_peers import LANDMARKS, PEERS, synthetic_rows_there
from explorer.benchmarks.capture import take_turns
from explorer.benchmarks.device_figures import (
    MemoryWatch,
    free_memory,
    is_gpu,
    matmul_rate,
    profiled,
    seconds_of,
)
from explorer.benchmarks.row_report import RowReport, Save

SECONDS = 50.0


@dataclass(frozen=True, kw_only=True)
class AlignmentSizes:
    """What the row measures."""

    exact: dict[int, int]
    """Number of pairs -> rounds, ascending; beyond the smallest only ``large`` peers take turns."""
    landmarks: int
    """Number of pairs of the estimate."""
    d: int
    """Width of the features."""
    matmul_side: int
    peers: tuple[str, ...]
    """Names in ``PEERS``."""
    large: tuple[str, ...]
    """Those of the largest size."""
    profiled: tuple[str, ...]


FULL = AlignmentSizes(
    exact={50_000: 7, 150_000: 5, 1_000_000: 2}, landmarks=10_000_000, d=768, matmul_side=8192,
    peers=(
        "gpu-products-fp16", "gpu-blocked-fp16", "gpu-blocked", "gpu-products", "gpu-blocked-triton",
        "gpu-blocked-torch-fp16", "gpu-torch-dense",
    ),
    large=("gpu-products-fp16", "gpu-blocked-fp16"),
    profiled=("gpu-blocked-fp16", "gpu-products-fp16"),
)  # fmt: skip
SMOKE = AlignmentSizes(
    exact={200: 2, 300: 1, 400: 1}, landmarks=5000, d=32, matmul_side=128,
    peers=("products", "blocked-fp16", "blocked", "torch-dense"), large=("products", "blocked-fp16"),
    profiled=("blocked-fp16", "products"),
)  # fmt: skip


def alignment(save: Save, *, smoke: bool, device: str) -> None:
    """Exact structure AD at 50K, 150K and 1M pairs and landmarks at 10M, d = 768, beside the bare products."""
    sizes = SMOKE if smoke else FULL
    report = RowReport(save, device, SECONDS, d=sizes.d, goal=LIMIT_GOAL, agreement_goal=AGREEMENT)
    rate = matmul_rate(device, side=sizes.matmul_side)
    report.add(matmul_side=sizes.matmul_side, matmul_operations_per_second=rate)
    results: list[PeerTiming] = []
    largest = max(sizes.exact)
    for number, (n, rounds) in enumerate(sizes.exact.items()):
        features = _features(n, sizes.d, device)
        names = sizes.peers if number == 0 else sizes.large
        results += _measured(n, features, names, rounds, results, report, rate, warm_up=n != largest)
        if number == 0:
            report.attempt("profile", lambda features=features: _profile(sizes, features, report))
        del features
        free_memory(device)
    report.attempt("landmarks", lambda: _landmarks(sizes, device, report))


def _features(n: int, d: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    return synthetic_rows_there(n, d, 0, device, torch.float32)


def _profile(sizes: AlignmentSizes, features: Sequence[torch.Tensor], report: RowReport) -> None:
    """Where the time of ours and of the bare products goes."""
    device, profiles = str(features[0].device), {}
    for name in sizes.profiled:
        profiles[name] = profiled(lambda name=name: PEERS[name].compute(*features), device)
        report.add(profile=profiles)


def _measured(
    n: int,
    features: Sequence[torch.Tensor],
    names: Sequence[str],
    rounds: int,
    earlier: list[PeerTiming],
    report: RowReport,
    rate: float,
    *,
    warm_up: bool,
) -> list[PeerTiming]:
    """Time the peers at one N in turns and report every round; returns what was measured."""
    device = str(features[0].device)
    notes = {name: reason_to_skip(name, n, report.left() / (rounds + warm_up), earlier) for name in names}
    values: dict[str, float] = {}
    peaks: dict[str, int | None] = {}

    def computation(name: str) -> Callable[[], None]:
        def compute() -> None:
            if notes[name]:
                return
            watch = MemoryWatch(device)
            value = report.attempt(f"{name} at N = {n}", lambda: PEERS[name].compute(*features))
            if value is None:
                notes[name] = "failed, see errors"
            else:
                values[name], peaks[name] = value, watch.peak()

        return compute

    def timings(seconds: dict[str, tuple[float, ...]]) -> list[PeerTiming]:
        return [
            PeerTiming(
                peer=name, n=n, seconds=() if notes[name] else seconds.get(name, ()), note=notes[name],
                peak_bytes=peaks.get(name),
                structure_ad=None if math.isnan(values.get(name, math.nan)) else values[name],
            )
            for name in names
        ]  # fmt: skip

    def tell(seconds: dict[str, tuple[float, ...]]) -> None:
        _tell([*earlier, *timings(seconds)], report, rate)

    works = {name: computation(name) for name in names if not notes[name]}
    found = timings(take_turns(works, rounds, warm_up=warm_up, on_round=tell) if works else {})
    _tell([*earlier, *found], report, rate)
    return found


def _tell(results: list[PeerTiming], report: RowReport, rate: float) -> None:
    """Put all figures so far into the report."""
    rows, d = [], report.figures["d"]
    for result in results:
        row, seconds = result.report(), result.quartiles()[1]
        # Half of the N^2 products, of both widths: what a method that uses the symmetry has to compute.
        useful = None if seconds is None else 2 * result.n**2 * d / seconds
        rows.append(row | {
            "useful_operations_per_second": useful,
            "share_of_matmul_rate": None if useful is None else useful / rate,
        })  # fmt: skip
    sizes = sorted({result.n for result in results})
    report.add(
        results=rows,
        ratios=[ratio for n in sizes for ratio in ratios(n, results)],
        largest_disagreement={str(n): _disagreement([one for one in results if one.n == n]) for n in sizes},
    )


def _disagreement(results: list[PeerTiming]) -> float | None:
    """How far the exact peers' structure AD are apart; None where there are fewer than two."""
    exact = [one.structure_ad for one in results if one.structure_ad is not None and PEERS[one.peer].exact]
    return max(exact) - min(exact) if len(exact) > 1 else None


def _landmarks(sizes: AlignmentSizes, device: str, report: RowReport) -> None:
    """The estimate from landmarks, of fp16 features that lie on the device."""
    made: list[Any] = []

    def make() -> None:
        made[:] = synthetic_rows_there(sizes.landmarks, sizes.d, 0, device, torch.float16)

    making = seconds_of(make, device)
    estimates: list[Any] = []

    def estimate() -> None:
        samples = min(LANDMARKS, sizes.landmarks)
        estimates.append(landmark_estimate(*made, samples, seed=0, precision="fp16"))

    watch = MemoryWatch(device)
    seconds: list[float] = []
    for _ in range(2):
        seconds.append(seconds_of(estimate, device))
        report.add(landmarks={
            "n": sizes.landmarks, "samples": LANDMARKS, "precision": "fp16", "seconds": seconds,
            "seconds_of_making_features": making, "peak_bytes": watch.peak(),
            "features_bytes": sum(rows.numel() * rows.element_size() for rows in made),
            "structure_ad": estimates[-1].structure_ad, "standard_error": estimates[-1].standard_error,
        })  # fmt: skip
        if report.left() < 3 * seconds[0] and is_gpu(device):
            break
    made.clear()
    free_memory(device)
