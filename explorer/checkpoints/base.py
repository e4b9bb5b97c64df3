"""Whether a pipeline folder can lend what a checkpoint lacks. Reads JSON and safetensors headers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from explorer.checkpoints.families import FAMILY_NAMES, TRANSFORMER_FAMILIES, pipeline_family
from explorer.checkpoints.kinds.pipeline_folder import check_parts_without_weights
from explorer.checkpoints.kinds.single_file import lent_weights
from explorer.checkpoints.model_folder import INDEX_NAME, ModelFolder, unreadable_problem
from explorer.checkpoints.weight_files import WeightError

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint


def base_problem(checkpoint: Checkpoint, problem_of: Callable[[ModelFolder], str | None]) -> str | None:
    """What is wrong with the pipeline that a checkpoint is to be used with, as one sentence; None for nothing.

    Args:
        problem_of: what is wrong with a whole pipeline by itself.
    """
    base = checkpoint.lender
    if base is None:
        return checkpoint.ways.missing_base(checkpoint.family)
    name, own = base.name, checkpoint.family
    try:
        if not base.path.is_dir():
            return f"its base pipeline {name} is not in {base.path.parent}"
        if not (base.path / INDEX_NAME).is_file():
            return f"its base {name} is no whole pipeline: it has no {INDEX_NAME}"
        family = pipeline_family(base)
        if own not in ("unknown", family):
            return f"it is of the family {FAMILY_NAMES[own]}: its base {name} is {FAMILY_NAMES[family]}"
        if family in TRANSFORMER_FAMILIES:
            return f"its base {name} is {FAMILY_NAMES[family]}, which has no U-Net: expected SD 1.x, SD 2.x or SDXL"
        try:
            if checkpoint.ways.own_networks:
                check_parts_without_weights(base)
                list(lent_weights(checkpoint))
                problem = None
            else:
                problem = problem_of(base)
            if problem is None:
                return checkpoint.ways.misfit(checkpoint)
        except WeightError as error:
            problem = str(error)
        return f"its base pipeline {name} is broken: {problem}"
    except OSError as error:
        return f"its base pipeline {unreadable_problem(base.path, error)}"
