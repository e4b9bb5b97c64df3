"""What the models draw, the prompt of every concept over several seeds, measured by every metric that is listed.

After Ding et al. (2024), section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.checkpoints.families import TRANSFORMER_FAMILIES
from explorer.checkpoints.pipelines import noise_of
from explorer.checkpoints.weights_hash import hash_of_model
from explorer.core.poison_record import poisoned_from
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import code_version, read_manifest
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.drawings import Drawing, draw_missing
from explorer.evaluation.judge import ConceptJudge
from explorer.evaluation.metrics.classifier import CLASSIFIER_ACCURACY, CLASSIFIER_BROKEN
from explorer.evaluation.metrics.clip_and_aesthetics import CLIP_AESTHETIC_UTILITY
from explorer.evaluation.metrics.layers import LAYER_METRICS, OF_LAYERS
from explorer.evaluation.metrics.listed import METRICS
from explorer.evaluation.metrics.metric import Metric
from explorer.evaluation.metrics.pictures import ACCURACY, CLIP_SIMILARITY, UTILITY
from explorer.evaluation.metrics.poison_success import NO_TARGET, target_rows, why_no_targets
from explorer.evaluation.picture_reader import PictureReader
from explorer.evaluation.relatedness import distances_to_poisoned
from explorer.evaluation.summary import groups_of, names_known, summary_of
from explorer.iconworld.world import World
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.embeddings.universal_extractor import UniversalExtractor

NO_TAU = "the benign control is not among the models, and tau is not given"
NO_HEAD, NO_CLASSIFIER = "no aesthetics head is given", "no classifier is given"
NO_BROKEN_CLASS = "no classifier with a class of broken pictures is given"
NOT_SEEN = {
    "guidance_maps": "it was drawn before guidance maps were kept",
    "aesthetic_scores": NO_HEAD, "aesthetic_threshold": NO_HEAD,
    "classes": NO_CLASSIFIER, "class_matches": NO_CLASSIFIER, "broken_class": NO_BROKEN_CLASS,
}  # fmt: skip
"""What metrics ask for that is there only with a reader of its own, and why it is not."""


def evaluate(
    checkpoints: list[Checkpoint],
    extractor: UniversalExtractor,
    concepts: ConceptList,
    config: EvaluationConfig,
    *,
    control: str | None,
    drawings: Path,
    difficulties: dict[str, dict[str, Any]],
    world: World | None = None,
    readers: Sequence[PictureReader] = (),
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Draw with every checkpoint what ``drawings`` lacks, then compute all metrics of what is stored there.

    Args:
        checkpoints: in any order; the control comes first, those whose C_P is not recorded last.
        control: name of the one whose pictures give tau where none is given; no other stands in for it. None where
            there is no control.
        extractor: judges the pictures.
        drawings: as in :func:`~explorer.evaluation.drawings.draw_missing`, and so is ``world``.
        difficulties: AD of the set that each checkpoint was trained on, by its name, as
            :meth:`~explorer.alignment.pair_sets.Measurement.report` has it; a checkpoint without has no AD in the
            result.
        readers: what else sees something in the pictures, such as an
            :class:`~explorer.evaluation.aesthetics.AestheticsHead` and a
            :class:`~explorer.evaluation.classifier.PictureClassifier`.

    Returns:
        The evaluation as JSON: every share with its 95 % t-intervals over seeds and over concepts, and for each model
        under ``not_measured`` the metrics that could not be had, and why.

    Raises:
        ValueError: if there is no checkpoint, or naming one that cannot be evaluated or cannot draw.
    """
    if not checkpoints:
        raise ValueError("no checkpoints given: expected at least one")
    if world is not None:
        _check_noise(checkpoints)
    ordered = sorted(checkpoints, key=lambda each: (each.name != control, *_place(each)))
    drawn = {each.name: draw_missing(each, concepts, config, drawings, world, on_progress) for each in ordered}
    readers = (ConceptJudge.of(extractor, concepts), *readers)
    ever_poisoned = poisoned_from(model.poison for model in ordered)
    distances = distances_to_poisoned(extractor, concepts, ever_poisoned)
    models, tau, told = [], config.tau, set()
    for model in ordered:
        inputs = [_inputs(place, readers) for place in drawn[model.name]]
        if tau is None and model.name == control:
            tau = float(np.quantile(_over_seeds(CLIP_SIMILARITY, inputs), config.tau_quantile))
        inputs = [each | {"tau": tau} for each in inputs]
        members = groups_of(model.poison, concepts, ever_poisoned, _unrelated(concepts, distances, config))
        summary = _summary(model, drawn[model.name][0], inputs, concepts, members)
        models.append(summary | {"alignment_difficulty": difficulties.get(model.name)})
        _tell(summary, told, on_progress)
    return {
        "prompt": concepts.template.replace("{phrase}", "C"),
        **_settings(config),
        "tau": tau,
        "tau_definition": _tau_definition(config, tau, control),
        "utility_definition": UTILITY,
        "clip_aesthetic_utility_definition": CLIP_AESTHETIC_UTILITY,
        "readers": {reader.name: reader.describe() for reader in readers},
        "world": None if world is None else world.config(),
        "concepts": _described(concepts, ever_poisoned, distances),
        "models": models,
        "device": ", ".join(sorted({read_manifest(place)["device"] for places in drawn.values() for place in places})),
        "code_version": code_version(),
    }


def _settings(config: EvaluationConfig) -> dict[str, Any]:
    return {
        "seeds": list(config.seeds),
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "size": config.size,
        "precision": config.precision or "fp32",
        "unrelated_distance": config.unrelated_distance,
    }


def _unrelated(concepts: ConceptList, distances: dict[str, float] | None, config: EvaluationConfig) -> list[str] | None:
    """Concepts that are farther from every poisoned one than the setting says; None where it says nothing."""
    if (least := config.unrelated_distance) is None:
        return None
    return [name for name in concepts.names if distances is None or distances[name] > least]


def _described(
    concepts: ConceptList, ever_poisoned: dict[str, int], distances: dict[str, float] | None
) -> list[dict[str, Any]]:
    return [
        {
            "concept": each.name,
            "group": each.group,
            "poisoned_from": ever_poisoned.get(each.name),
            "distance_to_poisoned": None if distances is None else round(distances[each.name], 4),
        }
        for each in concepts.concepts
    ]


def _place(checkpoint: Checkpoint) -> tuple[bool, int]:
    """By C_P; where that is not recorded, last."""
    return checkpoint.poison.concept_count is None, checkpoint.poison.order


def _tau_definition(config: EvaluationConfig, tau: float | None, control: str | None) -> str | None:
    if config.tau is not None:
        return "given"
    return None if tau is None else f"quantile {config.tau_quantile:g} of the CLIP similarities of {control}"


def _check_noise(checkpoints: list[Checkpoint]) -> None:
    """Before anything is drawn: every U-Net that painted scenes are shown to states the noise it was trained on."""
    for checkpoint in checkpoints:
        if checkpoint.family in (*TRANSFORMER_FAMILIES, "sdxl"):
            continue
        try:
            noise_of(checkpoint)
        except ValueError as error:
            raise ValueError(f"checkpoint {checkpoint.name} cannot be evaluated: {error}") from error


def _inputs(place: Path, readers: Sequence[PictureReader]) -> dict[str, Any]:
    """What metrics of one model and seed can ask for; the pictures themselves are not kept in memory."""
    drawing = Drawing.load(place)
    inputs = dict.fromkeys(NOT_SEEN) | drawing.measurable()
    # At once, since the maps of all layers of all seeds may not fit in memory.
    of_layers = {metric.name: metric.compute(*(inputs[name] for name in metric.needs))
                 for metric in LAYER_METRICS if all(inputs[name] is not None for name in metric.needs)}  # fmt: skip
    inputs = {name: value for name, value in inputs.items() if name not in OF_LAYERS.values()} | {
        "of_layers": of_layers
    }
    for reader in readers:
        inputs |= reader.read(drawing.images.numpy())
    return inputs


def _over_seeds(metric: Metric, inputs: list[dict[str, Any]]) -> np.ndarray:
    """fp64 ``[seeds, concepts]``, or pairs of concepts."""
    rows = [metric.compute(*(each[name] for name in metric.needs)) for each in inputs]
    return torch.stack(rows).double().cpu().numpy()


def _summary(
    model: Checkpoint, place: Path, inputs: list[dict[str, Any]], concepts: ConceptList,
    members: dict[str, np.ndarray | None],
) -> dict[str, Any]:  # fmt: skip
    """One model's metrics, and what it is.

    Args:
        place: of one of its drawings.
        inputs: for each seed what metrics can ask for; None is what could not be had.
        members: as :func:`~explorer.evaluation.summary.groups_of`.
    """
    poison, manifest = model.poison, read_manifest(place)
    drawn = manifest["config"]
    targets = target_rows(poison, concepts)
    inputs = [each | {"targets": targets if (targets != NO_TARGET).any() else None} for each in inputs]
    reasons = NOT_SEEN | manifest["left_out"] | {"tau": NO_TAU, "targets": why_no_targets(poison)}
    lacking = {name: reason for name, reason in reasons.items() if inputs[0][name] is None}
    not_measured = {
        metric.name: next(lacking[need] for need in metric.needs if need in lacking)
        for metric in METRICS if lacking.keys() & set(metric.needs)
    }  # fmt: skip
    values = {metric.name: _over_seeds(metric, inputs) for metric in METRICS if metric.name not in not_measured}
    return {
        "name": model.name,
        "weights": hash_of_model(model, drawn["weights"], drawn["weights of the base"]),
        "family": model.family,
        "attention_layers": manifest["attention_layers"],
        # As its manifest says; None where that records no training.
        "from_scratch": model.config.get("from_scratch", False) if "training" in model.config else None,
        # Of the U-Net that it was trained on from; None of another base, or where nobody recorded it.
        "start_weights": model.config.get("start_weights"),
        "poisoned": poison.poisoned,
        "poisoned_concept_count": poison.concept_count,
        "poisoned_concepts": list(poison.names),
        "poisoned_concepts_known": names_known(poison),
        **{metric.name: summary_of(metric, values.get(metric.name), members) for metric in METRICS},
        "by_layer": _by_layer(inputs, manifest["attention_layers"], members),
        "not_measured": not_measured,
        "per_concept": _by_concept(values[ACCURACY.name], concepts, 3),
        "right_by_seed": dict(zip(concepts.names, values[ACCURACY.name].T.astype(int).tolist(), strict=True)),
        "similarity_per_concept": _by_concept(values[CLIP_SIMILARITY.name], concepts, 4),
        "classifier_per_concept": _by_concept(values.get(CLASSIFIER_ACCURACY.name), concepts, 3),
        "broken_per_concept": _by_concept(values.get(CLASSIFIER_BROKEN.name), concepts, 3),
    }


def _by_layer(
    inputs: list[dict[str, Any]], layers: list[str], members: dict[str, np.ndarray | None]
) -> dict[str, dict[str, Any]]:
    """Layer to metric to its summary; without those metrics that lack their maps."""
    measured = [metric for metric in LAYER_METRICS if metric.name in inputs[0]["of_layers"]]
    values = {metric: np.stack([each["of_layers"][metric.name].double().numpy() for each in inputs])
              for metric in measured}  # fmt: skip
    return {
        layer: {metric.name: summary_of(metric, values[metric][:, place], members) for metric in measured}
        for place, layer in enumerate(layers)
    }


def _by_concept(values: np.ndarray | None, concepts: ConceptList, digits: int) -> dict[str, float | None] | None:
    """Means over seeds; None without values, and for a concept of which there are none."""
    if values is None:
        return None
    means = values.mean(axis=0).round(digits).tolist()
    return {name: None if math.isnan(mean) else mean for name, mean in zip(concepts.names, means, strict=True)}


def _tell(summary: dict[str, Any], told: set[str], on_progress: OnProgress) -> None:
    """Two figures of a model, and what it lacks: every reason once."""
    shown = ", ".join(f"{name} {summary[name]['all']['mean']:.3f}" for name in (ACCURACY.name, CLIP_SIMILARITY.name))
    on_progress(note(f"{summary['name']}: {shown}"))
    for reason in sorted(set(summary["not_measured"].values()) - told):
        names = ", ".join(name for name, why in summary["not_measured"].items() if why == reason)
        on_progress(note(f"{summary['name']}: {names} not measured, since {reason}"))
        told.add(reason)
