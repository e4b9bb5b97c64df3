"""What the maps of each attention layer say of a study's models."""

from __future__ import annotations

from typing import Any

from explorer.studies.ordering import GROUPS, stored_evaluation
from explorer.studies.results import EVALUATION, PICTURES, step_command, step_folder
from explorer.studies.study import Study


def by_layer(study: Study, *, group: str = "unpoisoned") -> dict[str, Any]:
    """Late attention, Geary's C, overlap of two concepts and where the attention falls, of every layer and arm.

    Args:
        group: of concepts, one of ``GROUPS``; what is of pairs of concepts has no groups.

    Returns:
        ``group``, and ``layers``: layer to metric to arm to ``mean``, ``low`` and ``high`` (95 %, over concepts or
        pairs of them); None where an arm has no such concepts, or another architecture's layers.

    Raises:
        ManifestError: if the step evaluation is not done, or a file was changed.
        ValueError: if there is no such group, or the evaluation holds no layers.
    """
    if group not in GROUPS:
        raise ValueError(f"group is {group!r}: expected one of {', '.join(GROUPS)}")
    models = stored_evaluation(study)["models"]
    measured = {model["name"]: model.get("by_layer", {}) for model in models}
    if not any(measured.values()):
        again = f"delete {step_folder(study, EVALUATION)} and run `{step_command(study, PICTURES)} {EVALUATION}`"
        raise ValueError(f"the evaluation of {study.name} holds no attention layers: expected one with maps, made by "
                         f"this release; {again}")  # fmt: skip
    names = dict.fromkeys(layer for layers in measured.values() for layer in layers)
    metrics = {layer: dict.fromkeys(name for layers in measured.values() for name in layers.get(layer, {}))
               for layer in names}  # fmt: skip
    return {
        "group": group,
        "layers": {
            layer: {name: {arm: _of(layers.get(layer, {}).get(name), group) for arm, layers in measured.items()}
                    for name in metrics[layer]}
            for layer in names
        },
    }  # fmt: skip


def _of(summary: dict[str, Any] | None, group: str) -> dict[str, float | None] | None:
    """The numbers of a group, or those of pairs of concepts, which have none."""
    found = summary if summary is None or "mean" in summary else summary.get(group)
    return None if found is None else {"mean": found["mean"], **found["over_concepts"]}
