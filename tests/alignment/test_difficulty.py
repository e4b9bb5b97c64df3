"""AD against a three-line fp64 reference, its invariants, the paper's arithmetic, and what it refuses."""

import math

import pytest
import torch

from explorer.alignment.difficulty import (
    EstimationError,
    alignment_difficulty,
    calibrate_feature_range,
    compose,
)
from explorer.alignment.structure.estimators import landmark_estimate

RANGE = (-0.2, 0.5)


def unit_rows(n, d, seed, dtype=torch.float32):
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.3
    return (rows / rows.norm(dim=1, keepdim=True)).to(dtype)


def reference(image, text, alpha, feature_range, convention):
    """Eq. 1 written down: every pair, fp64."""
    x, y, scale = image.double(), text.double(), 1.0 if convention == "authors" else 0.5
    feature = (1 - (((x * y).sum(1) - feature_range[0]) / (feature_range[1] - feature_range[0])).clamp(0, 1)).mean()
    structure = scale * ((1 - x @ x.T) - (1 - y @ y.T)).abs().mean()
    return feature.item(), structure.item(), (alpha * feature + (1 - alpha) * structure).item()


@pytest.mark.parametrize("convention", ["authors", "halved"])
@pytest.mark.parametrize("block", [None, 1, 37, 128, 300])
def test_agrees_with_the_fp64_reference(convention, block):
    image, text = unit_rows(300, 24, 0), unit_rows(300, 24, 1)
    result = alignment_difficulty(image, text, alpha=0.8, feature_range=RANGE, convention=convention, block=block)
    expected = reference(image, text, 0.8, RANGE, convention)
    assert (result.feature_ad, result.structure_ad, result.ad) == pytest.approx(expected, abs=1e-6)


def test_fp16_features_agree_with_the_reference_on_the_same_rows():
    image, text = unit_rows(200, 64, 0, torch.float16), unit_rows(200, 64, 1, torch.float16)
    result = alignment_difficulty(image, text, feature_range=RANGE, block=64)
    assert result.ad == pytest.approx(reference(image, text, 0.8, RANGE, "authors")[2], abs=1e-5)


def test_per_sample_distances_agree_with_the_reference():
    image, text = unit_rows(90, 8, 0, torch.float64), unit_rows(90, 8, 1, torch.float64)
    result = alignment_difficulty(image, text, feature_range=RANGE, block=32)
    disparity = (image @ image.T - text @ text.T).abs().fill_diagonal_(0)
    torch.testing.assert_close(result.structure_distance, disparity.mean(1), atol=1e-13, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_parts_compose_and_sample_ad_has_mean_ad(alpha):
    result = alignment_difficulty(unit_rows(257, 16, 2), unit_rows(257, 16, 3), alpha=alpha, block=100)
    assert result.ad == alpha * result.feature_ad + (1 - alpha) * result.structure_ad
    assert result.sample_ad.mean().item() == pytest.approx(result.ad, rel=1e-14)
    assert result.with_alpha(alpha).ad == result.ad


@pytest.mark.parametrize(("feature", "structure", "ad"), [(0.514, 0.1493, 0.441), (0.703, 0.1440, 0.592)])
def test_the_papers_rows_compose(feature, structure, ad):
    parts = [torch.tensor([value], dtype=torch.float64) for value in (feature, structure)]
    composed = compose(*parts, alpha=0.8, convention="authors", feature_range=None)
    assert composed.ad == pytest.approx(ad, abs=1e-3), "the paper rounds its parts to three digits"


def test_halved_convention_halves_structure_only():
    image, text = unit_rows(50, 8, 0), unit_rows(50, 8, 1)
    authors = alignment_difficulty(image, text, convention="authors")
    halved = alignment_difficulty(image, text, convention="halved")
    assert halved.structure_ad == pytest.approx(authors.structure_ad / 2, rel=1e-12)
    assert halved.feature_ad == authors.feature_ad


def test_structure_is_zero_for_isometric_spaces_and_order_does_not_matter():
    image = unit_rows(120, 12, 0, torch.float64)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(5)).double()).Q
    assert alignment_difficulty(image, image @ rotation, block=50).structure_ad < 1e-12
    text = unit_rows(120, 12, 1, torch.float64)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(6))
    shuffled = alignment_difficulty(image[order], text[order], block=50)
    straight = alignment_difficulty(image, text, block=50)
    torch.testing.assert_close(shuffled.structure_distance, straight.structure_distance[order], atol=1e-12, rtol=0)


def test_same_input_gives_the_same_bits():
    image, text = unit_rows(150, 16, 0), unit_rows(150, 16, 1)
    runs = [alignment_difficulty(image, text, block=64).sample_ad for _ in range(2)]
    assert torch.equal(*runs)


def test_standard_errors_follow_the_influence_function():
    result = alignment_difficulty(unit_rows(80, 8, 0), unit_rows(80, 8, 1), alpha=0.6, feature_range=(-0.9, 0.9))
    f, s = result.feature_distance, result.structure_distance
    assert result.feature_ad_standard_error == pytest.approx(f.std().item() / math.sqrt(80))
    assert result.structure_ad_standard_error == pytest.approx(2 * s.std().item() / math.sqrt(80))
    psi = 0.6 * f + 2 * 0.4 * s
    assert result.ad_standard_error == pytest.approx(psi.std().item() / math.sqrt(80))
    interval = result.interval("ad")
    assert interval.high - interval.low == pytest.approx(2 * 1.959964 * result.ad_standard_error, rel=1e-6)


def test_standard_error_matches_the_spread_over_fresh_samples():
    def draw(seed):
        return alignment_difficulty(unit_rows(100, 4, seed), unit_rows(100, 4, seed + 10_000))

    runs = [draw(seed) for seed in range(150)]
    spread = torch.tensor([run.structure_ad for run in runs]).std().item()
    predicted = sum(run.structure_ad_standard_error for run in runs) / len(runs)
    assert predicted == pytest.approx(spread, rel=0.25)


def test_a_sample_counts_once_where_the_landmarks_are_fixed():
    landmarks = unit_rows(40, 4, 1).double(), unit_rows(40, 4, 2).double()

    def draw(seed):
        image, text = unit_rows(100, 4, seed).double(), unit_rows(100, 4, seed + 10_000).double()
        structure = (image @ landmarks[0].T - text @ landmarks[1].T).abs().mean(1)
        feature = torch.zeros(100, dtype=torch.float64)
        return compose(feature, structure, alpha=0.5, convention="authors", feature_range=RANGE, places=1)

    runs = [draw(seed) for seed in range(3, 153)]
    spread = torch.tensor([run.structure_ad for run in runs]).std().item()
    predicted = sum(run.structure_ad_standard_error for run in runs) / len(runs)
    assert predicted == pytest.approx(spread, rel=0.25)
    assert runs[0].ad_standard_error == pytest.approx(0.5 * runs[0].structure_ad_standard_error)
    assert runs[0].with_alpha(0.2).structure_ad_standard_error == runs[0].structure_ad_standard_error


def test_an_estimates_own_error_is_part_of_the_standard_errors_and_of_the_interval():
    distances = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"alpha": 0.6, "convention": "authors", "feature_range": RANGE}
    exact = compose(distances, distances.flip(0), **options)
    estimated = compose(
        distances, distances.flip(0), **options, estimation=EstimationError(standard_error=0.3, variance=None)
    )
    assert estimated.feature_ad_standard_error == exact.feature_ad_standard_error
    assert estimated.structure_ad_standard_error**2 == pytest.approx(exact.structure_ad_standard_error**2 + 0.09)
    assert estimated.ad_standard_error**2 == pytest.approx(exact.ad_standard_error**2 + (0.4 * 0.3) ** 2)
    assert estimated.interval("ad").high - estimated.ad == pytest.approx(1.959964 * estimated.ad_standard_error)
    assert estimated.with_alpha(1.0).ad_standard_error == exact.with_alpha(1.0).ad_standard_error


def test_without_weight_on_structure_an_undefined_error_of_the_estimator_is_none_of_ads():
    distances = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unknown = EstimationError(standard_error=math.nan, variance=math.nan)
    result = compose(distances, distances, alpha=1.0, convention="authors", feature_range=RANGE, estimation=unknown)
    assert result.ad_standard_error == result.feature_ad_standard_error > 0
    assert math.isnan(result.structure_ad_standard_error)
    assert math.isnan(result.with_alpha(0.5).ad_standard_error)


@pytest.mark.parametrize("count", [8, 60])
def test_with_estimates_the_standard_error_still_is_the_spread_over_fresh_samples(count):
    """From few landmarks to many: both what the pairs are and which of them are drawn differ from run to run."""

    def draw(seed):
        image, text = unit_rows(100, 4, seed), unit_rows(100, 4, seed + 10_000)
        found = landmark_estimate(image, text, count, seed=seed)
        return compose(
            torch.zeros(100, dtype=torch.float64), found.structure_distance, alpha=0.0, convention="authors",
            feature_range=RANGE,
            estimation=EstimationError(standard_error=found.standard_error, variance=found.structure_variance),
        )  # fmt: skip

    runs = [draw(seed) for seed in range(200)]
    spread = torch.tensor([run.structure_ad for run in runs]).std().item()
    predicted = sum(run.structure_ad_standard_error for run in runs) / len(runs)
    assert predicted == pytest.approx(spread, rel=0.2)


def test_one_pair_has_no_standard_error():
    row = torch.tensor([[1.0, 0.0]])
    result = alignment_difficulty(row, row)
    assert (result.ad, result.structure_ad) == (0.0, 0.0)
    assert math.isnan(result.ad_standard_error)
    assert result.summary()["ad_standard_error"] is None


def test_calibrated_range_brackets_the_benign_cosines():
    cosines = torch.linspace(0, 1, 1001)
    assert calibrate_feature_range(cosines) == pytest.approx((0.01, 0.99), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": torch.zeros(0, 4), "text": torch.zeros(0, 4)}, r"shape \[0, 4\]: expected \[N, d\]"),
        ({"image": torch.eye(4)[0]}, r"shape \[4\]"),
        ({"text": torch.eye(4)[:3]}, r"image has shape \[4, 4\] and text \[3, 4\]"),
        ({"image": torch.eye(4) * 2}, r"not L2-normalised in rows 0, 1, 2, 3 \(a norm of 2\)"),
        ({"image": torch.eye(4).long()}, "dtype torch.int64"),
        ({"alpha": 1.5}, r"alpha is 1.5: expected a weight in \[0, 1\]"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"feature_range": (0.4, 0.4)}, r"feature_range is \(0.4, 0.4\): expected finite lo < hi"),
        ({"convention": "laion"}, "convention is 'laion': expected one of authors, halved"),
        ({"block": 0}, "block is 0"),
    ],
)
def test_bad_input_is_named(arguments, message):
    valid = {"image": torch.eye(4), "text": torch.eye(4)}
    with pytest.raises(ValueError, match=message):
        alignment_difficulty(**{**valid, **arguments})


def test_rows_with_nan_are_named():
    text = unit_rows(20, 4, 0)
    text[3, 1] = math.nan
    text[17, 0] = math.inf
    with pytest.raises(ValueError, match="text has NaN or infinite values in rows 3, 17: expected finite rows"):
        alignment_difficulty(unit_rows(20, 4, 1), text)


def test_bad_calibration_is_named():
    with pytest.raises(ValueError, match="expected lo < hi"):
        calibrate_feature_range([0.5, 0.5])
    with pytest.raises(ValueError, match="finite"):
        calibrate_feature_range([])
    with pytest.raises(ValueError, match="expected 0 <= low < high <= 1"):
        calibrate_feature_range([0.1, 0.2], low=0.9, high=0.1)
