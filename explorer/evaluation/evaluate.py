"""What the models draw, "a photo of C" for every concept over several seeds, measured by every metric that is listed.

After Ding et al. (2024), section 5.1, with two changes that a world of icons asks for: accuracy is the extractor's
top-1 over all concepts, and utility asks for that *and* a CLIP similarity above tau, because no aesthetics predictor
knows icons.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.checkpoints.families import TRANSFORMER_FAMILIES
from explorer.core.intervals import t_interval
from explorer.core.poison_record import poisoned_from
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import code_version, read_manifest
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.drawings import Drawing, draw_missing
from explorer.evaluation.judge import ConceptJudge
from explorer.evaluation.metrics.listed import METRICS
from explorer.evaluation.metrics.metric import Metric
from explorer.evaluation.metrics.pictures import ACCURACY, CLIP_SIMILARITY, UTILITY
from explorer.iconworld.world import World

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint

TAU_QUANTILE = 0.10


def evaluate(
    checkpoints: list[Checkpoint],
    extractor_folder: Path,
    world: World,
    config: EvaluationConfig,
    *,
    sets: dict[str, Path],
    drawings: Path,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Draw with every checkpoint what ``drawings`` lacks, then compute all metrics of what is stored there.

    Args:
        checkpoints: the benign control, which tau belongs to, first.
        sets: pair-set folder of each checkpoint by name; a checkpoint without one has no AD in the result.
        drawings: as in :func:`~explorer.evaluation.drawings.draw_missing`.

    Returns:
        The evaluation as JSON: every share with its 95 % t-interval over seeds.

    Raises:
        ValueError: if the first checkpoint is poisoned, or naming one that cannot be evaluated or cannot draw.
    """
    from explorer.alignment.pair_sets import measure

    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.poison.order)
    _check(ordered)
    judge = ConceptJudge.load(extractor_folder, world.concepts, device=config.device)
    drawn = {model.name: draw_missing(model, world, config, drawings, on_progress) for model in ordered}
    ever_poisoned = poisoned_from(model.poison for model in ordered)
    models, devices, tau = [], set(), None
    for model in ordered:
        inputs = [_inputs(place, judge) for place in drawn[model.name]]
        if tau is None:
            tau = float(np.quantile(_over_seeds(CLIP_SIMILARITY, inputs), TAU_QUANTILE))
        values = {metric.name: _over_seeds(metric, [each | {"tau": tau} for each in inputs]) for metric in METRICS}
        manifests = [read_manifest(place) for place in drawn[model.name]]
        devices |= {manifest["device"] for manifest in manifests}
        difficulty = measure(sets[model.name], judge.extractor).report() if model.name in sets else None
        summary = _summary(model, manifests[0], values, world, set(ever_poisoned))
        models.append(summary | {"alignment_difficulty": difficulty})
        shown = ", ".join(f"{name} {values[name].mean():.3f}" for name in ("accuracy", "clip_similarity"))
        on_progress(note(f"{model.name}: {shown}"))
    return {
        "prompt": "a photo of C",
        "seeds": list(config.seeds),
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "tau": tau,
        "utility_definition": UTILITY,
        "world": world.config(),
        "concepts": [
            {"concept": concept, "group": world.group(concept), "poisoned_from": ever_poisoned.get(concept)}
            for concept in world.concepts
        ],
        "models": models,
        "device": ", ".join(sorted(devices)),
        "code_version": code_version(),
    }


def _check(checkpoints: list[Checkpoint]) -> None:
    """Before anything is drawn: the control leads, and every model states the noise it was trained on."""
    from explorer.checkpoints.pipelines import noise_of

    for checkpoint in checkpoints:
        if checkpoint.family in TRANSFORMER_FAMILIES:
            continue  # refused when it is loaded, by what it is
        try:
            noise_of(checkpoint)
        except ValueError as error:
            raise ValueError(f"checkpoint {checkpoint.name} cannot be evaluated: {error}") from error
    control = checkpoints[0]
    if control.poison.poisoned is not False:
        raise ValueError(f"the first model is {control.name!r}: expected the benign control, which tau belongs to")


def _inputs(place: Path, judge: ConceptJudge) -> dict[str, Any]:
    """What metrics need of one drawing, by the names that they ask for it."""
    drawing = Drawing.load(place)
    seen = judge.extractor.encode_images(drawing.images.numpy())
    return vars(drawing) | {"similarities": seen @ judge.concept_features.T}


def _over_seeds(metric: Metric, inputs: list[dict[str, Any]]) -> np.ndarray:
    """fp64 ``[seeds, concepts]``, or pairs of concepts."""
    rows = [metric.compute(*(each[name] for name in metric.needs)) for each in inputs]
    return torch.stack(rows).double().cpu().numpy()


def _summary(
    model: Checkpoint, manifest: dict[str, Any], values: dict[str, np.ndarray], world: World, ever_poisoned: set[str]
) -> dict[str, Any]:
    """One model's metrics, and what it is."""
    poison = model.poison
    pool = set(world.frequent_pool)
    groups = {
        "all": np.ones(len(world.concepts), bool),
        "pool": np.array([concept in pool for concept in world.concepts]),
        "unpoisoned": np.array([concept not in ever_poisoned | pool for concept in world.concepts]),
        "poisoned": np.array([concept in poison.names for concept in world.concepts]),
    }
    return {
        "name": model.name,
        "weights": manifest["config"]["weights"],
        "attention_layers": manifest["attention_layers"],
        "poisoned": poison.poisoned,
        "poisoned_concept_count": poison.concept_count,
        "poisoned_concepts": list(poison.names),
        **{
            metric.name: {group: _interval(values[metric.name][:, member]) for group, member in groups.items()}
            if metric.by_group else _interval(values[metric.name])
            for metric in METRICS
        },
        "per_concept": _by_concept(values[ACCURACY.name], world, 3),
        "similarity_per_concept": _by_concept(values[CLIP_SIMILARITY.name], world, 4),
    }  # fmt: skip


def _by_concept(values: np.ndarray, world: World, digits: int) -> dict[str, float]:
    return dict(zip(world.concepts, values.mean(axis=0).round(digits).tolist(), strict=True))


def _interval(values: np.ndarray) -> dict[str, float] | None:
    """Mean over the columns, with its t-interval over the rows (seeds)."""
    if values.shape[1] == 0:
        return None
    estimate = t_interval(values.mean(axis=1))
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
