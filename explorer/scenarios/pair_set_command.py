"""The command that makes a fine-tuning set of the embedded world again, bit for bit, from its seeds."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from explorer.core.provenance import ManifestError, read_manifest
from explorer.scenarios.recipes import RECIPES
from explorer.studies.study import Arm

SETS = "sets"


def pair_set_command(arm: Arm) -> str | None:
    """What is typed, where this process was started, to have the set that the arm's model was trained on.

    None where no recipe made the model, as its manifest says, or its pairs are not in the ``sets`` of a build.
    """
    if arm.checkpoint is None or not isinstance(arm.pairs, Path) or arm.pairs.parent.name != SETS:
        return None
    try:
        manifest = read_manifest(arm.checkpoint)
    except ManifestError:
        return None
    config = manifest["config"]
    recipe = RECIPES.get(config.get("recipe"))
    if recipe is None:
        return None
    run = Path(os.path.relpath(arm.pairs.parent.parent))
    varied = {"--seed": manifest["seed"] - recipe.fine_tuning.seed,
              "--rank-rotation": config.get("world", {}).get("rank_rotation", 0)}  # fmt: skip
    options = [f" {name} {value}" for name, value in varied.items() if value]
    return f"python -m explorer train {recipe.name} --stage sets --run {shlex.quote(str(run))}{''.join(options)}"
