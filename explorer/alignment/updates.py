"""What follows from a measured AD: how much of it is the gap between the modalities' cones.

The two encoders of a CLIP put their unit rows into two cones with different mean vectors ("modality gap",
Liang et al., NeurIPS 2022). A part of every structure disparity is only that difference: it is the same for
all k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from explorer.alignment.difficulty import AlignmentDifficulty, EstimationError, compose
from explorer.alignment.structure.distance import FeatureStatistics, convention_scale


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


def mean_offset(
    measured: AlignmentDifficulty, *, centred_distance: torch.Tensor, statistics: FeatureStatistics
) -> MeanOffset:
    """Split structure AD into the cones' mean offset and the rest.

    The centred structure distance is ``|<x_i - x_mean, x_k - x_mean> - <y_i - y_mean, y_k - y_mean>|``: the
    disparity of the two doubly centred kernels (as in centred kernel alignment), without renormalisation,
    so that its units are those of structure AD.

    Args:
        measured: AD of N pairs.
        centred_distance: `[N]` fp64 their centred D_s (``structure_and_centred_row_sums`` gives it with D_s itself).
        statistics: of their features.
    """
    offset = convention_scale(measured.convention) * statistics.offsets.cpu()
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
