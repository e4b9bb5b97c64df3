"""What every trained checkpoint gets: a model card, settled configurations and a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explorer.core.provenance import MANIFEST_NAME, write_json, write_manifest
from explorer.training.trainer import METRICS_NAME

KIND = "checkpoint"


def finish_checkpoint(
    folder: Path,
    config: dict[str, Any],
    *,
    card: Callable[[str, dict[str, Any], dict[str, Any]], str],
    run: Path | None,
    seed: int,
    data_hash: str,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Model card and manifest of a folder that holds its weights already; returns the manifest.

    Args:
        config: what decided the weights; its ``base`` names the pipeline folder of a U-Net alone.
        card: makes the model card from the folder's name, ``config`` and the metrics.
        run: folder of the training state, whose last logged loss goes into the metrics; None for weights that were
            not trained.
    """
    metrics = dict(metrics or {})
    if run is not None:
        last = json.loads((run / METRICS_NAME).read_text(encoding="utf-8").splitlines()[-1])
        metrics |= {"final_step": last["step"], "final_loss": last["loss"]}
    (folder / "README.md").write_text(card(folder.name, config, metrics), encoding="utf-8")
    _settle_configurations(folder)
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return write_manifest(
        folder,
        kind=KIND,
        config=config,
        seed=seed,
        data_hash=data_hash,
        files=[file for file in files if file != MANIFEST_NAME],
        metrics=metrics,
    )


def _settle_configurations(folder: Path) -> None:
    """Take out of the components' configurations what is nobody else's business, and what breaks a load.

    Diffusers writes down where weights were loaded from. Transformers writes the precision of the files, and its
    version 5 loads in it unasked; diffusers loads in fp32, and half of a pipeline cannot read the other.
    """
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        settled = {name: value for name, value in config.items() if name != "_name_or_path"}
        settled |= {name: "float32" for name in ("dtype", "torch_dtype") if name in config}
        if settled != config:
            write_json(path, settled)


def describe_phase(phase: dict[str, Any], recipe: str) -> str:
    """One item of a model card's list: how a training phase was run."""
    return (
        f"- Training: {phase['steps']} steps of {phase['batch_size']}, learning rate {phase['learning_rate']},\n"
        f"  {phase['schedule']} schedule, recipe `{recipe}`, seed {phase['seed']}.\n"
    )
