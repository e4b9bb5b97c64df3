"""Alignment Difficulty (AD) of a set of image/text pairs.

Ding et al., "Understanding Implosion in Text-to-Image Generative Models", CCS 2024: Eq. 1 (AD), Eq. 4 (AD
of one sample), section 5.1 (the distances), section 5.4 (the variant for class labels). Eq. 1 as printed
omits the 1/N^2 of its second term; the paper's tables have it, and so does this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from explorer.alignment.structure.distance import (
    FeatureRows,
    check_unit_rows,
    convention_scale,
    disparity_bound,
    parts_of,
)
from explorer.alignment.structure.tiles import structure_row_sums
from explorer.core.intervals import Estimate, normal_interval

AUTHORS_FEATURE_RANGE = (0.20, 0.45)
"""The paper's cosine range of CLIP ViT-B/32 on LAION; it belongs to that extractor and world only."""


@dataclass(frozen=True, kw_only=True)
class EstimationError:
    """What is known of the error that estimating every D_s from drawn samples makes."""

    standard_error: float
    """Of the mean D_s against that of all N samples, over draws; NaN where it is undefined."""
    variance: float | None
    """Of the exact D_s over the samples, as far as the draw tells it: estimating each of them adds to their spread or
    takes from it. None takes that of the estimated ones."""


@dataclass(frozen=True, kw_only=True)
class ComposedDifficulty:
    """AD of N pairs and its parts with standard errors."""

    n: int
    """Number of pairs N."""
    alpha: float
    """Weight of feature AD in [0, 1]."""
    convention: str
    """Structure distance ``authors`` (1 - cos) or ``halved`` ((1 - cos) / 2)."""
    feature_range: tuple[float, float] | None
    """Cosines mapped to distance 1 and 0; None in the label variant, whose feature distance is 0 or 1."""
    feature_ad: float
    """Mean of D_img:txt, in [0, 1]."""
    structure_ad: float
    """Mean of |D_img - D_txt| over all ordered pairs of samples, zero diagonal included."""
    ad: float
    """alpha * feature_ad + (1 - alpha) * structure_ad."""
    feature_ad_standard_error: float
    """sd(D_img:txt) / sqrt(N); NaN for N = 1."""
    structure_ad_standard_error: float
    """places sd(D_s) / sqrt(N), an estimator's own error added in squares and its noise taken out of sd(D_s); NaN for
    N = 1."""
    ad_standard_error: float
    """sd(alpha D_img:txt + places (1 - alpha) D_s) / sqrt(N), an estimate treated likewise; NaN for N = 1."""
    clipped_below: float
    """Share of pairs whose cosine is at most the feature range's lo, and their distance 1, in [0, 1]."""
    clipped_above: float
    """Share of pairs whose cosine is at least its hi, and their distance 0."""

    def interval(self, part: str = "ad") -> Estimate:
        """Normal 95 % interval of ``ad``, ``feature_ad`` or ``structure_ad`` seen as a population value."""
        if part not in ("ad", "feature_ad", "structure_ad"):
            raise ValueError(f"part is {part!r}: expected ad, feature_ad or structure_ad")
        value, error = getattr(self, part), getattr(self, f"{part}_standard_error")
        return normal_interval(value, error, n=self.n)

    def summary(self) -> dict[str, Any]:
        """The numbers alone, JSON-serialisable; an undefined standard error is None."""
        names = ("feature_ad", "structure_ad", "ad")
        errors = {f"{name}_standard_error": getattr(self, f"{name}_standard_error") for name in names}
        clipped = {"clipped_below": self.clipped_below, "clipped_above": self.clipped_above}
        return {
            **{name: getattr(self, name) for name in names},
            **{name: None if math.isnan(error) else error for name, error in errors.items()},
            "alpha": self.alpha,
            "convention": self.convention,
            "n": self.n,
            "feature_range": None if self.feature_range is None else list(self.feature_range),
            **({} if self.feature_range is None else clipped),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentDifficulty(ComposedDifficulty):
    """The same with every pair's own share (fp64 tensors, CPU)."""

    feature_distance: torch.Tensor
    """`[N]` D_img:txt of each pair, in [0, 1]."""
    structure_distance: torch.Tensor
    """`[N]` D_s of each pair: its mean structure disparity to all N samples, itself included."""
    sample_ad: torch.Tensor
    """`[N]` AD(x, y) of each pair (Eq. 4); its mean is ``ad``."""
    places: int = 2
    """In how many places of a pair of samples the measured ones stand: 2, or 1 where D_s is the distance to landmarks
    that stay the same whatever is measured."""
    estimation: EstimationError | None = None
    """What estimating D_s from drawn samples adds to the standard errors; None where D_s is exact."""

    @property
    def exact(self) -> bool:
        """Whether D_s is computed from all N samples."""
        return self.estimation is None

    def with_alpha(self, alpha: float) -> AlignmentDifficulty:
        """The same distances composed with another alpha, in O(N)."""
        return compose(
            self.feature_distance,
            self.structure_distance,
            alpha=alpha,
            convention=self.convention,
            feature_range=self.feature_range,
            places=self.places,
            estimation=self.estimation,
        )


def alignment_difficulty(
    image: torch.Tensor,
    text: torch.Tensor,
    *,
    alpha: float = 0.8,
    feature_range: tuple[float, float] = AUTHORS_FEATURE_RANGE,
    convention: str = "authors",
    block: int | None = None,
    precision: str | None = None,
) -> AlignmentDifficulty:
    """Exact AD of N image/text pairs (Eq. 1) in O(N^2 d) operations and O(N) memory beyond one tile.

    Args:
        image: `[N, d]` L2-normalised image features; row i is paired with row i of ``text``.
        text: `[N, d]` L2-normalised text features of the same extractor.
        alpha: weight of feature AD in [0, 1].
        feature_range: ``(lo, hi)`` cosines between which D_img:txt falls from 1 to 0; calibrated on benign
            pairs.
        convention: ``authors`` or ``halved`` structure distance.
        block: samples on a tile's side; None chooses one that fits memory.
        precision: ``fp16``, ``fp32`` or ``fp64`` operands of the structure distances; None is fp64 for fp64 features
            and fp32 for all others.

    Raises:
        ValueError: on shapes that do not match, rows with NaN or a norm other than 1 (their numbers are
            named), lo >= hi, alpha outside [0, 1] or an unknown convention.
    """
    largest = disparity_bound(check_unit_rows("image", image), check_unit_rows("text", text))
    if image.shape != text.shape:
        raise ValueError(f"image has shape {list(image.shape)} and text {list(text.shape)}: expected the same")
    check_alpha(alpha)
    convention_scale(convention)
    distance = feature_distance(paired_cosines(image, text), feature_range)
    sums = structure_row_sums(image, text, convention=convention, block=block, precision=precision, largest=largest)
    return compose(distance, sums / len(image), alpha=alpha, convention=convention, feature_range=feature_range)


def one_hot_labels(labels: torch.Tensor | Sequence[int], image: torch.Tensor) -> torch.Tensor:
    """Labels `[N]` as unit text features `[N, classes present]`, of ``image``'s device and dtype: two have the cosine 1
    where they are equal and 0 where not."""
    classes, index = torch.unique(torch.as_tensor(labels).cpu(), return_inverse=True)
    return torch.nn.functional.one_hot(index, len(classes)).to(device=image.device, dtype=image.dtype)


def compose(
    feature_distances: torch.Tensor,
    structure_distances: torch.Tensor,
    *,
    alpha: float,
    convention: str,
    feature_range: tuple[float, float] | None,
    places: int = 2,
    estimation: EstimationError | None = None,
) -> AlignmentDifficulty:
    """AD from every sample's D_img:txt `[N]` and D_s `[N]` (fp64), in O(N).

    ``places`` is 1 where D_s is the distance to fixed landmarks, and ``estimation`` is given where it is estimated (see
    ``AlignmentDifficulty``).
    """
    covariance = torch.full((2, 2), math.nan)
    if len(feature_distances) > 1:
        covariance = torch.stack([feature_distances, structure_distances]).double().cov()
    return AlignmentDifficulty(
        **composition(
            n=len(feature_distances), feature_ad=feature_distances.mean().item(),
            structure_ad=structure_distances.mean().item(), covariance=covariance.tolist(), alpha=alpha, places=places,
            estimation=estimation,
        ),
        **clipped_shares(feature_distances),
        convention=convention,
        feature_range=feature_range,
        feature_distance=feature_distances,
        structure_distance=structure_distances,
        sample_ad=alpha * feature_distances + (1 - alpha) * structure_distances,
        places=places,
        estimation=estimation,
    )  # fmt: skip


def composition(
    *,
    n: int,
    feature_ad: float,
    structure_ad: float,
    covariance: Sequence[Sequence[float]],
    alpha: float,
    places: int,
    estimation: EstimationError | None,
) -> dict[str, Any]:
    """The fields of ``ComposedDifficulty`` that follow from the means of D_img:txt and D_s and their `[2, 2]` sample
    covariance (not read for N = 1).

    Which pairs the set consists of and which of them an estimator draws are independent: their variances add up.
    """
    check_alpha(alpha)
    values = {"feature_ad": feature_ad, "structure_ad": structure_ad,
              "ad": alpha * feature_ad + (1 - alpha) * structure_ad}  # fmt: skip
    errors = (math.nan, math.nan, math.nan)
    if n > 1:
        (of_feature, mixed), (_, of_structure) = covariance
        drawing = 0.0
        if estimation is not None:
            drawing = estimation.standard_error**2
            of_structure = of_structure if estimation.variance is None else estimation.variance
        beta = places * (1 - alpha)
        influence = alpha**2 * of_feature + beta**2 * of_structure + 2 * alpha * beta * mixed
        errors = (
            math.sqrt(of_feature / n),
            math.sqrt(places**2 * of_structure / n + drawing),
            math.sqrt(of_feature / n if alpha == 1 else max(influence, 0.0) / n + (1 - alpha) ** 2 * drawing),
        )
    named = {f"{name}_standard_error": error for name, error in zip(values, errors, strict=True)}
    return {"n": n, "alpha": float(alpha), **values, **named}


def paired_cosines(image: FeatureRows, text: FeatureRows) -> torch.Tensor:
    """Cosine of each pair's two unit rows, `[N, d]` and `[N, d]` -> `[N]` fp64 on the CPU."""
    precision = torch.float64 if image.dtype == torch.float64 else torch.float32
    cosines = torch.empty(len(image), dtype=torch.float64, device=image.device)
    for rows in parts_of(image):
        cosines[rows] = (image[rows].to(precision) * text[rows].to(precision)).sum(dim=1)
    return cosines.cpu()


def feature_distance(cosines: torch.Tensor, feature_range: tuple[float, float]) -> torch.Tensor:
    """D_img:txt = 1 - clip((cos - lo) / (hi - lo), 0, 1) (section 5.1), elementwise, in [0, 1]."""
    check_feature_range(feature_range)
    low, high = feature_range
    return 1 - ((cosines - low) / (high - low)).clamp(0, 1)


def clipped_shares(distances: torch.Tensor) -> dict[str, float]:
    """By how much the feature range clips D_img:txt `[N]`: pairs that it can no longer tell apart, in [0, 1] each.

    ``clipped_below`` is the share of pairs whose cosine is at most lo, and their distance 1; ``clipped_above`` that of
    pairs whose cosine is at least hi, and their distance 0.
    """
    n = max(len(distances), 1)
    return {"clipped_below": int((distances >= 1).sum()) / n, "clipped_above": int((distances <= 0).sum()) / n}


def calibrate_feature_range(cosines: Any, low: float = 0.01, high: float = 0.99) -> tuple[float, float]:
    """(lo, hi) of the feature distance: two quantiles of the paired cosines of *benign* pairs, `[N]`.

    Calibrate once, store the result with the extractor, and never do it on poisoned pairs: a range that
    stretches with the poison hides it.

    Raises:
        ValueError: without cosines, on NaN, unless 0 <= low < high <= 1, or where both quantiles are equal.
    """
    values = np.asarray(cosines, dtype=np.float64).ravel()
    if not 0 <= low < high <= 1:
        raise ValueError(f"quantiles are low {low} and high {high}: expected 0 <= low < high <= 1")
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"got {len(values)} cosines, NaN or none among them: expected at least two finite ones")
    lo, hi = (float(value) for value in np.quantile(values, [low, high]))
    if lo >= hi:
        raise ValueError(f"both quantiles of {len(values)} cosines are {lo:.4g}: expected lo < hi")
    return lo, hi


def check_feature_range(feature_range: tuple[float, float]) -> None:
    """Refuse cosines (lo, hi) that are not finite and ascending."""
    low, high = feature_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"feature_range is ({low}, {high}): expected finite lo < hi")


def check_alpha(alpha: float) -> None:
    """Refuse a weight outside [0, 1] (NaN included)."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}: expected a weight in [0, 1]")
