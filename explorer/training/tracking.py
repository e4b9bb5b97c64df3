"""Where a training run is watched besides its ``metrics.jsonl``: TensorBoard's files, or Weights & Biases.

Both are optional: they are imported only when asked for, and a run that asks for what is not installed does not start.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from explorer.core.provenance import hash_json

TRACKERS = ("tensorboard", "wandb")


class Tracker(Protocol):
    """Takes the values of a logged step."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """``values`` by name after ``step`` finished steps."""

    def close(self) -> None:
        """Write what is held back."""


def check_tracker(name: str | None) -> None:
    """Refuse a tracker that is unknown or not installed; None is none.

    Raises:
        ValueError: naming it, and how to install it.
    """
    if name is None:
        return
    if name not in TRACKERS:
        raise ValueError(f"tracker is {name!r}: expected one of {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"tracker is {name!r}, which is not installed: pip install {name}, or track nothing")


def open_tracker(name: str, folder: Path, settings: dict[str, Any], start: int) -> Tracker:
    """Track the run in ``folder`` with ``name``.

    Args:
        settings: kept beside the curves; JSON-serialisable.
        start: finished steps the run resumes from; what an interrupted run tracked beyond them is dropped.

    Raises:
        ValueError: as :func:`check_tracker`.
    """
    check_tracker(name)
    kinds = {"tensorboard": TensorBoardTracker, "wandb": WandbTracker}
    return kinds[name](folder, settings, start)


class TensorBoardTracker:
    """Event files under ``tensorboard`` of the run's folder: ``tensorboard --logdir FOLDER`` shows them."""

    def __init__(self, folder: Path, settings: dict[str, Any], start: int) -> None:
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=start + 1 if start else None)
        self.writer.add_text("settings", f"```\n{json.dumps(settings, indent=1)}\n```", start)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandbTracker:
    """A run of the project ``implosion-explorer``, the same one when resumed. It leaves this machine unless
    ``WANDB_MODE=offline``."""

    def __init__(self, folder: Path, settings: dict[str, Any], start: int) -> None:
        import wandb

        self.run = wandb.init(
            project="implosion-explorer", name=folder.name, dir=folder, config=settings,
            id=hash_json([str(folder.resolve()), settings])[:16], resume="allow",
        )  # fmt: skip

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()
