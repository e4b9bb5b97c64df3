"""Local AD: Alignment Difficulty of what the captions near a pair's own show.

AD (Ding et al., CCS 2024, Eq. 1 and 4) compares a pair with all others. Its conjecture is about the near ones: a model
draws, for a caption, a weighted average of the pictures whose captions are near. Local AD measures that average over
the k nearest captions. It is this project's and not the paper's; ``docs/alignment.md`` derives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from explorer.alignment.difficulty import check_alpha, feature_distance
from explorer.alignment.structure.distance import FeatureRows, convention_scale, row_slices
from explorer.core.intervals import Estimate, normal_interval

CELLS = 100
"""Groups of near captions that standard errors are taken over."""
VALUES = {
    "local_feature_ad": "local_feature_distance",
    "local_structure_ad": "local_structure_distance",
    "local_ad": "local_sample_ad",
    "picture_scatter": "picture_scatter",
    "caption_spread": "caption_spread",
}
"""What a set has, and whose mean it is: what each of its pairs has."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalDifficulty:
    """Local AD of n pairs of a set; tensors are fp64 `[n]` on the CPU."""

    neighbours: int
    """k, the captions of a neighbourhood; the pair itself is none of them."""
    alpha: float
    """Weight of local feature AD in [0, 1]."""
    convention: str
    """Of the cosine distances: ``authors`` (1 - cos) or ``halved`` ((1 - cos) / 2)."""
    rows: torch.Tensor
    """int64 `[n]`, which pairs of the set these are, ascending."""
    picture_scatter: torch.Tensor
    """Mean D_img of the pair's picture to those of its k nearest captions, in [0, 2]. Its mean over a set is the
    variance of the unit picture features given the caption."""
    local_feature_distance: torch.Tensor
    """D_img:txt, in [0, 1], of the pair's caption to the mean picture of the pair and its neighbours, which is brought
    to unit length: whether the average shows what the caption says."""
    local_structure_distance: torch.Tensor
    """D_s over the neighbours alone, mean |D_img - D_txt|, in [0, 2]: the scatter that the captions do not explain.
    With k = N - 1 it is N / (N - 1) D_s."""
    caption_spread: torch.Tensor
    """Mean D_txt of the pair's caption to its neighbours', in [0, 2]: how wide the neighbourhood is."""
    cells: torch.Tensor
    """int64 `[n]` group of near captions of each pair (:func:`caption_cells`)."""
    seed: int
    """Decided the cells and, where not all pairs are measured, the draw."""

    @property
    def local_sample_ad(self) -> torch.Tensor:
        """alpha * local feature distance + (1 - alpha) * local structure distance, of each pair."""
        return self.alpha * self.local_feature_distance + (1 - self.alpha) * self.local_structure_distance

    def interval(self, value: str) -> Estimate:
        """A set's value, one of ``VALUES``, with its normal interval over cells; NaN bounds for a single cell.

        Near captions share their neighbours, concepts and poison's targets, so that pairs are far from independent:
        what is drawn again is whole cells of captions (the variance that is robust to clusters, Liang and Zeger 1986,
        which is a bootstrap's over cells).
        """
        if value not in VALUES:
            raise ValueError(f"value is {value!r}: expected one of {', '.join(VALUES)}")
        scores = getattr(self, VALUES[value])
        mean = scores.mean()
        present, cell = torch.unique(self.cells, return_inverse=True)
        sums = torch.zeros(len(present), dtype=torch.float64).index_add_(0, cell, scores - mean)
        count = len(present)
        error = math.sqrt(sums.square().sum().item() * count / (count - 1)) / len(scores) if count > 1 else math.nan
        return normal_interval(mean.item(), error, n=len(scores))

    def summary(self) -> dict[str, Any]:
        """The set's numbers, JSON-serialisable: each with ``NAME_interval``, 95 % over cells (None for one cell)."""
        found = {}
        for name in VALUES:
            estimate = self.interval(name)
            found[name] = estimate.value
            found[f"{name}_interval"] = None if math.isnan(estimate.low) else [estimate.low, estimate.high]
        return {**found, "neighbours": self.neighbours, "local_pairs": len(self.rows), "local_seed": self.seed,
                "local_cells": len(torch.unique(self.cells))}  # fmt: skip


def local_difficulty(
    image: FeatureRows,
    text: FeatureRows,
    near: np.ndarray,
    near_cosines: np.ndarray,
    *,
    feature_range: tuple[float, float],
    rows: np.ndarray,
    alpha: float,
    convention: str,
    seed: int,
) -> LocalDifficulty:
    """Local AD of pairs whose nearest captions are known, in O(n k d) operations and memory that does not grow with N.

    Args:
        image: `[N, d]` unit image features.
        text: `[N, d]` unit text features of the same extractor.
        near: int `[n, k]`, the pairs with the nearest captions to each measured pair's, without the pair itself.
        near_cosines: fp `[n, k]`, the cosines of these captions.
        feature_range: (lo, hi) cosines that feature distance maps to 1 and 0.
        rows: int `[n]`, which pairs are measured.
        alpha: weight of local feature AD.
        convention: of the cosine distances.
        seed: decides the cells of :func:`caption_cells`.

    Raises:
        ValueError: on alpha outside [0, 1], lo >= hi or an unknown convention.
    """
    check_alpha(alpha)
    scale = convention_scale(convention)
    measured = torch.as_tensor(rows, dtype=torch.int64)
    parts = [
        _of_neighbourhoods(image, text, measured[part], torch.from_numpy(near[part]), near_cosines[part], feature_range)
        for part in row_slices(len(measured), _ROWS_AT_ONCE)
    ]
    scatter, spread, structure, feature = (torch.cat(column) for column in zip(*parts, strict=True))
    return LocalDifficulty(
        neighbours=near.shape[1], alpha=alpha, convention=convention, rows=measured, picture_scatter=scale * scatter,
        local_feature_distance=feature, local_structure_distance=scale * structure, caption_spread=scale * spread,
        cells=caption_cells(text, measured, seed), seed=seed,
    )  # fmt: skip


def caption_cells(text: FeatureRows, rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Which of ``CELLS`` captions, drawn of the pairs at ``rows`` `[n]`, is nearest to each of theirs, int64 `[n]`."""
    drawn = np.random.default_rng(seed).choice(len(rows), min(CELLS, len(rows)), replace=False)
    centres = text[rows[torch.from_numpy(np.sort(drawn))]]
    return torch.cat([
        (text[rows[part]] @ centres.T).argmax(dim=1).cpu() for part in row_slices(len(rows), _ROWS_AT_ONCE)
    ])  # fmt: skip


def _of_neighbourhoods(
    image: FeatureRows,
    text: FeatureRows,
    rows: torch.Tensor,
    near: torch.Tensor,
    near_cosines: np.ndarray,
    feature_range: tuple[float, float],
) -> tuple[torch.Tensor, ...]:
    """Scatter, spread and structure distance in 1 - cos, and feature distance, fp64 `[n]` each."""
    present, index = torch.unique(near, return_inverse=True)
    own, shown = image[rows].double(), image[present].double()[index]  # [n, d] and [n, k, d]
    picture_distance = 1 - torch.einsum("nd,nkd->nk", own, shown).cpu()
    caption_distance = 1 - torch.from_numpy(near_cosines).double()
    mean = torch.nn.functional.normalize(own + shown.sum(dim=1), dim=1)
    cosines = (mean * text[rows].double()).sum(dim=1).cpu()
    return (
        picture_distance.mean(dim=1), caption_distance.mean(dim=1),
        (picture_distance - caption_distance).abs().mean(dim=1), feature_distance(cosines, feature_range),
    )  # fmt: skip
