"""Time and memory of AD of an embedding store over N, up to millions of pairs: the command itself, in its own process.

The store is synthetic and lies on disk in fp16. Rows beyond the first ``distinct`` are links to the files of these, so
that ten million pairs neither fill a disk nor measure it; what is read, computed and written for a pair is the same.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow
import torch
from pyarrow import parquet

from explorer.benchmarks.alignment import fitted_exponent
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import ROOT, code_version

MEMORY_GOAL_GIGABYTES = 2.5
EXPONENT_GOAL = 1.05
RANK_GOAL = 0.99
PARTITION_ROWS = 250_000
CONCEPTS = 500
POISONED_SHARE = 0.1
FEATURE_RANGE = (0.0, 0.4)
_ROWS_AT_ONCE = 16384
_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class ScaleRun:
    """One run of the command at one N."""

    n: int
    seconds: float
    """From the start of the command to its end, the import of its libraries included."""
    peak_bytes: int
    """Largest resident memory of one process, pages of files that are mapped included."""
    peak_anonymous_bytes: int
    """Largest resident memory of one process that is no page of a file."""
    report: dict[str, Any]
    """What the command printed."""


def benchmark_scale(
    sizes: Sequence[int],
    *,
    d: int = 512,
    samples: int = 1000,
    distinct: int = 1_000_000,
    processes: int = 1,
    seed: int = 0,
    folder: Path | None = None,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Run ``ad-store`` with landmarks and scores on a synthetic store of every size.

    Args:
        sizes: numbers of pairs N, ascending.
        d: width of the features.
        samples: landmarks.
        distinct: rows that are made; further ones are links to their files.
        processes: how many share the work, started by torchrun.
        seed: of the features and of the draw.
        folder: where the store and the scores lie while they are needed; None is the system's place for such files.

    Returns:
        JSON-serialisable: conditions, one entry a size, exponents, and whether the goals are met.

    Raises:
        ValueError: on sizes, widths or landmarks that cannot be.
        RuntimeError: with what the command said, where it failed.
    """
    if not sizes or min(sizes) < 2 or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"sizes are {list(sizes)}: expected ascending numbers of pairs, from 2 on")
    if d < 1 or distinct < 1:
        raise ValueError(f"width is {d} and distinct rows are {distinct}: expected at least 1")
    conditions, runs = _conditions(d, samples, distinct, processes, seed), []
    for n in sizes:
        with tempfile.TemporaryDirectory(prefix="scale", dir=folder) as place:
            on_progress(note(f"N = {n}: writing the store"))
            write_synthetic_store(Path(place) / "store", n, d=d, distinct=distinct, seed=seed)
            on_progress(note(f"N = {n}: measuring"))
            run = measured_command(Path(place), n, samples=min(samples, n), seed=seed, processes=processes)
        on_progress(note(f"N = {n}: {run.seconds:.1f} s, {run.peak_bytes / 1e9:.2f} GB"))
        runs.append(run)
    return {**conditions, **summary(runs)}


def summary(runs: Sequence[ScaleRun]) -> dict[str, Any]:
    """One entry a run and what they say together; JSON-serialisable."""
    sizes = [run.n for run in runs]
    computing = [run.report["seconds"] for run in runs]
    exponents = {
        "seconds": fitted_exponent(sizes, [run.seconds for run in runs]),
        "computing_seconds": fitted_exponent(sizes, computing),
        # What every run takes once flattens the fit at small N; the last two sizes hardly have it.
        "computing_seconds_of_the_last_two": fitted_exponent(sizes[-2:], computing[-2:]),
        "peak_bytes": fitted_exponent(sizes, [run.peak_bytes for run in runs]),
    }
    ranks = [run.report["rank_correlation"] for run in runs]
    return {
        "results": [
            {
                "n": run.n,
                "seconds": run.seconds,
                "peak_bytes": run.peak_bytes,
                "peak_anonymous_bytes": run.peak_anonymous_bytes,
                "report": run.report,
            }
            for run in runs
        ],
        "exponents": exponents,
        "goals": {
            f"at most {MEMORY_GOAL_GIGABYTES} GB": max(run.peak_bytes for run in runs) <= MEMORY_GOAL_GIGABYTES * 1e9,
            f"exponent of computing at most {EXPONENT_GOAL}": (
                None if exponents["computing_seconds"] is None else exponents["computing_seconds"] <= EXPONENT_GOAL
            ),
            f"rank correlation at least {RANK_GOAL}": all(rank is not None and rank >= RANK_GOAL for rank in ranks),
        },
    }


def write_synthetic_store(folder: Path, n: int, *, d: int, distinct: int, seed: int) -> None:
    """A store of N pairs in two cones: every pair has a concept, and a tenth has another one in its caption.

    Args:
        distinct: rows that are made; each further partition is a link to one of theirs, with uids of its own.
    """
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    rows_made = min(n, distinct)
    made = -(-rows_made // PARTITION_ROWS)
    generator = np.random.default_rng(seed)
    concepts = generator.standard_normal((CONCEPTS, d), dtype=np.float32) * (0.5 / d**0.5)
    middles = generator.standard_normal((2, d), dtype=np.float32)
    middles *= np.array([[0.7], [0.68]], np.float32) / np.linalg.norm(middles, axis=1, keepdims=True)
    for number, first in enumerate(range(0, n, PARTITION_ROWS)):
        rows = min(PARTITION_ROWS, n - first)
        names = {part: folder / f"{part}_emb" / f"{part}_emb_{number:04d}.npy" for part in ("img", "text")}
        source = number % made
        if number < made or rows < PARTITION_ROWS:
            _write_partition(list(names.values()), rows, middles, concepts, np.random.default_rng((seed, number)))
        else:
            for part, path in names.items():
                os.link(folder / f"{part}_emb" / f"{part}_emb_{source:04d}.npy", path)
        table = pyarrow.table({"uid": [f"{row:012d}" for row in range(first, first + rows)]})
        parquet.write_table(table, folder / "metadata" / f"metadata_{number:04d}.parquet")


def measured_command(place: Path, n: int, *, samples: int, seed: int, processes: int = 1) -> ScaleRun:
    """Run the command on ``place/store`` in a process of its own, and watch its memory."""
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    command = [
        sys.executable, *launcher, "-m", "explorer", "ad-store", str(place / "store"), "--estimator", "landmarks",
        "--samples", str(samples), "--seed", str(seed), "--neighbours", "0",
        "--feature-range", *map(str, FEATURE_RANGE),
        "--scores", str(place / "scores.parquet"), "--json",
    ]  # fmt: skip
    with open(place / "printed", "w+b") as printed, open(place / "told", "w+b") as told:
        started = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=told)
        peak, anonymous = _watched(child)
        seconds = time.perf_counter() - started
        told.seek(0)
        printed.seek(0)
        if child.returncode != 0:
            raise RuntimeError(f"ad-store failed at N = {n}: {told.read().decode(errors='replace')[-1000:]}")
        report = json.loads(printed.read())
    return ScaleRun(n=n, seconds=seconds, peak_bytes=peak, peak_anonymous_bytes=anonymous, report=report)


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table with exponents, goals and conditions below."""
    lines = [
        "| N | seconds | computing | peak memory, MB | anonymous | standard error | rank correlation |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["results"]:
        found = row["report"]
        lines.append(
            f"| {row['n']} | {row['seconds']:.1f} | {found['seconds']:.2f} | {row['peak_bytes'] / 1e6:.0f} | "
            f"{row['peak_anonymous_bytes'] / 1e6:.0f} | {_shown(found['estimator_standard_error'], '.2g')} | "
            f"{_shown(found['rank_correlation'], '.4f')} |"
        )
    shown = {name: _shown(value, ".2f") for name, value in report["exponents"].items()}
    lines += ["", "exponents: " + ", ".join(f"{name} {value}" for name, value in shown.items())]
    lines += [f"{goal}: {'not known' if met is None else 'met' if met else 'missed'}"
              for goal, met in report["goals"].items()]  # fmt: skip
    skipped = ("results", "exponents", "goals")
    lines += ["", ", ".join(f"{name} {value}" for name, value in report.items() if name not in skipped)]
    return "\n".join(lines)


def _shown(value: float | None, form: str) -> str:
    return "not known" if value is None else format(value, form)


def _write_partition(
    paths: Sequence[Path], rows: int, middles: np.ndarray, concepts: np.ndarray, generator: np.random.Generator
) -> None:
    """``middles`` `[2, d]` are the cones' mean rows and ``concepts`` `[CONCEPTS, d]` lie around either."""
    d = middles.shape[1]
    header = {"descr": "<f2", "fortran_order": False, "shape": (rows, d)}
    with open(paths[0], "wb") as image, open(paths[1], "wb") as text:
        for stream in (image, text):
            np.lib.format.write_array_header_1_0(stream, header)
        for first in range(0, rows, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, rows - first)
            shown = generator.integers(CONCEPTS, size=count)
            poisoned = generator.random(count) < POISONED_SHARE
            told = np.where(poisoned, generator.integers(CONCEPTS, size=count), shown)
            # Some pictures and captions say more of themselves than others, so that samples differ in D_s.
            spread = generator.uniform(0.2, 1.0, size=(count, 1)).astype(np.float32) / d**0.5
            for stream, middle, concept in zip((image, text), middles, (shown, told), strict=True):
                made = generator.standard_normal((count, d), dtype=np.float32)
                made = made * spread + middle + concepts[concept]
                made /= np.linalg.norm(made, axis=1, keepdims=True)
                stream.write(made.astype(np.float16).tobytes())


def _watched(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Largest resident and largest anonymous memory of one process among the child and its own, until it ends."""
    peak = anonymous = 0
    parent = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            processes = [parent, *parent.children(recursive=True)]
            for process in processes:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                fields = dict(line.split(":", 1) for line in status.splitlines())
                if "VmHWM" in fields:
                    peak = max(peak, int(fields["VmHWM"].split()[0]) * 1024)
                    anonymous = max(anonymous, int(fields["RssAnon"].split()[0]) * 1024)
        except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
            continue  # one ended while it was looked at; what the others held is asked at once
        time.sleep(_POLL_SECONDS)
    return peak, anonymous


def _conditions(d: int, samples: int, distinct: int, processes: int, seed: int) -> dict[str, Any]:
    """What a reader needs to judge the figures, the load that others put on the machine among it."""
    return {
        "d": d,
        "landmarks": samples,
        "distinct_rows": distinct,
        "processes": processes,
        "seed": seed,
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[1],
        "processor": platform.processor() or platform.machine(),
        "torch": str(torch.__version__),
        "code_version": code_version(),
    }
