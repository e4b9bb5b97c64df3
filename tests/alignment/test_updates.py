"""The mean offset between the cones against direct computation."""

import pytest
import torch

from explorer.alignment.difficulty import EstimationError, alignment_difficulty
from explorer.alignment.structure.distance import feature_statistics
from explorer.alignment.structure.tiles import structure_and_centred_row_sums
from explorer.alignment.updates import mean_offset

ESTIMATION = EstimationError(standard_error=0.1, variance=None)


def cone(n, d, seed, shift):
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows[:, 0] += shift
    return rows / rows.norm(dim=1, keepdim=True)


IMAGE, TEXT = cone(160, 12, 0, 4.0), cone(160, 12, 1, 1.0)


def offset_of(measured):
    sums = structure_and_centred_row_sums(IMAGE, TEXT, convention=measured.convention, block=50)
    statistics = feature_statistics(IMAGE, TEXT)
    return mean_offset(measured, centred_distance=sums[1] / len(IMAGE), statistics=statistics)


@pytest.mark.parametrize("convention", ["authors", "halved"])
def test_mean_offset_is_the_signed_mean_and_bounds_structure_distance(convention):
    scale = 1.0 if convention == "authors" else 0.5
    measured = alignment_difficulty(IMAGE, TEXT, convention=convention)
    offset = offset_of(measured)
    signed = scale * (IMAGE @ IMAGE.T - TEXT @ TEXT.T).mean(1)
    torch.testing.assert_close(offset.offset, signed, atol=1e-12, rtol=0)
    assert (offset.offset.abs() <= measured.structure_distance + 1e-9).all()
    assert offset.mean_absolute_offset == pytest.approx(signed.abs().mean().item())
    lengths = scale * (IMAGE.mean(0).square().sum() - TEXT.mean(0).square().sum()).item()
    assert offset.mean_offset == pytest.approx(lengths)


def test_centred_structure_is_that_of_doubly_centred_kernels():
    measured = alignment_difficulty(IMAGE, TEXT)
    centring = torch.eye(160, dtype=torch.float64) - 1 / 160
    kernel = centring @ (IMAGE @ IMAGE.T - TEXT @ TEXT.T) @ centring
    centred = offset_of(measured).centred
    torch.testing.assert_close(centred.structure_distance, kernel.abs().mean(1), atol=1e-12, rtol=0)
    assert centred.feature_ad == measured.feature_ad
    assert centred.structure_ad < measured.structure_ad / 2, "these two cones differ mostly by their means"
