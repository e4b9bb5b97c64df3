"""The mean offset between the cones, and AD after a removal, against direct computation."""

from dataclasses import replace

import pytest
import torch

from explorer.alignment.difficulty import EstimationError, alignment_difficulty
from explorer.alignment.structure.distance import feature_statistics
from explorer.alignment.updates import difficulty_without, mean_offset

ESTIMATION = EstimationError(standard_error=0.1, variance=None)


def cone(n, d, seed, shift):
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows[:, 0] += shift
    return rows / rows.norm(dim=1, keepdim=True)


IMAGE, TEXT = cone(160, 12, 0, 4.0), cone(160, 12, 1, 1.0)


@pytest.mark.parametrize("convention", ["authors", "halved"])
def test_mean_offset_is_the_signed_mean_and_bounds_structure_distance(convention):
    scale = 1.0 if convention == "authors" else 0.5
    measured = alignment_difficulty(IMAGE, TEXT, convention=convention)
    offset = mean_offset(IMAGE, TEXT, measured, block=64)
    signed = scale * (IMAGE @ IMAGE.T - TEXT @ TEXT.T).mean(1)
    torch.testing.assert_close(offset.offset, signed, atol=1e-12, rtol=0)
    assert (offset.offset.abs() <= measured.structure_distance + 1e-9).all()
    assert offset.mean_absolute_offset == pytest.approx(signed.abs().mean().item())
    lengths = scale * (IMAGE.mean(0).square().sum() - TEXT.mean(0).square().sum()).item()
    assert offset.mean_offset == pytest.approx(lengths)


def test_known_statistics_change_nothing():
    measured = alignment_difficulty(IMAGE, TEXT)
    found, handed = (mean_offset(IMAGE, TEXT, measured, statistics=known) for known in
                     (None, feature_statistics(IMAGE, TEXT)))  # fmt: skip
    assert found.summary() == handed.summary()


def test_centred_structure_is_that_of_doubly_centred_kernels():
    measured = alignment_difficulty(IMAGE, TEXT)
    centring = torch.eye(160, dtype=torch.float64) - 1 / 160
    kernel = centring @ (IMAGE @ IMAGE.T - TEXT @ TEXT.T) @ centring
    centred = mean_offset(IMAGE, TEXT, measured, block=50).centred
    torch.testing.assert_close(centred.structure_distance, kernel.abs().mean(1), atol=1e-12, rtol=0)
    assert centred.feature_ad == measured.feature_ad
    assert centred.structure_ad < measured.structure_ad / 2, "these two cones differ mostly by their means"


@pytest.mark.parametrize("count", [0, 1, 40, 159])
def test_removal_equals_measuring_the_rest(count):
    measured = alignment_difficulty(IMAGE, TEXT, alpha=0.7)
    removed = torch.randperm(160, generator=torch.Generator().manual_seed(9))[:count]
    keep = torch.ones(160, dtype=torch.bool)
    keep[removed] = False
    rest = alignment_difficulty(IMAGE[keep], TEXT[keep], alpha=0.7)
    updated = difficulty_without(measured, IMAGE, TEXT, removed, block=16)
    assert updated.n == rest.n
    assert (updated.feature_ad, updated.structure_ad, updated.ad) == pytest.approx(
        (rest.feature_ad, rest.structure_ad, rest.ad), abs=1e-10
    )


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ([160], r"expected numbers in 0\.\.159"),
        ([-1], r"expected numbers in 0\.\.159"),
        ([3, 3], "1 rows twice"),
        (list(range(160)), "all 160 samples"),
    ],
)
def test_bad_removals_are_named(removed, message):
    measured = alignment_difficulty(IMAGE, TEXT)
    with pytest.raises(ValueError, match=message):
        difficulty_without(measured, IMAGE, TEXT, removed)


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"places": 1}, "the mean disparity to trusted landmarks"),
        ({"places": 1, "estimation": ESTIMATION}, "the mean disparity to trusted landmarks"),
        ({"estimation": ESTIMATION}, "estimated from drawn rows"),
    ],
)
def test_only_an_exact_measurement_of_all_pairs_can_lose_samples(changed, got):
    measured = replace(alignment_difficulty(IMAGE, TEXT), **changed)
    message = f"D_s of the measured set is {got}: expected that of all 160 samples to all, exactly"
    for refused in (measured, measured.with_alpha(0.5), mean_offset(IMAGE, TEXT, measured).centred):
        with pytest.raises(ValueError, match=message):
            difficulty_without(refused, IMAGE, TEXT, [3])


def test_features_of_another_set_are_refused():
    measured = alignment_difficulty(IMAGE, TEXT)
    with pytest.raises(ValueError, match="expected the 160 measured pairs"):
        mean_offset(IMAGE[:10], TEXT[:10], measured)
