"""Estimators against the exact answer: unbiased, with honest standard errors, exact where everything is drawn."""

import math

import pytest
import torch

from explorer.alignment.structure.check import check_against_fp64, fp64_distances
from explorer.alignment.structure.estimators import (
    landmark_estimate,
    row_estimate,
    squared_twin,
    stratified_estimate,
)
from explorer.core.share import Share

N, D = 240, 12
STRATA = torch.arange(N) % 20 // 7  # strata of 84, 84 and 72, ordered unlike the rows


def rows(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(N, D, generator=generator, dtype=torch.float64) * (1 + STRATA[:, None]) + shift
    return features / features.norm(dim=1, keepdim=True)


IMAGE, TEXT = rows(0, 0.8), rows(1, 0.2)
DISPARITY = (IMAGE @ IMAGE.T - TEXT @ TEXT.T).abs().fill_diagonal_(0)
EXACT = DISPARITY.mean(1)
ESTIMATES = {
    "landmarks": landmark_estimate,
    "rows": row_estimate,
    "stratified": lambda *features, **options: stratified_estimate(*features, strata=STRATA, **options),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_all_rows_drawn_is_exact(name):
    estimate = ESTIMATES[name](IMAGE, TEXT, N, seed=0)
    torch.testing.assert_close(estimate.structure_distance, EXACT, atol=1e-12, rtol=0)
    torch.testing.assert_close(estimate.drawn_distance, EXACT, atol=1e-12, rtol=0)
    assert estimate.standard_error == 0
    assert estimate.sample_standard_error.max() < 1e-7
    centring = torch.eye(N, dtype=torch.float64) - 1 / N
    kernel = IMAGE @ IMAGE.T - TEXT @ TEXT.T
    torch.testing.assert_close(
        estimate.centred_distance, (centring @ kernel @ centring).abs().mean(1), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_are_unbiased_and_their_errors_honest(name):
    runs = [ESTIMATES[name](IMAGE, TEXT, 40, seed=seed) for seed in range(200)]
    values = torch.tensor([run.structure_ad for run in runs])
    truth = EXACT.mean().item()
    predicted = math.sqrt(sum(run.standard_error**2 for run in runs) / len(runs))
    assert values.std().item() == pytest.approx(predicted, rel=0.2)
    assert abs(values.mean().item() - truth) < 4 * predicted / math.sqrt(len(runs)) + 0.02 * predicted
    covered = sum(abs(run.structure_ad - truth) < 1.96 * run.standard_error for run in runs) / len(runs)
    assert covered > 0.88


@pytest.mark.parametrize("name", ["landmarks", "stratified"])
def test_errors_of_single_samples_are_honest(name):
    runs = [ESTIMATES[name](IMAGE, TEXT, 40, seed=seed) for seed in range(200)]
    spread = torch.stack([run.structure_distance for run in runs]).std(dim=0)
    predicted = torch.stack([run.sample_standard_error.square() for run in runs]).mean(0).sqrt()
    assert (predicted / spread).median().item() == pytest.approx(1, rel=0.1)
    error = torch.stack([run.structure_distance for run in runs]).mean(0) - EXACT
    assert (error.abs() < 5 * spread / math.sqrt(200)).all()


@pytest.mark.parametrize("name", ESTIMATES)
def test_drawn_rows_are_exact_and_a_seed_decides_them(name):
    estimate, again, other = (ESTIMATES[name](IMAGE.float(), TEXT.float(), 30, seed=seed) for seed in (5, 5, 6))
    assert len(set(estimate.drawn.tolist())) == 30
    torch.testing.assert_close(estimate.drawn_distance, EXACT[estimate.drawn], atol=1e-6, rtol=0)
    assert torch.equal(estimate.structure_distance, again.structure_distance)
    assert not torch.equal(estimate.drawn, other.drawn)


def test_the_twin_is_the_root_mean_square_and_a_bound():
    twin = squared_twin(IMAGE, TEXT)
    torch.testing.assert_close(twin, DISPARITY.square().mean(1).sqrt(), atol=1e-12, rtol=0)
    assert (twin >= EXACT).all()
    wide = torch.cat([TEXT, torch.zeros(N, 3, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(squared_twin(IMAGE, wide), twin, atol=1e-12, rtol=0)


def obvious_stratified(strata, drawn):
    """Every stratum's average and variance by themselves, then weighted: D_s, its standard error, the centred D_s."""
    sizes, of_drawn = torch.bincount(strata).double(), strata[drawn]
    counts = torch.bincount(of_drawn).double()
    averages = torch.nn.functional.one_hot(of_drawn).double() / counts
    weights = sizes / N
    factors = weights.square() * (1 - counts / sizes) / (counts - 1)
    factors[counts == sizes] = 0
    centring = torch.eye(N, dtype=torch.float64) - 1 / N
    centred = (centring @ (IMAGE @ IMAGE.T - TEXT @ TEXT.T) @ centring).abs()[:, drawn]
    within = DISPARITY[:, drawn] @ averages
    spread = DISPARITY[:, drawn].square() @ averages - within.square()
    return within @ weights, (spread @ factors).clamp(min=0).sqrt(), (centred @ averages) @ weights


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("count", [1, 3, 30])
def test_strata_are_weighted_as_each_by_itself(count, dtype, tolerance):
    strata = torch.arange(N) * 7 % count + 2
    strata[:3] = torch.tensor([0, 1, 1])  # strata of one and two samples, which are drawn whole
    estimate = stratified_estimate(IMAGE.to(dtype), TEXT.to(dtype), 90, strata=strata, seed=1)
    found = (estimate.structure_distance, estimate.sample_standard_error, estimate.centred_distance)
    for value, expected in zip(found, obvious_stratified(strata, estimate.drawn), strict=True):
        torch.testing.assert_close(value, expected, atol=tolerance, rtol=0)
    variance = 0.0
    for stratum in strata.unique():
        size, exact = (strata == stratum).sum(), estimate.drawn_distance[strata[estimate.drawn] == stratum]
        if len(exact) < size:
            variance += (size / N) ** 2 * (1 - len(exact) / size) * exact.var() / len(exact)
    assert estimate.standard_error == pytest.approx(math.sqrt(variance))


def test_the_twin_and_strata_make_the_error_smaller():
    errors = {
        name: sum(estimate(IMAGE, TEXT, 60, seed=seed).standard_error for seed in range(20))
        for name, estimate in ESTIMATES.items()
    }
    assert errors["rows"] < 0.4 * errors["landmarks"]
    assert errors["stratified"] < errors["landmarks"]


def test_rows_predicts_drawn_rows_exactly_and_keeps_the_mean():
    estimate = row_estimate(IMAGE, TEXT, 30, seed=2)
    assert torch.equal(estimate.structure_distance[estimate.drawn], estimate.drawn_distance)
    assert (estimate.sample_standard_error[estimate.drawn] == 0).all()
    twin = squared_twin(IMAGE, TEXT)
    slope = torch.cov(torch.stack([twin[estimate.drawn], estimate.drawn_distance]))[0]
    regression = estimate.drawn_distance.mean() + slope[1] / slope[0] * (twin.mean() - twin[estimate.drawn].mean())
    assert estimate.structure_ad == pytest.approx(regression.item(), abs=1e-12)


def test_trusted_landmarks_come_from_trusted_rows_only():
    trusted = torch.arange(0, N, 3)
    estimate = landmark_estimate(IMAGE, TEXT, 20, seed=0, trusted=trusted)
    assert set(estimate.drawn.tolist()) <= set(trusted.tolist())
    everything = landmark_estimate(IMAGE, TEXT, len(trusted), seed=0, trusted=trusted)
    torch.testing.assert_close(everything.structure_distance, DISPARITY[:, trusted].mean(1), atol=1e-12, rtol=0)
    assert everything.standard_error == 0


def test_identical_samples_leave_nothing_to_estimate():
    row = IMAGE[:1].expand(50, D)
    for estimate in (landmark_estimate(row, -row, 5, seed=0), row_estimate(row, -row, 5, seed=0)):
        assert estimate.structure_distance.abs().max() < 1e-12
        assert estimate.standard_error < 1e-12


def test_workers_together_give_what_one_gives():
    alone = landmark_estimate(IMAGE, TEXT, 25, seed=3)
    for count in (2, 3):
        so_far = {}

        def add_up(tensor, so_far=so_far):
            so_far[tensor.dtype] = so_far.get(tensor.dtype, 0) + tensor
            return so_far[tensor.dtype].clone()

        for index in range(count):
            share = Share(index=index, count=count, add_up=add_up)
            together = landmark_estimate(IMAGE, TEXT, 25, seed=3, share=share)
        assert torch.equal(together.structure_distance, alone.structure_distance)
        assert together.standard_error == alone.standard_error


def test_one_landmark_has_no_standard_error():
    estimate = landmark_estimate(IMAGE, TEXT, 1, seed=0)
    assert math.isnan(estimate.standard_error)
    assert estimate.sample_standard_error.isnan().all()


@pytest.mark.parametrize(
    ("estimate", "message"),
    [
        (lambda: landmark_estimate(IMAGE, TEXT, 0, seed=0), "samples is 0: expected 1 to 240"),
        (lambda: landmark_estimate(IMAGE, TEXT, 241, seed=0), "samples is 241"),
        (lambda: landmark_estimate(IMAGE, TEXT, 2, seed=0, trusted=[0, 0, 1]), "trusted holds 3 rows"),
        (lambda: row_estimate(IMAGE, TEXT, 2, seed=0), "samples is 2: expected 3 to 240"),
        (lambda: stratified_estimate(IMAGE, TEXT, 9, strata=[0, 1], seed=0), r"strata have shape \[2\]"),
    ],
)
def test_bad_input_is_named(estimate, message):
    with pytest.raises(ValueError, match=message):
        estimate()


def test_self_check_is_the_definition_and_finds_a_wrong_row():
    numbers = torch.arange(N)
    torch.testing.assert_close(fp64_distances(IMAGE, TEXT, numbers, convention="halved"), EXACT / 2, atol=1e-13, rtol=0)
    passed = check_against_fp64(IMAGE, TEXT, numbers, EXACT, precision="fp64", seed=4)
    assert passed.passed
    assert len(passed.rows) == 8
    wrong = EXACT.clone()
    wrong[passed.rows[3]] += 1e-3
    failed = check_against_fp64(IMAGE, TEXT, numbers, wrong, precision="fp16", seed=4)
    assert not failed.passed
    assert failed.largest_deviation == pytest.approx(1e-3, rel=1e-6)
