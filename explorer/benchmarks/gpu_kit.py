"""One command that uses a quarter of an hour on a GPU: tests, benchmark rows and the full world, each within its time.

Every part is a process of its own. One that fails, or that outruns its time and is ended with all it started, never
stops the next, and keeps what it had written. ``report.json`` in the output folder holds every part's report and is
written anew whenever one of them grows.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from explorer.benchmarks.gpu_shards import pack
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import ROOT, code_version, write_json

REPORT_NAME = "report.json"
LOG_CHARACTERS = 6000
POLL_SECONDS = 0.5
GRACE_SECONDS = 3
SMOKE_PATIENCE = 10
"""Times as long as a part may take in a smoke run, on a CPU that others may use."""
PACKING_SECONDS = 15
"""Kept back for the shards."""
_CHILD = "from explorer.benchmarks.gpu_parts import carry_out; carry_out({!r}, {!r}, {!r}, {!r}, {!r})"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process does."""

    name: str
    seconds: float
    """After which it is ended; infinite for what is left."""
    least: float = 0.0
    """Seconds without which it is not begun."""


SCHEDULE = (
    (Part(name="machine", seconds=20),),
    # Painting needs no GPU, and the tests time nothing.
    (Part(name="cuda-tests", seconds=200), Part(name="world-data", seconds=200)),
    (Part(name="alignment", seconds=55),),
    (Part(name="capture", seconds=45),),
    (Part(name="training_sd15", seconds=55),),
    (Part(name="training_sdxl", seconds=60),),
    (Part(name="training_sd15_recorded", seconds=55),),
    (Part(name="embeddings", seconds=50),),
    (Part(name="clean_label", seconds=55),),
    (Part(name="world", seconds=float("inf"), least=60),),
    (Part(name="evaluation", seconds=75),),
)
"""Parts that run one after the other, and within a group beside each other."""
PART_NAMES = tuple(part.name for group in SCHEDULE for part in group)


@dataclass(kw_only=True)
class GpuKit:
    """One run of the kit."""

    output: Path
    """Gets the report and the first shards; everything in it may have to travel."""
    work: Path
    """Everything else, further shards included."""
    minutes: float
    """Wall-clock budget of the whole run."""
    parts: Collection[str] = PART_NAMES
    """Which are run, in the order of ``SCHEDULE``."""
    smoke: bool = False
    """Tiny settings, to see that everything runs."""
    device: str = "cuda"
    on_progress: OnProgress = unheard

    def __post_init__(self) -> None:
        if unknown := set(self.parts) - set(PART_NAMES):
            raise ValueError(f"parts are {sorted(unknown)}: expected some of {', '.join(PART_NAMES)}")
        if not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}: expected a positive number")

    def run(self) -> dict[str, Any]:
        """All parts, then the shards; returns the report."""
        self._deadline = time.monotonic() + 60 * self.minutes
        self._states: dict[str, dict[str, Any]] = {}
        for folder in (self.output, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
        for group in SCHEDULE:
            if chosen := [part for part in group if part.name in self.parts]:
                self._run_group(chosen)
        shards = pack(self.work / "models", self.work / "evaluation", self.work / "shards", self.output)
        report = self._write_report({"shards": shards})
        self.on_progress(note(json.dumps({name: state["status"] for name, state in self._states.items()})))
        return report

    @property
    def reports(self) -> Path:
        """Where parts leave ``NAME.json`` and ``NAME.log``."""
        return self.work / "reports"

    def _run_group(self, parts: list[Part]) -> None:
        with contextlib.ExitStack() as stack:
            running = {}
            for part in parts:
                patience = SMOKE_PATIENCE if self.smoke else 1
                limit = min(patience * part.seconds, self._deadline - self._kept_back(part) - time.monotonic())
                if limit <= part.least:
                    self._states[part.name] = {"status": "no time left", "seconds": 0.0}
                    continue
                self.on_progress(note(f"{part.name}: at most {limit:.0f} s"))
                process = stack.enter_context(self._process(part.name, limit))
                running[part.name] = (process, time.monotonic(), limit)
            while running:
                time.sleep(POLL_SECONDS)
                for name, (process, began, limit) in list(running.items()):
                    taken = time.monotonic() - began
                    if process.poll() is None and taken < limit:
                        continue
                    late = process.poll() is None
                    _end(process)
                    status = "out of time" if late else "done" if process.returncode == 0 else "failed"
                    self._states[name] = {"status": status, "seconds": round(taken, 1), "limit_seconds": limit}
                    self.on_progress(note(f"{name}: {status} after {taken:.0f} s"))
                    del running[name]
                self._write_report({})

    def _kept_back(self, part: Part) -> float:
        """Seconds at the end that the part may not use: what is left is what the later ones leave, too."""
        if math.isfinite(part.seconds):
            return PACKING_SECONDS
        later = [one for group in SCHEDULE for one in group][PART_NAMES.index(part.name) + 1 :]
        return PACKING_SECONDS + sum(one.seconds for one in later if one.name in self.parts)

    @contextlib.contextmanager
    def _process(self, name: str, seconds: float) -> Iterator[subprocess.Popen]:
        """The part in a session of its own, so that whatever it started ends with it."""
        arguments = (name, str(self.work), seconds, self.smoke, self.device)
        with open(self.reports / f"{name}.log", "wb") as log:
            process = _start([sys.executable, "-c", _CHILD.format(*arguments)], log)
            try:
                yield process
            finally:
                _end(process)

    def _write_report(self, more: dict[str, Any]) -> dict[str, Any]:
        report = {
            "minutes": self.minutes,
            "smoke": self.smoke,
            "device": self.device,
            "code_version": code_version(),
            "parts": {name: state | {"log_end": self._log_end(name)} for name, state in self._states.items()},
            "reports": {path.stem: json.loads(path.read_text()) for path in sorted(self.reports.glob("*.json"))},
            **more,
        }
        write_json(self.output / REPORT_NAME, report)
        return report

    def _log_end(self, name: str) -> str:
        path = self.reports / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:] if path.is_file() else ""


def _start(command: list[str], log: IO[bytes]) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )


def _end(process: subprocess.Popen) -> None:
    """End the process's whole session: first asked, then at once."""
    for way in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, way)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
