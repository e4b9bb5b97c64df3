"""Targets that a pair set's own features choose for the concepts that an attack poisons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.core.progress import OnProgress, unheard
from explorer.embeddings.features import pair_features
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.exchanged import pool_for, rows_by_concept
from explorer.poisoning.target_choice import TargetSelection
from explorer.poisoning.target_selection import TargetScores, choose_targets, score_targets

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor

SAMPLE_STREAM = 305


def select_targets(
    attack: DirtyLabelPoison,
    benign: PairSet,
    extractor: UniversalExtractor,
    selection: TargetSelection,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Targets for the concepts that ``attack`` draws from its pool.

    Returns:
        ``targets`` ``{p: t}``, and means over the concepts of what their poison would be, beside the same over all
        targets of the pool, which is what targets drawn at random have in expectation: ``alignment``, ``difficulty``
        and ``structure_distance``, each ``{chosen, any}``.

    Raises:
        ValueError: as the attack's ``choose`` and :func:`choose_targets`, if a concept has fewer captions or a target
            fewer pictures than samples, or the attack cannot be made with the targets that were chosen.
    """
    mentioning, showing = rows_by_concept(benign)
    pool, pool_is = pool_for(attack, benign, mentioning, showing)
    concepts = list(attack.choose(pool, pool_is, mentioning))
    samples = selection.samples
    _check_samples(samples, "captions that mention", concepts, mentioning)
    _check_samples(samples, "pictures of", pool, showing)
    image, text = pair_features(benign, extractor, on_progress)
    random = np.random.default_rng([selection.seed, SAMPLE_STREAM])

    def drawn(features: torch.Tensor, names: list[str], rows: dict[str, list[int]]) -> torch.Tensor:
        chosen = [random.choice(rows[name], samples, replace=False) for name in names]
        return features[torch.from_numpy(np.stack(chosen))]

    reference = benign.training_rows
    reference = reference[random.permutation(len(reference))[: selection.reference]].copy()
    scores = score_targets(
        drawn(text, concepts, mentioning), drawn(image, pool, showing),
        image[reference], text[reference], extractor.feature_range,
    )  # fmt: skip
    targets = choose_targets(scores, concepts, pool, how=selection.how, least_alignment=selection.least_alignment,
                             alpha=selection.alpha, seed=selection.seed)  # fmt: skip
    replace(attack, concept_count=None, targets=targets).source(benign)  # refuses what it lacks pairs for
    return {"targets": targets, **_means(scores, concepts, pool, targets, selection.alpha)}


def _check_samples(samples: int, what: str, names: list[str], rows: dict[str, list[int]]) -> None:
    if few := [name for name in names if len(rows.get(name, ())) < samples]:
        found = len(rows.get(few[0], ()))
        raise ValueError(f"samples are {samples}: the training pairs hold {found} {what} {few[0]!r}, expected as many")


def _means(
    scores: TargetScores, concepts: list[str], pool: list[str], targets: dict[str, str], alpha: float
) -> dict[str, dict[str, float]]:
    places = torch.tensor([[pool.index(targets[p])] for p in concepts])
    other = torch.tensor([[p != t for t in pool] for p in concepts])
    values = {"alignment": scores.alignment, "difficulty": scores.difficulty(alpha),
              "structure_distance": scores.structure}  # fmt: skip
    return {
        name: {"chosen": float(value.gather(1, places).mean()), "any": float(value[other].mean())}
        for name, value in values.items()
    }
