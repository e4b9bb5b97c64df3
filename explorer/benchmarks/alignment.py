"""Time and memory of structure AD over N, ours beside its peers and beside the bare products, in the same run.

Peers take turns within a round, so that a machine whose speed drifts, or that is shared, is as slow for all of them;
ratios are taken within a round. Memory is what a fresh process takes beyond the features.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.alignment.structure.plan import available_bytes
from explorer.benchmarks.alignment_peers import PEERS, Peer, synthetic_rows
from explorer.benchmarks.capture import CostRatio, take_turns
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import ROOT, code_version

LIMIT_GOAL = 1.3
"""Ours against the bare products, at most; on a GPU both with fp16 operands."""
ROW_LOOP_GOAL = 4.0
"""The row loop against ours, at least."""
AGREEMENT = 1e-4
"""How far two exact peers' structure AD may be apart: fp32 sums of N^2 terms without care lose digits."""

GOALS = (
    ("blocked", "products", f"at most {LIMIT_GOAL}"),
    ("blocked-fp16", "products", ""),
    ("blocked-centred", "products", ""),
    ("row-loop", "blocked", f"at least {ROW_LOOP_GOAL:g}"),
    ("torch-dense", "blocked", ""),
    ("scikit-learn", "blocked", ""),
    ("keops", "blocked", ""),
    ("gpu-blocked-fp16", "gpu-products-fp16", f"at most {LIMIT_GOAL}"),
    ("gpu-blocked", "gpu-products-fp16", ""),
    ("gpu-blocked", "gpu-products", ""),
    ("gpu-torch-dense", "gpu-blocked", ""),
    ("gpu-blocked-triton", "gpu-blocked", ""),
    ("gpu-blocked-torch-fp16", "gpu-blocked-fp16", ""),
)
"""One peer, another, and what the ratio of their seconds should be; empty where none is set."""

_MEMORY_SHARE = 0.8
_CHILD = "from explorer.benchmarks.alignment import print_peak_memory; print_peak_memory({!r}, {}, {}, {})"


@dataclass(frozen=True, kw_only=True)
class PeerTiming:
    """One peer at one N."""

    peer: str
    """Name in ``PEERS``."""
    n: int
    """Number of pairs."""
    seconds: tuple[float, ...]
    """One a round; empty where it was not measured."""
    structure_ad: float | None
    """What it computed; None for bare products and where it was not measured."""
    peak_bytes: int | None
    """Largest memory beyond the features; None where it was not measured."""
    note: str
    """Why there is no figure; empty where there is one."""

    def report(self) -> dict[str, Any]:
        """JSON-serialisable, with median and quartiles."""
        low, middle, high = self.quartiles()
        return {
            "peer": self.peer,
            "n": self.n,
            "seconds": middle,
            "seconds_lower_quartile": low,
            "seconds_upper_quartile": high,
            "rounds": len(self.seconds),
            "structure_ad": self.structure_ad,
            "peak_bytes": self.peak_bytes,
            "note": self.note,
        }

    def line(self) -> str:
        """For a log: what was measured, or why nothing was."""
        low, middle, high = self.quartiles()
        if middle is None:
            return f"N = {self.n}: {self.peer}: {self.note}"
        memory = "" if self.peak_bytes is None else f", {self.peak_bytes / 1e6:.1f} MB beyond the features"
        return f"N = {self.n}: {self.peer}: {middle:.4g} s ({low:.4g} to {high:.4g}){memory}"

    def quartiles(self) -> tuple[float | None, float | None, float | None]:
        """Lower quartile, median and upper quartile of the seconds."""
        if not self.seconds:
            return None, None, None
        low, middle, high = np.quantile(self.seconds, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high


def benchmark_alignment(
    sizes: Sequence[int],
    *,
    d: int = 512,
    rounds: int = 5,
    peers: Sequence[str] = tuple(PEERS),
    limit_seconds: float = 600.0,
    memory: bool = True,
    seed: int = 0,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Measure every peer at every N.

    Args:
        sizes: numbers of pairs N, ascending.
        d: width of the features.
        rounds: how often each is timed, after one time that is not counted.
        peers: names in ``PEERS``.
        limit_seconds: a peer that would take longer for one round, going by the N before, is left out and said to be.
        memory: measure peak memory too, each in a process of its own.
        seed: of the features.
        on_progress: told what is being measured, and every figure as soon as its N is done.

    Returns:
        JSON-serialisable: conditions, one entry a peer and N, ratios to goals, fitted exponents.

    Raises:
        ValueError: on sizes, rounds or peers that cannot be.
        ArithmeticError: if two exact peers disagree.
    """
    _check_settings(sizes, d, rounds, peers)
    results: list[PeerTiming] = []
    for n in sizes:
        measured = _at_one_size(n, d, rounds, peers, limit_seconds, memory, seed, results, on_progress)
        for result in measured:
            on_progress(note(result.line()))
        _check_agreement(measured)
        results += measured
    return {
        **_conditions(d, rounds, seed),
        "results": [result.report() for result in results],
        "ratios": [ratio for n in sizes for ratio in ratios(n, results)],
        "exponents": _exponents(peers, results),
    }


def fitted_exponent(sizes: Sequence[int], values: Sequence[float]) -> float | None:
    """b of ``value = a N^b`` by least squares in logarithms; None for fewer than two sizes."""
    pairs = [(math.log(n), math.log(value)) for n, value in zip(sizes, values, strict=True) if value > 0]
    if len({size for size, _ in pairs}) < 2:
        return None
    return float(np.polyfit(*zip(*pairs, strict=True), 1)[0])


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown: a table of all figures, the ratios to their goals, the exponents."""
    lines = ["| peer | N | seconds (quartiles) | memory beyond features, MB | note |", "|---|---:|---:|---:|---|"]
    for row in report["results"]:
        seconds = memory = ""
        if row["seconds"] is not None:
            low, high = row["seconds_lower_quartile"], row["seconds_upper_quartile"]
            seconds = f"{row['seconds']:.4g} ({low:.4g} to {high:.4g})"
        if row["peak_bytes"] is not None:
            memory = f"{row['peak_bytes'] / 1e6:.1f}"
        lines.append(f"| {row['peer']} | {row['n']} | {seconds} | {memory} | {row['note']} |")
    lines += ["", "| ratio | N | median (quartiles) | goal |", "|---|---:|---:|---|"]
    for row in report["ratios"]:
        spread = f"{row['ratio_lower_quartile']:.2f} to {row['ratio_upper_quartile']:.2f}"
        lines.append(f"| {row['name']} | {row['n']} | {row['ratio']:.2f} ({spread}) | {row['goal']} |")
    lines += ["", "| peer | exponent of time | exponent of memory |", "|---|---:|---:|"]
    for peer, row in report["exponents"].items():
        shown = ["" if row[what] is None else f"{row[what]:.2f}" for what in ("seconds", "peak_bytes")]
        lines.append(f"| {peer} | {shown[0]} | {shown[1]} |")
    skipped = ("results", "ratios", "exponents")
    conditions = ", ".join(f"{name} {value}" for name, value in report.items() if name not in skipped)
    return "\n".join([*lines, "", conditions])


def print_peak_memory(name: str, n: int, d: int, seed: int) -> None:
    """In a process of its own: the most memory a peer takes beyond its features, printed as JSON."""
    import torch

    peer = PEERS[name]
    small = [rows.to(peer.device) for rows in synthetic_rows(64, d, seed)]
    features = [rows.to(peer.device) for rows in synthetic_rows(n, d, seed)]
    peer.compute(*small)  # so that libraries are loaded before memory is looked at
    if peer.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        peer.compute(*features)
        after = torch.cuda.max_memory_allocated()
    else:
        before = _process_memory("VmRSS", reset_peak=True)
        peer.compute(*features)
        after = _process_memory("VmHWM")
    print(json.dumps({"peak_bytes": None if before is None or after is None else max(0, after - before)}))


def _process_memory(field: str, reset_peak: bool = False) -> int | None:
    """Bytes of a field of /proc/self/status; None where there is no such file (it is Linux's)."""
    try:
        if reset_peak:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
                stream.write("5")
        with open("/proc/self/status", encoding="ascii") as stream:
            return next(int(line.split()[1]) * 1024 for line in stream if line.startswith(field + ":"))
    except OSError:
        return None


def _at_one_size(
    n: int,
    d: int,
    rounds: int,
    peers: Sequence[str],
    limit_seconds: float,
    memory: bool,
    seed: int,
    earlier: list[PeerTiming],
    on_progress: OnProgress,
) -> list[PeerTiming]:
    rows = synthetic_rows(n, d, seed)
    notes = {name: reason_to_skip(name, n, limit_seconds, earlier) for name in peers}
    running = {name: PEERS[name] for name in peers if not notes[name]}
    features = {device: [part.to(device) for part in rows] for device in {peer.device for peer in running.values()}}
    values: dict[str, float] = {}

    def computation(name: str, peer: Peer) -> Callable[[], None]:
        def compute() -> None:
            if name not in values:
                on_progress(note(f"N = {n}: {name}: first run"))
            values[name] = peer.compute(*features[peer.device])

        return compute

    seconds = take_turns({name: computation(name, peer) for name, peer in running.items()}, rounds)
    return [
        PeerTiming(
            peer=name,
            n=n,
            seconds=seconds.get(name, ()),
            structure_ad=None if math.isnan(values.get(name, math.nan)) else values[name],
            peak_bytes=_peak_memory(name, n, d, seed) if memory and name in running else None,
            note=notes[name],
        )
        for name in peers
    ]


def reason_to_skip(name: str, n: int, limit_seconds: float, earlier: list[PeerTiming]) -> str:
    """Why a peer is not measured at this N; empty where it is."""
    import torch

    peer = PEERS[name]
    absent = peer.absence()
    if absent is not None:
        return absent
    needed = peer.bytes_per_pair * n**2
    if needed > _MEMORY_SHARE * available_bytes(torch.device(peer.device)):
        return f"needs {needed / 1e9:.1f} GB"
    mine = [result for result in earlier if result.peer == name]
    if mine and mine[-1].note and not mine[-1].seconds:
        return mine[-1].note
    if mine:
        expected = max(mine[-1].seconds) * (n / mine[-1].n) ** 2
        if expected > limit_seconds:
            return f"about {expected:.0f} s, over the limit of {limit_seconds:.0f} s"
    return ""


def _peak_memory(name: str, n: int, d: int, seed: int) -> int | None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(name, n, d, seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"measuring the memory of {name} at N = {n} failed: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])["peak_bytes"]


def _check_settings(sizes: Sequence[int], d: int, rounds: int, peers: Sequence[str]) -> None:
    if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"sizes are {list(sizes)}: expected ascending numbers of pairs")
    if d < 1:
        raise ValueError(f"d is {d}: expected at least 1")
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: expected at least 1")
    for name in peers:
        if name not in PEERS:
            raise ValueError(f"peer is {name!r}: expected one of {', '.join(PEERS)}")


def _check_agreement(results: list[PeerTiming]) -> None:
    values = {
        result.peer: result.structure_ad
        for result in results
        if result.structure_ad is not None and PEERS[result.peer].exact
    }
    if values and max(values.values()) - min(values.values()) > AGREEMENT:
        raise ArithmeticError(f"peers disagree at N = {results[0].n}: {values}")


def ratios(n: int, results: list[PeerTiming]) -> list[dict[str, Any]]:
    """Ratios within the rounds, of the pairs of peers that have a goal and were both measured."""
    seconds = {result.peer: result.seconds for result in results if result.n == n and result.seconds}
    rows = []
    for one, other, goal in GOALS:
        if one in seconds and other in seconds:
            cost = CostRatio(seconds=seconds[one], bare_seconds=seconds[other])
            rows.append({"name": f"{one} / {other}", "n": n, "goal": goal, **cost.as_dict()})
    return rows


def _exponents(peers: Sequence[str], results: list[PeerTiming]) -> dict[str, dict[str, float | None]]:
    exponents = {}
    for name in peers:
        timed = [(result.n, result.quartiles()[1]) for result in results if result.peer == name and result.seconds]
        held = [(result.n, result.peak_bytes) for result in results if result.peer == name and result.peak_bytes]
        exponents[name] = {
            what: fitted_exponent([n for n, _ in series], [value for _, value in series])
            for what, series in (("seconds", timed), ("peak_bytes", held))
        }
    return exponents


def _conditions(d: int, rounds: int, seed: int) -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    import torch

    return {
        "d": d,
        "rounds": rounds,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none at hand: GPU rows are empty",
        "torch": str(torch.__version__),
        "code_version": code_version(),
    }
