"""Draws without replacement: as asked for, decided by the seed, and honest about a mean's error."""

import itertools
import math

import pytest
import torch

from explorer.core.sampling_design import draw_evenly, draw_strata, neyman_allocation


def test_an_even_draw_takes_different_rows_of_the_population_in_order():
    population = torch.arange(5, 45)
    draw = draw_evenly(population, 12, seed=3, least=1)
    assert draw.rows.tolist() == sorted(set(draw.rows.tolist()))
    assert set(draw.rows.tolist()) <= set(population.tolist())
    assert draw.sizes.tolist() == [40]
    assert draw.rows.tolist() == draw_evenly(population, 12, seed=3, least=1).rows.tolist()
    assert draw.rows.tolist() != draw_evenly(population, 12, seed=4, least=1).rows.tolist()
    with pytest.raises(ValueError, match="samples is 41: expected 1 to 40"):
        draw_evenly(population, 41, seed=0, least=1)


def test_a_draw_by_strata_takes_as_many_of_each_as_asked():
    stratum = torch.tensor([0, 1, 1, 0, 2, 1, 0, 0])
    draw = draw_strata(stratum, [2, 3, 1], seed=0)
    assert torch.bincount(stratum[draw.rows]).tolist() == draw.counts.tolist() == [2, 3, 1]
    assert draw.stratum.tolist() == stratum[draw.rows].tolist()
    assert draw.sizes.tolist() == [4, 3, 1]


def test_the_standard_error_is_the_spread_of_means_over_all_draws():
    values = torch.tensor([1.0, 4.0, 2.0, 8.0, 5.0, 7.0], dtype=torch.float64)
    means, squared_errors = [], []
    for seed in range(4000):
        draw = draw_evenly(torch.arange(6), 3, seed=seed, least=1)
        means.append(values[draw.rows].mean())
        squared_errors.append(draw.standard_error(values[draw.rows]) ** 2)
    spread = torch.stack(means).var().item()
    # Over all 20 draws: (1 - 3/6) S^2 / 3 with S^2 = 7.9 is the variance, and the mean of the estimated ones.
    assert spread == pytest.approx(values.var().item() / 6, rel=0.1)
    assert sum(squared_errors) / 4000 == pytest.approx(values.var().item() / 6, rel=0.1)


def test_what_is_drawn_whole_has_no_error_and_a_single_one_of_many_an_unknown_one():
    values = torch.tensor([3.0, 9.0, 1.0], dtype=torch.float64)
    assert draw_evenly(torch.arange(3), 3, seed=0, least=1).standard_error(values) == 0
    assert math.isnan(draw_evenly(torch.arange(3), 1, seed=0, least=1).standard_error(values[:1]))


def test_neyman_allocation_is_the_best_of_all():
    sizes, deviations = [9, 30, 12], [3.0, 0.5, 1.0]

    def variance(counts):
        return sum(
            size**2 * spread**2 / count * (1 - count / size)
            for size, spread, count in zip(sizes, deviations, counts, strict=True)
        )

    every = itertools.product(*(range(2, size + 1) for size in sizes))
    best = min((counts for counts in every if sum(counts) == 20), key=variance)
    found = neyman_allocation(sizes, deviations, 20)
    assert sum(found) == 20
    assert variance(found) == pytest.approx(variance(best))


def test_small_strata_are_never_left_out():
    assert neyman_allocation([1, 2, 1000], [0.0, 0.0, 5.0], 10) == [1, 2, 7]
    assert sum(neyman_allocation([10, 10, 10], [0.0, 0.0, 0.0], 17)) == 17
    with pytest.raises(ValueError, match=r"samples is 4: expected 5 \(two of each of 3 strata\) to 1003"):
        neyman_allocation([1, 2, 1000], [0.0, 0.0, 5.0], 4)
