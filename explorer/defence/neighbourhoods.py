"""Scores from nearest neighbours: whether a pair's picture looks like those of similar captions, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from explorer.alignment.neighbourhoods import LocalRequest, measure_local
from explorer.alignment.neighbours import nearest_neighbours
from explorer.core.progress import OnProgress, unheard
from explorer.defence.scores import LABELS, SCATTER


def label_disagreement(labels: np.ndarray, image_neighbours: np.ndarray) -> np.ndarray:
    """Share of each picture's nearest pictures whose label is another than its own, fp64 `[N]` in [0, 1].

    This is 1 - p(own label) of a k-nearest-neighbour classifier that leaves the pair itself out: self-confidence, as
    label-quality scores have it (Northcutt et al. 2021).

    Args:
        labels: int `[N]`, -1 for none: such a pair has no score (NaN), and is no pair's neighbour.
        image_neighbours: int `[N, k]`. A pair all of whose neighbours have no label has no score.
    """
    near = labels[image_neighbours]
    labelled = near >= 0
    with np.errstate(invalid="ignore"):
        share = ((near != labels[:, None]) & labelled).sum(axis=1) / labelled.sum(axis=1)
    return np.where(labels < 0, np.nan, share)


def neighbourhood_scores(
    image: torch.Tensor,
    text: torch.Tensor,
    labels: np.ndarray,
    *,
    feature_range: tuple[float, float],
    convention: str = "authors",
    on_progress: OnProgress = unheard,
) -> Mapping[str, np.ndarray]:
    """Both scores of all pairs, by name; none of a set with a single pair.

    Args:
        labels: int `[N]` what each caption is about, -1 for nothing that is listed.
    """
    if len(image) < 2:
        return {}
    local = measure_local(
        image, text, feature_range=feature_range, convention=convention, request=LocalRequest(local_pairs=len(image)),
        on_progress=on_progress,
    )  # fmt: skip
    by_image, _ = nearest_neighbours(image, local.neighbours, on_progress=on_progress, task="nearest pictures")
    return {SCATTER: local.picture_scatter.numpy(), LABELS: label_disagreement(labels, by_image)}
