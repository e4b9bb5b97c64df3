"""What the parts of the GPU kit do, each in a process of its own."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from explorer.benchmarks.cuda_tests import core_count, run_cuda_tests
from explorer.benchmarks.gpu_rows import ROWS
from explorer.core.progress import Progress
from explorer.core.provenance import code_version, device_name, write_json
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.files import evaluate_folder
from explorer.scenarios.budget import BudgetedBuild
from explorer.scenarios.build import WorldBuild
from explorer.scenarios.recipes import FULL, Recipe

STARTING_SECONDS = 10
"""Of the world's time, for Python's imports before and the last files after it."""
TEST_PROCESSES = 6
PACKAGES = ("torch", "triton", "diffusers", "transformers", "accelerate", "open_clip_torch", "numpy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One part's orders."""

    work: Path
    seconds: float
    smoke: bool
    device: str
    save: Callable[[dict[str, Any]], None]
    """Writes the report so far."""


def carry_out(name: str, work: str, seconds: float, smoke: bool, device: str) -> None:
    """Do the part called ``name``, which saves its report under ``work``."""
    path = Path(work) / "reports" / f"{name}.json"

    def save(report: dict[str, Any]) -> None:
        write_json(path, report)

    task = Task(work=Path(work), seconds=seconds, smoke=smoke, device=device, save=save)
    own = {"machine": machine, "cuda-tests": run_tests, "world-data": world_data, "world": world,
           "evaluation": evaluation}  # fmt: skip
    if name in own:
        own[name](task)
        return
    ROWS[name][0](save, smoke=smoke, device=device)


def machine(task: Task) -> None:
    """What is there: card, memory, cores, versions, and how fast it multiplies."""
    report = {
        "device": device_name(task.device), "cores": core_count(), "python": platform.python_version(),
        "code_version": code_version(), "packages": {name: _version(name) for name in PACKAGES},
    }  # fmt: skip
    task.save(report)
    if task.device == "cpu":
        return
    free, total = torch.cuda.mem_get_info()
    capability = torch.cuda.get_device_capability()
    report |= {"cuda": torch.version.cuda, "capability": capability, "free_bytes": free, "total_bytes": total}
    task.save(report)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def run_tests(task: Task) -> None:
    """The tests that need a GPU; raises where one fails or the time is over."""
    processes = 1 if task.smoke else TEST_PROCESSES
    report = run_cuda_tests(task.work / "reports", task.seconds, processes=processes)
    task.save({"device": device_name(task.device), **report})
    if report["failed"] or report["not_ended"]:
        raise AssertionError(f"{len(report['failed'])} tests failed and {report['not_ended']} did not end")


def recipe_of(smoke: bool) -> Recipe:
    """The full recipe, or one of a few steps of everything."""
    if not smoke:
        return FULL

    def few(config: Any) -> Any:
        return replace(config, steps=24, batch_size=4, fused=False, graphed=False, precision="no")

    return replace(
        FULL, name="smoke", concept_count=12, autoencoder=few(FULL.autoencoder), autoencoder_channels=(8, 8, 16),
        autoencoder_scenes=40, extractor=few(FULL.extractor), extractor_pairs=60, denoiser_channels=(16, 16, 32),
        base=(few(FULL.base[0]),), base_pairs=60, fine_tuning=few(FULL.fine_tuning), fine_tuning_pairs=120,
        poison_pairs_per_concept=3, poisoned_concept_counts=(2, 4, 6), calibration_pairs=100,
        autoencoder_test_scenes=30, held_out_pairs=20,
    )  # fmt: skip


def world_data(task: Task) -> None:
    """Paint the world's pair sets, which needs no GPU."""
    began = time.monotonic()
    build = WorldBuild(recipe=recipe_of(task.smoke), run=task.work / "run", output=task.work / "models")
    sets = [build.base_set().folder, *build.sets()]
    task.save({"device": "cpu", "sets": [folder.name for folder in sets], "seconds": time.monotonic() - began})


def world(task: Task) -> None:
    """Train the world within the time."""
    build = BudgetedBuild(
        recipe=recipe_of(task.smoke), run=task.work / "run", output=task.work / "models", device=task.device,
        seconds=task.seconds - STARTING_SECONDS, probe_steps=4 if task.smoke else 40, on_report=task.save,
        on_progress=_say,
    )  # fmt: skip
    task.save(build.everything())


def evaluation(task: Task) -> None:
    """Evaluate the world's models, with the AD of their sets."""
    asked = EvaluationConfig(seeds=(0, 1, 2), batch_size=256, device=task.device)
    if task.smoke:
        asked = replace(asked, seeds=(0, 1), steps=2)
    models, sets = task.work / "models", task.work / "run" / "sets"
    task.save(evaluate_folder(models, sets, task.work / "evaluation", asked, on_progress=_say))


def _say(progress: Progress) -> None:
    if progress.message:
        print(f"{time.strftime('%H:%M:%S')} {progress.message}", flush=True)
