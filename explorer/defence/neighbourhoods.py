"""Scores from nearest neighbours: whether a pair's picture looks like those of similar captions, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from explorer.alignment.neighbours import nearest_neighbours
from explorer.core.progress import OnProgress, unheard
from explorer.defence.scores import DISAGREEMENT, LABELS

NEIGHBOURS = 15
"""As the layouts of the screen *Graphs* have it."""
ROWS_AT_ONCE = 4096


def neighbourhood_disagreement(image: torch.Tensor, text_neighbours: np.ndarray) -> np.ndarray:
    """Mean cosine distance of each picture to the pictures of its caption's nearest captions, fp64 `[N]` in [0, 2].

    Args:
        image: `[N, d]` unit image features.
        text_neighbours: int `[N, k]` the nearest captions' pairs.
    """
    found = np.empty(len(image))
    for first in range(0, len(image), ROWS_AT_ONCE):
        near = image[torch.from_numpy(text_neighbours[first : first + ROWS_AT_ONCE])]
        cosines = torch.einsum("nd,nkd->nk", image[first : first + ROWS_AT_ONCE], near)
        found[first : first + len(near)] = 1 - cosines.double().mean(dim=1).numpy()
    return found


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
    image: torch.Tensor, text: torch.Tensor, labels: np.ndarray, on_progress: OnProgress = unheard
) -> Mapping[str, np.ndarray]:
    """Both scores, by name; none of a set with a single pair.

    Args:
        labels: int `[N]` what each caption is about, -1 for nothing that is listed.
    """
    if (k := min(NEIGHBOURS, len(image) - 1)) < 1:
        return {}
    by_text, _ = nearest_neighbours(text, k, on_progress=on_progress, task="nearest captions")
    by_image, _ = nearest_neighbours(image, k, on_progress=on_progress, task="nearest pictures")
    return {
        DISAGREEMENT: neighbourhood_disagreement(image, by_text),
        LABELS: label_disagreement(labels, by_image),
    }
