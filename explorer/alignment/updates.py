"""What follows from a measured AD: the gap between the modalities' cones, and AD after samples are removed.

The two encoders of a CLIP put their unit rows into two cones with different mean vectors ("modality gap",
Liang et al., NeurIPS 2022). A part of every structure disparity is only that difference: it is the same for
all k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from explorer.alignment.difficulty import AlignmentDifficulty, EstimationError, compose
from explorer.alignment.structure.distance import FeatureRows, FeatureStatistics, convention_scale, feature_statistics
from explorer.alignment.structure.tiles import structure_row_sums


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanOffset:
    """How much of structure AD is structure, and how much the gap between the two cones."""

    image_mean_norm: float
    """|mean image feature|, in [0, 1]: 1 is a cone of no width."""
    text_mean_norm: float
    """|mean text feature|, in [0, 1]."""
    offset: torch.Tensor
    """`[N]` fp64, signed: <x_i, x_mean> - <y_i, y_mean> = mean over k of cos_img(i,k) - cos_txt(i,k), in the
    convention's units. ``|offset|`` bounds D_s from below."""
    mean_offset: float
    """Mean of ``offset``, |x_mean|^2 - |y_mean|^2: structure AD, were all disparities of one sign."""
    mean_absolute_offset: float
    """Mean of ``|offset|``: the least that structure AD can be, given each sample's mean disparity (not so
    where D_s is the distance to trusted landmarks: the mean is over all samples)."""
    centred: AlignmentDifficulty
    """AD with the same feature distances and the structure distances of mean-free features."""

    def summary(self) -> dict[str, Any]:
        """The numbers without tensors, JSON-serialisable."""
        return {
            "image_mean_norm": self.image_mean_norm,
            "text_mean_norm": self.text_mean_norm,
            "mean_offset": self.mean_offset,
            "mean_absolute_offset": self.mean_absolute_offset,
            "centred_structure_ad": self.centred.structure_ad,
            "centred_ad": self.centred.ad,
        }


@dataclass(frozen=True, kw_only=True)
class RemainingDifficulty:
    """AD of what is left of a set after some of its samples were removed."""

    n: int
    """Number of pairs left."""
    feature_ad: float
    """Feature AD of the pairs left."""
    structure_ad: float
    """Structure AD of the pairs left."""
    ad: float
    """alpha * feature_ad + (1 - alpha) * structure_ad, with the alpha of the measured set."""


def mean_offset(
    image: FeatureRows,
    text: FeatureRows,
    measured: AlignmentDifficulty,
    *,
    centred_distance: torch.Tensor | None = None,
    statistics: FeatureStatistics | None = None,
    block: int | None = None,
) -> MeanOffset:
    """Split structure AD into the cones' mean offset and the rest.

    The centred structure distance is ``|<x_i - x_mean, x_k - x_mean> - <y_i - y_mean, y_k - y_mean>|``: the
    disparity of the two doubly centred kernels (as in centred kernel alignment), without renormalisation,
    so that its units are those of structure AD.

    Args:
        image: `[N, d_image]` the image features that ``measured`` comes from.
        text: `[N, d_text]` its text features (one-hot labels in the label variant).
        measured: AD of these features.
        centred_distance: `[N]` fp64 centred D_s where it is known (``structure_and_centred_row_sums`` gives it with
            D_s itself); None computes it here, in a second pass over all pairs.
        statistics: of these features, where they are known; None finds them here, in two passes over the rows.
    """
    _check_same_set(image, text, measured)
    statistics = feature_statistics(image, text) if statistics is None else statistics
    offset = convention_scale(measured.convention) * statistics.offsets.cpu()
    if centred_distance is None:
        centred_distance = _centred_distance(image, text, statistics, measured, block)
    centred = compose(
        measured.feature_distance,
        centred_distance,
        alpha=measured.alpha,
        convention=measured.convention,
        feature_range=measured.feature_range,
        places=measured.places,
        # An estimator's error is known of D_s, not of its centred twin.
        estimation=measured.estimation and EstimationError(standard_error=math.nan, variance=None),
    )
    return MeanOffset(
        image_mean_norm=statistics.image_mean.norm().item(),
        text_mean_norm=statistics.text_mean.norm().item(),
        offset=offset,
        mean_offset=offset.mean().item(),
        mean_absolute_offset=offset.abs().mean().item(),
        centred=centred,
    )


def difficulty_without(
    measured: AlignmentDifficulty,
    image: torch.Tensor,
    text: torch.Tensor,
    removed: torch.Tensor | Sequence[int],
    *,
    block: int | None = None,
) -> RemainingDifficulty:
    """AD of the set without the samples ``removed``, from O(|R|^2) pairs only.

    With S the sum of disparities over all ordered pairs, ``S' = S - 2 sum_{i in R} rowsum_i + S_RR``: the
    pairs with one end in R are subtracted twice by the pairs with both, which S_RR gives back.

    Args:
        measured: exact AD over all pairs; a sum of estimated D_s, or of those to trusted landmarks, is no S.
        image: `[N, d_image]` the image features that ``measured`` comes from.
        text: `[N, d_text]` its text features (one-hot labels in the label variant).
        removed: row numbers in 0..N-1, each at most once.

    Raises:
        ValueError: where D_s was estimated or measured against landmarks, on a row number out of range or given twice,
            or where no sample would be left.
    """
    _check_all_pairs(measured)
    _check_same_set(image, text, measured)
    removed = _row_numbers(removed, measured.n)
    left = measured.n - len(removed)
    sums = measured.structure_distance * measured.n
    total = sums.sum().item()
    if len(removed):
        at = removed.to(image.device)
        within = structure_row_sums(image[at], text[at], convention=measured.convention, block=block)
        total += within.sum().item() - 2 * sums[removed].sum().item()
    feature_sum = measured.feature_distance.sum() - measured.feature_distance[removed].sum()
    feature_ad, structure_ad = feature_sum.item() / left, total / left**2
    ad = measured.alpha * feature_ad + (1 - measured.alpha) * structure_ad
    return RemainingDifficulty(n=left, feature_ad=feature_ad, structure_ad=structure_ad, ad=ad)


def _centred_distance(
    image: FeatureRows,
    text: FeatureRows,
    statistics: FeatureStatistics,
    measured: AlignmentDifficulty,
    block: int | None,
) -> torch.Tensor:
    centred = []
    for rows, mean in ((image, statistics.image_mean), (text, statistics.text_mean)):
        precision = torch.float64 if rows.dtype == torch.float64 else torch.float32
        centred.append(rows[:].to(precision) - mean.to(precision))
    sums = structure_row_sums(*centred, convention=measured.convention, zero_diagonal=False, block=block)
    return sums / measured.n


def _check_all_pairs(measured: AlignmentDifficulty) -> None:
    if measured.places == 2 and measured.exact:
        return
    got = "estimated from drawn rows" if measured.places == 2 else "the mean disparity to trusted landmarks"
    raise ValueError(f"D_s of the measured set is {got}: expected that of all {measured.n} samples to all, exactly")


def _check_same_set(image: FeatureRows, text: FeatureRows, measured: AlignmentDifficulty) -> None:
    if len(image) != measured.n or len(text) != measured.n:
        raise ValueError(
            f"got {len(image)} image and {len(text)} text features: expected the {measured.n} measured pairs"
        )


def _row_numbers(removed: torch.Tensor | Sequence[int], n: int) -> torch.Tensor:
    rows = torch.as_tensor(removed).cpu().long().flatten()
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(f"removed holds rows {rows.min()} to {rows.max()}: expected numbers in 0..{n - 1}")
    if len(torch.unique(rows)) != len(rows):
        raise ValueError(f"removed holds {len(rows) - len(torch.unique(rows))} rows twice: expected each once")
    if len(rows) >= n:
        raise ValueError(f"removed holds all {n} samples: expected at least one to be left")
    return rows
