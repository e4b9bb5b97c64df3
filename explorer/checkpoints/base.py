"""Whether a pipeline folder can lend what a checkpoint lacks: a U-Net alone, a single file or a LoRA.

Reads JSON and safetensors headers only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from explorer.checkpoints.contents import (
    Contents,
    check_parts_without_weights,
    component_classes,
    component_folder,
    unreadable_problem,
)
from explorer.checkpoints.families import FAMILY_NAMES, TRANSFORMER_FAMILIES, pipeline_family, single_file_parts
from explorer.checkpoints.weight_files import WeightError, read_json, read_weights
from explorer.core.provenance import MANIFEST_NAME

NOISE_MARKERS = {
    "v_pred": ("prediction_type", "v_prediction", "it was trained for v-prediction"),
    "ztsnr": ("rescale_betas_zero_snr", True, "it was trained to a terminal signal-to-noise ratio of zero"),
}
"""Empty tensors of these names mark how a single file was trained: what its base's scheduler must state, and words."""
WITH_COMMAND = "with `explorer set-base`"
"""How a ``problem`` says that a base is named; where there is another way, it is put in its place."""
UNET_WIDTHS = {
    "cross_attention_dim": (1280, "reads text of width {}"),
    "in_channels": (4, "reads latents of {} channels"),
    "out_channels": (4, "gives latents of {} channels"),
}
"""Entries of a U-Net's configuration that its pipeline's other parts must match: diffusers' default, and words."""


def base_problem(
    path: Path,
    base: Path | None,
    contents: Contents,
    trained_for: Any,
    problem_of: Callable[[Path], str | None],
) -> str | None:
    """What is wrong with the pipeline that a checkpoint is to be used with, as one sentence; None for nothing.

    Args:
        path: the checkpoint.
        base: the pipeline folder; None where none is named.
        contents: of the checkpoint.
        trained_for: the prediction type in its manifest; None where it does not say.
        problem_of: what is wrong with a whole pipeline by itself.
    """
    if base is None:
        return _missing_base(contents)
    try:
        return _problem_on_base(path, base, contents, trained_for, problem_of)
    except OSError as error:
        return f"its base pipeline {unreadable_problem(base, error)}"


def _problem_on_base(
    path: Path, base: Path, contents: Contents, trained_for: Any, problem_of: Callable[[Path], str | None]
) -> str | None:
    if not base.is_dir():
        return f"its base pipeline {base.name} is not in {base.parent}"
    if not (base / "model_index.json").is_file():
        return f"its base {base.name} is no whole pipeline: it has no model_index.json"
    family = pipeline_family(base)
    if contents.family not in ("unknown", family):
        return f"it is of the family {FAMILY_NAMES[contents.family]}: its base {base.name} is {FAMILY_NAMES[family]}"
    if family in TRANSFORMER_FAMILIES:
        return f"its base {base.name} is {FAMILY_NAMES[family]}, which has no U-Net: expected SD 1.x, SD 2.x or SDXL"
    try:
        problem = _lending_problem(base, contents, problem_of)
        if problem is None and contents.kind == "unet":
            return _unet_problem(path, base, trained_for)
        if problem is None and contents.kind == "single-file":
            return _marker_problem(base, contents)
    except WeightError as error:
        problem = str(error)
    return None if problem is None else f"its base pipeline {base.name} is broken: {problem}"


def _missing_base(contents: Contents) -> str:
    if contents.kind == "unet":
        return f"it is a U-Net alone and its {MANIFEST_NAME} names no base pipeline: name one {WITH_COMMAND}"
    name = FAMILY_NAMES[contents.family]
    if contents.kind == "single-file":
        return (
            "a single file holds neither tokenizer nor configuration: name a diffusers folder of the same family "
            f"({name}) that lends them, {WITH_COMMAND}"
        )
    of_family = "" if contents.family == "unknown" else f" of the family {name}"
    return f"it is a LoRA, which changes another model: name the pipeline folder{of_family} {WITH_COMMAND}"


def _lending_problem(base: Path, contents: Contents, problem_of: Callable[[Path], str | None]) -> str | None:
    """What keeps the base from lending what is missing; a single file needs weights for its missing parts only."""
    if contents.kind != "single-file":
        return problem_of(base)
    check_parts_without_weights(base)
    own = single_file_parts(contents.headers["file"].shapes)
    for component in component_classes(base):
        read_json(base / component / "config.json")
        if component not in own:
            read_weights(base / component)
    return None


def _unet_problem(path: Path, base: Path, trained_for: Any) -> str | None:
    """What keeps a U-Net from taking the place of its base's own: other text or latents by their widths, or noise."""
    own, other = (read_json(component_folder(folder, "unet") / "config.json") for folder in (path, base))
    for key, (default, words) in UNET_WIDTHS.items():
        width, given = own.get(key, default), other.get(key, default)
        if width != given:
            return f"its U-Net {words.format(width)}, that of its base {base.name} {given}"
    if trained_for is not None:
        followed = read_json(base / "scheduler" / "scheduler_config.json").get("prediction_type", "epsilon")
        if followed != trained_for:
            return f"it was trained for {trained_for}: the scheduler of its base {base.name} follows {followed}"
    return None


def _marker_problem(base: Path, contents: Contents) -> str | None:
    stated = read_json(base / "scheduler" / "scheduler_config.json")
    for marker, (field, value, words) in NOISE_MARKERS.items():
        if marker in contents.headers["file"].shapes and stated.get(field) != value:
            return f"{words}: the scheduler of its base {base.name} is not configured for it ({field})"
    return None
