"""The Typer application that every command module registers on, and how results are printed."""

from __future__ import annotations

import importlib
import json
import sys
from types import MappingProxyType
from typing import Annotated, Any

import typer

from explorer.core.provenance import is_disk_full

application = typer.Typer(
    name="explorer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

COMMAND_MODULES = MappingProxyType({
    "alignment": ("ad", "cifar10"), "app": ("app",),
    "app_timing": ("screenshots", "benchmark-startup", "benchmark"), "benchmark": ("benchmark",), "blame": ("study",),
    "checkpoints": ("checkpoints", "set-base", "record-poison", "fetch"), "commands_page": ("commands-page",),
    "defence": ("study",), "embeddings": ("embed", "ad-store", "benchmark"),
    "evaluation": ("evaluate", "training-runs"), "features": ("features", "calibrate"),
    "fine_tuning": ("fine-tune", "recipes"), "generation": ("generate",),
    "gpu_kit": ("gpu-kit", "gpu-kit-prepare", "gpu-kit-take-in"), "meter": ("meter", "meter-precision"),
    "naming": ("naming-study", "naming-count"), "ordering": ("study",), "pair_import": ("import",),
    "poisoning": ("poison", "select-targets", "poison-clean-label", "perturbation-sheet", "mislabel", "relabel",
                  "matched-benign", "benign-remainder", "fewer-benign"),
    "results": ("results",),
    "retraining": ("study",), "study": ("study",), "surgery": ("graft-study", "graft-difference"),
    "training": ("train",),
    "scenario": ("scenario",), "small_models": ("train-classifier", "train-aesthetics", "small-base", "train-decoder"),
    "world": ("render-icons", "iconworld"),
})  # fmt: skip
"""The command files, and the first words of the commands that each registers: a command loads no other file."""

WITHOUT_VALUE = {"poisoned_pairs": "not recorded", "benign_pairs": "not recorded",
                 "pairs_without_concept": "not looked for: no --concepts"}  # fmt: skip
WITHOUT_AUC = "none: it takes pairs known to be poison and pairs known to be benign"
"""In words what JSON has as null."""


@application.callback()
def explorer() -> None:
    """See, measure and defend against data poisoning in text-to-image diffusion models."""


def emit(result: dict[str, Any], as_json: bool) -> None:
    """Print a command's result: one JSON object, or one ``key  value`` line an entry."""
    if as_json:
        typer.echo(json.dumps(result, indent=1, default=str))
        return
    width = max((len(key) for key in result), default=0)
    for key, value in result.items():
        shown = value
        if value is None:
            shown = WITHOUT_VALUE.get(key, "null") if not key.endswith("_auc") else WITHOUT_AUC
        elif isinstance(value, float):
            shown = _rounded(value)
        elif isinstance(value, list) and value and all(isinstance(entry, float) for entry in value):
            shown = ", ".join(map(_rounded, value))
        typer.echo(f"{key:<{width}}  {shown}")


def _rounded(value: float) -> str:
    return f"{value:.2e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def load_commands(word: str | None = None) -> None:
    """Register the commands that begin with this word; all of them where none does."""
    files = [name for name, words in COMMAND_MODULES.items() if word in words]
    for name in files or COMMAND_MODULES:
        importlib.import_module(f"explorer.cli.{name}")


def main() -> None:
    """Run the command line; an error a user can mend is one line on stderr and exit status 2."""
    load_commands(next((word for word in sys.argv[1:] if not word.startswith("-")), None))
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        application()
    # Arrow's and safetensors' own errors of a full disk are none of OSError's.
    except Exception as error:
        if not isinstance(error, ValueError | OSError) and not is_disk_full(error):
            raise
        told = f"the disk is full: free some space and run the same again ({error})" if is_disk_full(error) else error
        typer.echo(f"error: {told}", err=True)
        sys.exit(2)
