"""Run the tests that need a GPU by pytest, within a time, and read how they ended."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from explorer.core.provenance import ROOT

LONGEST = ("test_cuda_world.py", "test_cuda_training.py", "test_cuda_workers.py")
"""Begun first, so that they do not come last and alone."""
ENDING_SECONDS = 8
"""Of the time, to say what ended in it."""
_ENDED = "(PASSED|FAILED|ERROR|SKIPPED)"
_STATES = re.compile(rf"{_ENDED}\s+(tests/\S+::[^\n]+)|(tests/\S+::\S+).* {_ENDED}")
"""A line of a log, of several processes or of one."""
_COLLECTED = re.compile(r"(\d+) (?:items|tests)|\[(\d+) items\]")


def run_cuda_tests(folder: Path, seconds: float, *, processes: int) -> dict[str, Any]:
    """Run them; JSON-serialisable: how many there are, passed and did not end, and why others were skipped or failed.

    Args:
        folder: for pytest's log and results.
        seconds: after which what runs is ended.
        processes: how many run tests, where pytest-xdist is installed; else one does.

    Raises:
        FileNotFoundError: without the project's tests.
    """
    files = sorted((ROOT / "tests").rglob("test_cuda*.py"), key=lambda path: path.name not in LONGEST)
    if not files:
        raise FileNotFoundError(f"{ROOT / 'tests'} holds no test_cuda*.py: expected the project's tests")
    if importlib.util.find_spec("xdist") is None:
        processes = 1
    results, log = folder / "cuda-tests.xml", folder / "cuda-tests.txt"
    several = ["-n", str(processes), "--dist", "worksteal"] if processes > 1 else []
    options = ["-m", "cuda", "-vv", "--durations=15", "-p", "no:cacheprovider", "--junitxml", str(results), "-o",
               "addopts=--strict-markers --import-mode=importlib"]  # fmt: skip
    # They compare with the CPU: as many threads a process as there are cores would have them wait for one another.
    threads = {"OMP_NUM_THREADS": str(max(1, core_count() // processes))}
    with open(log, "w", encoding="utf-8") as stream:
        try:
            subprocess.run(
                [sys.executable, "-m", "pytest", *options, *several, *map(str, files)], cwd=ROOT, check=False,
                stdout=stream, stderr=subprocess.STDOUT, env=os.environ | threads, timeout=seconds - ENDING_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print("the tests' time was over")
    text = log.read_text(encoding="utf-8", errors="replace")
    print(text[-4000:])
    return read_test_results(results) if results.is_file() else read_test_log(text)


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_test_results(path: Path) -> dict[str, Any]:
    """Counts of a JUnit file of pytest's, why tests were skipped, and the messages of those that failed."""
    failed, skipped, passed = {}, {}, 0
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        problem = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if problem is not None:
            failed[name] = (problem.text or "")[-2500:]
        elif (reason := case.find("skipped")) is not None:
            skipped[name] = reason.get("message", "")
        else:
            passed += 1
    tests = passed + len(failed) + len(skipped)
    return {"tests": tests, "passed": passed, "skipped": skipped, "failed": failed, "not_ended": 0}


def read_test_log(text: str) -> dict[str, Any]:
    """The same of the log of a run that was cut off, as far as it got; ``tests`` is None where it said no number."""
    states = {(several or one).strip(): (first or last) for first, several, one, last in _STATES.findall(text)}

    def named(*ends: str) -> list[str]:
        return [name for name, state in states.items() if state in ends]

    collected = _COLLECTED.search(text)
    tests = int(collected[1] or collected[2]) if collected else None
    return {
        "tests": tests,
        "passed": len(named("PASSED")),
        "skipped": dict.fromkeys(named("SKIPPED"), "see the log"),
        "failed": dict.fromkeys(named("FAILED", "ERROR"), "see the log"),
        "not_ended": None if tests is None else tests - len(states),
    }
