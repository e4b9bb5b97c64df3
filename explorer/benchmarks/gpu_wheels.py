"""What a bare GPU machine lacks, as wheels to bring along, and a rehearsal of the kit with that machine's versions.

The machine is known by its image: CUDA, PyTorch and most of what surrounds it are there, and no package index is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import ROOT

MACHINE_PYTHON = "3.12"
MACHINE = (
    "torch==2.11.0", "torchvision==0.26.0", "triton==3.6.0", "transformers==5.17.0", "accelerate==1.15.0",
    "huggingface_hub==1.33.0", "tokenizers==0.23.2", "safetensors==0.8.0", "numpy==2.5.2", "pandas", "pyarrow",
    "pillow", "peft", "timm", "scikit-learn", "scipy", "networkx", "psutil", "regex", "tqdm", "typer", "tensorboard",
    "pytest", "pytest-timeout", "pytest-xdist", "zipp",
)  # fmt: skip
"""What is there already, as far as this project needs it."""
WHEELS = ("diffusers==0.42.1", "open_clip_torch==3.3.0", "ftfy", "wcwidth", "importlib_metadata", "lazy-importer")
"""What is not: the two libraries and those of their requirements that the machine lacks."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LEFT_HOME = (
    "checkpoints/",
    "assets/studies/",
    "assets/naming/",
    "docs/screenshots/",
)
"""Tracked files that no part of the kit reads, and that are too large to travel."""


def prepare(folder: Path, *, python: str | None = None, on_progress: OnProgress = unheard) -> dict[str, Any]:
    """Download the wheels and tell what would travel; with ``python`` also rehearse.

    Args:
        folder: for the wheels, and of the rehearsal ``report.json``.
        python: an interpreter of the machine's version (``python3.12``), for a fresh virtual environment with the
            machine's versions; the kit's smoke run must pass there on the CPU.

    Returns:
        JSON-serialisable: bytes of the code, of the wheels and of both, and the states of the rehearsed parts.

    Raises:
        RuntimeError: naming a command that failed, with the end of what it printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    on_progress(note(f"downloading {', '.join(WHEELS)}"))
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version",
          MACHINE_PYTHON, "--implementation", "cp", *platforms, "--dest", str(folder), *WHEELS])  # fmt: skip
    code = sum(path.stat().st_size for path in travelling_files())
    wheels = sum(path.stat().st_size for path in folder.glob("*.whl"))
    told = {"code_bytes": code, "wheel_bytes": wheels, "bytes": code + wheels, "left_home": list(LEFT_HOME)}
    on_progress(note(f"{code / 2**20:.1f} MiB of code and {wheels / 2**20:.1f} MiB of wheels would travel"))
    if python is not None:
        told["rehearsal"] = rehearse(folder, python, on_progress)
    return told


def travelling_files() -> list[Path]:
    """The tracked files without those that are left at home."""
    listed = _run(["git", "-C", str(ROOT), "ls-files", "-z"]).split("\0")
    return [ROOT / name for name in listed if name and not name.startswith(LEFT_HOME) and (ROOT / name).is_file()]


def rehearse(folder: Path, python: str, on_progress: OnProgress = unheard) -> dict[str, str]:
    """The kit's smoke run in a fresh virtual environment with the machine's versions; the state of every part."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch) / "machine"
        on_progress(note(f"a fresh environment of {python} with {len(MACHINE)} packages of the machine's: some GB"))
        _run([python, "-m", "venv", str(environment)])
        own = str(environment / "bin" / "python")
        _run([own, "-m", "pip", "install", "--quiet", *MACHINE])
        _run([own, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *map(str, folder.glob("*.whl"))])
        on_progress(note("the kit, with tiny settings"))
        _run([own, "-m", "explorer", "gpu-kit", str(folder), "--work", str(Path(scratch) / "work"), "--smoke"])
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {name: part["status"] for name, part in report["parts"].items()}


def _run(command: Iterable[str]) -> str:
    done = subprocess.run(
        list(command), cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout
