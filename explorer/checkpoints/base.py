"""Whether a pipeline folder can lend what a checkpoint lacks. Reads JSON and safetensors headers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.checkpoints.families import FAMILY_NAMES, TRANSFORMER_FAMILIES, pipeline_family
from explorer.checkpoints.kinds.base import Contents, KindOnBase
from explorer.checkpoints.kinds.pipeline_folder import check_parts_without_weights
from explorer.checkpoints.kinds.single_file import lent_weights
from explorer.checkpoints.model_folder import INDEX_NAME, ModelFolder, unreadable_problem
from explorer.checkpoints.weight_files import WeightError


def base_problem(
    kind: KindOnBase,
    place: ModelFolder,
    base: ModelFolder | None,
    contents: Contents,
    trained_for: Any,
    problem_of: Callable[[ModelFolder], str | None],
) -> str | None:
    """What is wrong with the pipeline that a checkpoint is to be used with, as one sentence; None for nothing.

    Args:
        kind: of the checkpoint.
        place: of the checkpoint.
        base: the pipeline folder; None where none is named.
        contents: of the checkpoint.
        trained_for: the prediction type in its manifest; None where it does not say.
        problem_of: what is wrong with a whole pipeline by itself.
    """
    if base is None:
        return kind.missing_base(contents.family)
    name = base.name
    try:
        if not base.path.is_dir():
            return f"its base pipeline {name} is not in {base.path.parent}"
        if not (base.path / INDEX_NAME).is_file():
            return f"its base {name} is no whole pipeline: it has no {INDEX_NAME}"
        family = pipeline_family(base)
        if contents.family not in ("unknown", family):
            return f"it is of the family {FAMILY_NAMES[contents.family]}: its base {name} is {FAMILY_NAMES[family]}"
        if family in TRANSFORMER_FAMILIES:
            return f"its base {name} is {FAMILY_NAMES[family]}, which has no U-Net: expected SD 1.x, SD 2.x or SDXL"
        try:
            problem = _lending_problem(kind, base, contents, problem_of)
            if problem is None:
                return kind.misfit(place, base, contents, trained_for)
        except WeightError as error:
            problem = str(error)
        return f"its base pipeline {name} is broken: {problem}"
    except OSError as error:
        return f"its base pipeline {unreadable_problem(base.path, error)}"


def _lending_problem(
    kind: KindOnBase, base: ModelFolder, contents: Contents, problem_of: Callable[[ModelFolder], str | None]
) -> str | None:
    """What keeps the base from lending what is missing; networks of the checkpoint's own need no weights in it."""
    if not kind.own_networks:
        return problem_of(base)
    check_parts_without_weights(base)
    list(lent_weights(contents.headers["file"].shapes, base))
    return None
