"""The scores that follow from the pairs' features alone: distances, their twins, and what neighbours say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from explorer.alignment.difficulty import compose, feature_distance, paired_cosines
from explorer.alignment.structure.distance import convention_scale, feature_statistics, row_slices
from explorer.alignment.structure.set_statistics import set_statistics
from explorer.alignment.structure.tiles import structure_and_centred_row_sums
from explorer.core.progress import OnProgress, unheard
from explorer.core.share import ALONE
from explorer.defence.neighbourhoods import neighbourhood_scores
from explorer.defence.scores import CENTRED, CLIP, FEATURE, SAMPLE_AD, SQUARED, STRUCTURE


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredScores:
    """Of N pairs."""

    scores: dict[str, np.ndarray]
    """Name to fp64 `[N]`, NaN where a score is not defined."""
    feature_ad: float
    structure_ad: float
    ad: float


def measured_scores(
    image: torch.Tensor,
    text: torch.Tensor,
    labels: np.ndarray,
    *,
    feature_range: tuple[float, float],
    alpha: float,
    convention: str = "authors",
    on_progress: OnProgress = unheard,
) -> MeasuredScores:
    """Every score that features give, exact, in O(N^2 d) operations and O(N) memory beyond blocks.

    Args:
        image: `[N, d]` unit image features; what is compared is compared where they lie.
        text: `[N, d]` unit text features, on the same device.
        labels: int `[N]` what each caption is about, -1 for nothing that is listed.
        feature_range: (lo, hi) cosines that feature distance maps to 1 and 0.
        alpha: weight of feature AD.
        convention: of the structure distances.

    Raises:
        ValueError: on rows that are no unit rows.
    """
    n, scale, cosines = len(image), convention_scale(convention), paired_cosines(image, text)
    statistics = feature_statistics(image, text)
    sums, centred = structure_and_centred_row_sums(image, text, convention=convention, statistics=statistics)
    found = compose(
        feature_distance(cosines, feature_range), sums / n, alpha=alpha, convention=convention,
        feature_range=feature_range,
    )  # fmt: skip
    _, products = set_statistics(image, text, ALONE, products=True)
    squared = torch.cat([products.means(image[rows].double(), text[rows].double()).cpu() for rows in row_slices(n)])
    scores = {
        CLIP: cosines, FEATURE: found.feature_distance, STRUCTURE: found.structure_distance,
        SAMPLE_AD: found.sample_ad, SQUARED: squared * scale**2, CENTRED: centred / n,
    }  # fmt: skip
    return MeasuredScores(
        scores={name: values.numpy() for name, values in scores.items()}
        | dict(neighbourhood_scores(
            image, text, labels, feature_range=feature_range, convention=convention, on_progress=on_progress
        )),
        feature_ad=found.feature_ad, structure_ad=found.structure_ad, ad=found.ad,
    )  # fmt: skip
