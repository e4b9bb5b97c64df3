"""Intervals against scipy or against counting; every bound of the input is refused by name."""

import math

import numpy as np
import pytest
from scipy import stats

from explorer.core import intervals

GENERATOR = np.random.default_rng(0)
VALUES = GENERATOR.normal(2, 3, size=12)


def test_mean_and_standard_error_match_scipy():
    mean, error = intervals.mean_and_standard_error(VALUES)
    assert mean == pytest.approx(VALUES.mean())
    assert error == pytest.approx(stats.sem(VALUES))
    assert math.isnan(intervals.mean_and_standard_error([1.0])[1])


def test_t_interval_matches_scipy():
    estimate = intervals.t_interval(VALUES)
    expected = stats.t.interval(0.95, len(VALUES) - 1, VALUES.mean(), stats.sem(VALUES))
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    assert math.isnan(intervals.t_interval([0.4]).low)


def test_values_that_are_all_alike_have_no_interval():
    for alike in ([0.0, 0.0, 0.0], [0.1 + 0.2, 0.3, 0.3]):
        estimate = intervals.t_interval(alike)
        assert (estimate.value, estimate.as_json()["low"]) == (pytest.approx(np.mean(alike)), None)
    assert intervals.t_interval([1e-6, 2e-6]).low < 0, "small numbers that differ do differ"
    assert math.isnan(intervals.ratio_of_means([0.4, 0.6, 0.1], [4.0, 6.0, 1.0]).low)
    assert math.isnan(intervals.ratio_of_means([0.0, 0.0], [0.3, 0.6]).high)
    none_right = intervals.nested_ratio([np.zeros(9), np.zeros(9)], [np.arange(9.0), np.ones(9)], draws=50)
    assert (none_right.value, none_right.as_json()["high"]) == (0, None)


@pytest.mark.parametrize("count", range(4, 40))
def test_points_on_a_line_and_orders_that_agree_have_no_interval(count):
    values = np.arange(count) * 0.1
    for correlation, others in ((intervals.pearson_correlation, 0.3 * values), (intervals.rank_correlation, values**3)):
        for sign in (1, -1):
            estimate = correlation(values, sign * others)
            assert estimate.value == sign
            assert math.isnan(estimate.low)
            assert math.isnan(estimate.high)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (250, 1000)])
def test_wilson_matches_scipy(successes, trials):
    estimate = intervals.wilson_interval(successes, trials)
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_rank_correlation_matches_scipy_and_its_interval_covers():
    other = [2, 1, 4, 3, 3, 9, 5, 7, 7, 7, 7, 7]
    estimate = intervals.rank_correlation(VALUES, other)
    assert estimate.value == pytest.approx(stats.spearmanr(VALUES, other).statistic)
    assert math.isnan(intervals.rank_correlation([1, 2, 3], [2, 4, 5]).low)
    assert math.isnan(intervals.rank_correlation([1, 2, 3, 4], [1, 8, 9, 64]).low)
    generator = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(0.6 / 2)  # of two normal series with r = .6
    samples = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=(400, 20))
    found = [intervals.rank_correlation(*sample.T) for sample in samples]
    assert 0.92 < np.mean([each.low < true < each.high for each in found]) < 0.99


def test_the_nested_interval_covers_what_runs_and_pairs_differ_by():
    """Ratios of runs that differ by .1 around .5, of 40 pairs each; the truth is the mean over all possible runs."""
    random, inside, alone = np.random.default_rng(5), 0, 0
    for _ in range(200):
        shares = random.normal(0.5, 0.1, 8)
        reference = [(random.random(40) < 0.8).astype(float) for _ in shares]
        values = [(random.random(40) < 0.8 * share).astype(float) for share in shares]
        found = intervals.nested_ratio(values, reference, draws=400)
        inside += found.low <= 0.5 <= found.high
        pooled = intervals.ratio_of_means(np.concatenate(values), np.concatenate(reference))
        alone += found.high - found.low > pooled.high - pooled.low
    assert inside > 176, "95 % asked for, and rather too narrow for eight runs"
    assert alone > 150, "wider than if all pairs were of one run"
    assert found.value == pytest.approx(np.mean([a.mean() / b.mean() for a, b in zip(values, reference, strict=True)]))
    with pytest.raises(ValueError, match="a run's reference has the mean 0"):
        intervals.nested_ratio([[1.0]], [[0.0]])
    with pytest.raises(ValueError, match="as many values as references in each"):
        intervals.nested_ratio([[1.0]], [[1.0, 1.0]])


def test_a_run_that_is_taken_twice_has_its_pairs_drawn_twice():
    """Four runs that are alike differ by their pairs alone: over them the mean varies as over one of four times as many
    pairs, whose standard error is known."""
    random = np.random.default_rng(8)
    values = random.random(50)
    found = intervals.nested_ratio([values] * 4, [np.ones(50)] * 4)
    error = values.std() / np.sqrt(4 * 50)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.04)


def test_the_nested_interval_covers_noises_that_all_pairs_share():
    """Five noises, each of which is good or bad for all of 30 pairs at once; the truth is over all possible noises."""
    random, inside, widths = np.random.default_rng(6), {"told": 0, "averaged": 0}, {"told": 0.0, "averaged": 0.0}
    for _ in range(150):
        luck = random.normal(0, 0.15, (4, 1, 5))
        values = [np.clip(0.5 + each + random.normal(0, 0.1, (30, 5)), 0, None) for each in luck]
        reference = [np.ones((30, 5))] * 4
        told = intervals.nested_ratio(values[:1], reference[:1], draws=400)
        averaged = intervals.nested_ratio([values[0].mean(axis=1)], [np.ones(30)], draws=400)
        for name, found in (("told", told), ("averaged", averaged)):
            inside[name] += found.low <= 0.5 <= found.high
            widths[name] += found.high - found.low
        assert told.value == pytest.approx(averaged.value)
    assert inside["told"] > 105, "five noises: rather too narrow"
    assert inside["averaged"] < 60, "as if the noises were not drawn at all"
    assert widths["told"] > 2 * widths["averaged"]
    one = intervals.nested_ratio([np.arange(1.0, 9)[:, None]], [np.ones((8, 1))])
    assert one == intervals.nested_ratio([np.arange(1.0, 9)], [np.ones(8)]), "of one noise it is what it was"
    with pytest.raises(ValueError, match="as many values as references in each"):
        intervals.nested_ratio([np.ones((3, 2))], [np.ones((3, 5))])


def test_noises_that_runs_share_are_drawn_for_all_of_them_at_once():
    """Three runs of the same five noises: what a noise does to one run it does to all; runs do not average it out."""
    random, inside = np.random.default_rng(7), {True: 0, False: 0}
    for _ in range(150):
        luck = random.normal(0, 0.15, (1, 5))
        values = [0.5 + luck + random.normal(0, 0.1, (30, 5)) for _ in range(3)]
        for shared in inside:
            found = intervals.nested_ratio(values, [np.ones((30, 5))] * 3, draws=300, noises_shared=shared)
            inside[shared] += found.low <= 0.5 <= found.high
    assert inside[True] > inside[False] + 10
    assert inside[True] > 105, "five noises: rather too narrow"
    with pytest.raises(ValueError, match=r"runs that share their noises have \[2, 5\] of them"):
        intervals.nested_ratio(*[[np.ones((3, 2)), np.ones((3, 5))]] * 2, noises_shared=True)


def test_pearson_matches_scipy():
    other = VALUES * 0.5 + GENERATOR.normal(size=12)
    expected = stats.pearsonr(VALUES, other)
    bounds = expected.confidence_interval(0.95)
    estimate = intervals.pearson_correlation(VALUES, other)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((expected.statistic, bounds.low, bounds.high))
    assert math.isnan(intervals.pearson_correlation([1, 2, 3], [2, 4, 5]).low)


def test_area_counts_ties_as_one_half():
    positives, negatives = GENERATOR.integers(0, 5, 40), GENERATOR.integers(-1, 4, 30)
    above = (positives[:, None] > negatives[None]).mean()
    tied = (positives[:, None] == negatives[None]).mean()
    assert intervals.area_under_curve(positives, negatives) == pytest.approx(above + tied / 2)
    assert intervals.area_under_curve([1, 1], [1]) == 0.5
    assert intervals.area_under_curve([2], [1, 0]) == 1.0


def test_histogram_integrates_to_one_and_refuses_values_outside():
    result = intervals.histogram(VALUES, bins=7, value_range=(-20, 20))
    assert (np.diff(result["edges"]) * result["density"]).sum() == pytest.approx(1)
    assert len(result["edges"]) == 8
    assert sum(intervals.histogram([1.0, 1.0], bins=4)["density"]) > 0
    with pytest.raises(ValueError, match=r"expected them inside \[0, 1\]"):
        intervals.histogram([0.5, 2.0], value_range=(0, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.mean_and_standard_error([]), r"shape \[0\]"),
        (lambda: intervals.t_interval([1.0, math.nan]), "1 NaN or infinite of 2"),
        (lambda: intervals.wilson_interval(3, 2), "3 successes of 2 trials"),
        (lambda: intervals.pearson_correlation([1, 2], [1]), "2 and 1 values"),
        (lambda: intervals.pearson_correlation([1, 1], [1, 2]), "all 2 values of first are 1"),
        (lambda: intervals.area_under_curve([], [1]), "positives has shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_interval_of_an_area_knows_pairs_and_what_a_bootstrap_cannot_say():
    random = np.random.default_rng(0)
    base = random.normal(size=300)
    by_pairs, apart = (intervals.area_interval(base + 0.2, base, paired=paired) for paired in (True, False))
    assert by_pairs.value == apart.value == intervals.area_under_curve(base + 0.2, base)
    assert by_pairs.high - by_pairs.low < (apart.high - apart.low) / 3
    assert (by_pairs.n, apart.n) == (300, 600)
    for groups in (([1.0], [0.0, 0.5]), ([3.0, 4.0], [1.0, 2.0])):
        told = intervals.area_interval(*groups)
        assert told.value == 1
        assert math.isnan(told.low)
        assert math.isnan(told.high)
    with pytest.raises(ValueError, match="groups have 2 and 1 values"):
        intervals.area_interval([1, 2], [1], paired=True)
