"""AD of a set of any size from landmarks: every pair is scored, handed on and forgotten; what stays are sums.

Memory depends on the landmarks and the widths, not on N. Sums are of blocks, which are the same however many workers
share them, in fixed point: so are the bits of every result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from explorer.alignment.difficulty import (
    ComposedDifficulty,
    EstimationError,
    check_feature_range,
    composition,
    feature_distance,
    paired_cosines,
)
from explorer.alignment.structure.check import TOLERANCES, RowCheck, SelfCheck, checked_positions
from explorer.alignment.structure.columns import BlockEstimates, ColumnSums, column_pass
from explorer.alignment.structure.controls import ControlVariates, choose_controls
from explorer.alignment.structure.distance import FeatureRows, SetMeans, convention_scale
from explorer.alignment.structure.fixed_point import FixedPointSums
from explorer.alignment.structure.set_statistics import set_statistics
from explorer.core.sampling_design import Draw
from explorer.core.share import ALONE, Share

Take = Callable[[slice, dict[str, np.ndarray]], None]
"""Takes rows and, by name, their fp64 scores: feature_distance, structure_distance (D_s) and sample_ad, AD(x, y)."""

_MOMENTS = (
    "pairs", "feature", "structure", "feature_squares", "structure_squares", "mixed", "noise", "centred",
    "absolute_offset", "clipped_below", "clipped_above",
)  # fmt: skip
_LARGEST_TERM = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedDifficulty:
    """AD of N pairs whose scores were handed on, and how good the estimate is."""

    difficulty: ComposedDifficulty
    """AD and its parts."""
    offset: dict[str, float]
    """What ``MeanOffset.summary`` says, of the same set."""
    standard_error: float
    """Of structure AD against that of all pairs, over draws; NaN where it is undefined."""
    controls: ControlVariates
    """The control variates that were used."""
    drawn: torch.Tensor
    """`[m]` int64 landmarks, ascending."""
    drawn_distance: torch.Tensor
    """`[m]` fp64 their D_s to all N: exact."""
    rank_correlation: float
    """Spearman's, of the landmarks' estimated and exact D_s; NaN where landmarks are trusted ones, whose mean disparity
    is not an estimate of D_s, or all are equal."""
    check: SelfCheck
    """Some landmarks' D_s against their definition in fp64."""


def stream_landmarks(
    image: FeatureRows,
    text: FeatureRows,
    draw: Draw,
    take: Take,
    *,
    feature_range: tuple[float, float],
    alpha: float,
    convention: str,
    precision: str,
    seed: int,
    twin: bool = True,
    trusted: bool = False,
    share: Share = ALONE,
) -> StreamedDifficulty:
    """Score every pair against drawn landmarks, in two passes over the rows.

    Args:
        image: `[N, d_image]` unit rows, read in parts.
        text: `[N, d_text]` unit rows on the same device.
        draw: the landmarks, drawn evenly.
        take: handed the scores of each block of rows that this worker has, in order.
        seed: decides which landmarks are checked.
        twin: whether the squared twin may be a control variate where it pays; it takes time on top.
        trusted: the landmarks are of trusted rows: there are no control variates, whose means are known of all rows
            only.

    Raises:
        ValueError: on a feature range that is none, rows that are no unit rows, and on what ``column_pass`` refuses.
        ArithmeticError: if not every row was counted.
    """
    check_feature_range(feature_range)
    at = draw.rows.to(image.device)
    controls = ControlVariates() if trusted else choose_controls(image[at], text[at], twin=twin)
    means, products = set_statistics(image, text, share, products=bool(controls.twin))
    controls = controls.with_products(products)
    chosen = checked_positions(draw.rows, seed)
    moments = _Moments(
        image, text, draw, RowCheck(image, text, draw.rows[chosen]), take, feature_range=feature_range, alpha=alpha,
        scale=convention_scale(convention),
    )  # fmt: skip
    sums = column_pass(
        image, text, draw, moments.add, precision=precision, share=share, statistics=means, controls=controls
    )
    found = moments.value(share)
    if found["pairs"] != len(image):
        raise ArithmeticError(f"{found['pairs']:.0f} of {len(image)} pairs were counted: expected all")
    estimates = share.total(moments.drawn_estimates).cpu()
    exact = moments.scale * sums.absolute / len(image)
    deviation = (moments.check.distances(convention, share) - exact[chosen]).abs().max().item()
    rows = tuple(draw.rows[chosen].tolist())
    return StreamedDifficulty(
        **_composed(
            found, sums, draw, means, moments.scale, alpha, convention, feature_range, places=1 if trusted else 2
        ),
        controls=controls,
        drawn=draw.rows,
        drawn_distance=exact,
        rank_correlation=math.nan if trusted else rank_correlation(estimates.numpy(), exact.numpy()),
        check=SelfCheck(rows=rows, largest_deviation=deviation, tolerance=TOLERANCES[precision]),
    )


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of two `[n]` arrays; NaN where one of them does not vary."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    # Equal values share the mean of their places. scipy.stats would take longer to import than this takes.
    ranks = [np.searchsorted(np.sort(part), part, side).astype(float)
             for part in (one, other) for side in ("left", "right")]  # fmt: skip
    return float(np.corrcoef(ranks[0] + ranks[1], ranks[2] + ranks[3])[0, 1])


class _Moments:
    """Scores blocks, hands the scores on, and adds up what is wanted of them."""

    def __init__(
        self,
        image: FeatureRows,
        text: FeatureRows,
        draw: Draw,
        check: RowCheck,
        take: Take,
        *,
        feature_range: tuple[float, float],
        alpha: float,
        scale: float,
    ) -> None:
        self.feature_range, self.alpha, self.scale = feature_range, alpha, scale
        self.check, self.take, self.drawn = check, take, draw.rows
        self.sums = FixedPointSums(len(_MOMENTS), _LARGEST_TERM * len(image), image.device)
        self.drawn_estimates = torch.zeros(len(draw.rows), dtype=torch.float64, device=image.device)

    def add(self, block: BlockEstimates) -> None:
        self.check.add(block.rows, block.image, block.text)
        feature = feature_distance(paired_cosines(block.image, block.text), self.feature_range)
        structure, centred, offset = (
            self.scale * part.cpu() for part in (block.means, block.centred, block.offsets.abs())
        )
        first, end = (int(torch.searchsorted(self.drawn, edge)) for edge in (block.rows.start, block.rows.stop))
        self.drawn_estimates[first:end] = structure[self.drawn[first:end] - block.rows.start].to(self.drawn_estimates)
        terms = {
            "pairs": torch.ones_like(feature), "feature": feature, "structure": structure,
            "feature_squares": feature.square(), "structure_squares": structure.square(), "mixed": feature * structure,
            # One landmark has no variance; then there is no standard error either.
            "noise": self.scale**2 * block.variances.cpu().nan_to_num(nan=0.0).clamp(min=0), "centred": centred,
            "absolute_offset": offset, "clipped_below": (feature >= 1).double(),
            "clipped_above": (feature <= 0).double(),
        }  # fmt: skip
        self.sums.add(slice(None), torch.stack([terms[name].sum() for name in _MOMENTS]).to(self.sums.units.device))
        sample_ad = self.alpha * feature + (1 - self.alpha) * structure
        scores = {"feature_distance": feature, "structure_distance": structure, "sample_ad": sample_ad}
        self.take(block.rows, {name: part.numpy() for name, part in scores.items()})

    def value(self, share: Share) -> dict[str, float]:
        """The sums of all workers by name."""
        return dict(zip(_MOMENTS, self.sums.value(share).tolist(), strict=True))


def _composed(
    found: dict[str, float],
    sums: ColumnSums,
    draw: Draw,
    means: SetMeans,
    scale: float,
    alpha: float,
    convention: str,
    feature_range: tuple[float, float],
    places: int,
) -> dict[str, Any]:
    """``difficulty``, ``offset`` and ``standard_error`` from the sums over all N pairs."""
    n = round(found["pairs"])
    feature, structure, centred, offset = (
        found[name] / n for name in ("feature", "structure", "centred", "absolute_offset")
    )
    error = draw.standard_error(scale * sums.residuals / n)
    covariance = [
        [(found[name] - n * product) / max(n - 1, 1) for name, product in pairs]
        for pairs in (
            (("feature_squares", feature**2), ("mixed", feature * structure)),
            (("mixed", feature * structure), ("structure_squares", structure**2)),
        )
    ]
    covariance[0][0], covariance[1][1] = max(covariance[0][0], 0.0), max(covariance[1][1], 0.0)
    # Estimating every D_s adds noise to their spread, but for the part that all samples share.
    noise = found["noise"] / n - error**2
    variance = max(covariance[1][1] - max(noise, 0.0), 0.0)
    difficulty = ComposedDifficulty(
        **composition(
            n=n, feature_ad=feature, structure_ad=structure, covariance=covariance, alpha=alpha, places=places,
            estimation=EstimationError(standard_error=error, variance=variance),
        ),
        convention=convention, feature_range=feature_range, clipped_below=found["clipped_below"] / n,
        clipped_above=found["clipped_above"] / n,
    )  # fmt: skip
    norms = {f"{name}_mean_norm": mean.norm().item() for name, mean in
             (("image", means.image_mean), ("text", means.text_mean))}  # fmt: skip
    return {
        "difficulty": difficulty,
        "standard_error": error,
        "offset": {
            **norms, "mean_offset": scale * means.mean, "mean_absolute_offset": offset, "centred_structure_ad": centred,
            "centred_ad": alpha * feature + (1 - alpha) * centred,
        },
    }  # fmt: skip
