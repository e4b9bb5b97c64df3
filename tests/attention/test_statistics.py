import json
import math
from pathlib import Path

import pytest
import torch

from explorer.attention.statistics import (
    column_mass,
    cosine_overlap,
    gearys_c,
    mass_in_mask,
    overlap_with_mask,
    scatter,
    scatter_where_read,
)

TABLE = Path(__file__).parent / "map_statistics.json"


@pytest.fixture
def maps():
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.01


def test_scatter_is_one_for_uniform_zero_for_a_point_and_log_ratio_between():
    point = torch.zeros(4, 4)
    point[1, 2] = 0.3
    half = torch.zeros(4, 4)
    half[:2] = 0.7
    found = scatter(torch.stack([torch.full((4, 4), 0.1), point, half]))
    assert torch.allclose(found, torch.tensor([1.0, 0.0, math.log(8) / math.log(16)]), atol=1e-6)


def test_a_word_that_is_read_nowhere_has_no_scatter_and_hides_no_other():
    maps = torch.stack([torch.full((4, 4), 0.1), torch.zeros(4, 4)])
    assert scatter_where_read(maps) == [pytest.approx(1), None]


@pytest.mark.parametrize("seed", range(3))
def test_scatter_of_some_maps_is_that_of_each(seed):
    maps = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(seed))
    assert scatter_where_read(maps) == pytest.approx(scatter(maps).tolist())


def test_scatter_equals_the_slow_sum_and_ignores_scale(maps):
    slow = torch.zeros(2, 3)
    for i in range(2):
        for j in range(3):
            total = float(maps[i, j].sum())
            shares = [float(value) / total for value in maps[i, j].flatten()]
            slow[i, j] = -sum(share * math.log(share) for share in shares) / math.log(20)
    assert torch.allclose(scatter(maps), slow, atol=1e-5)
    assert torch.allclose(scatter(maps * 37), slow, atol=1e-5)
    assert scatter(maps.half()).dtype == torch.float32


def test_mass_in_mask(maps):
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1:3, 2:] = True
    expected = maps[..., 1:3, 2:].sum((-2, -1)) / maps.sum((-2, -1))
    assert torch.allclose(mass_in_mask(maps, mask), expected)
    assert torch.allclose(mass_in_mask(maps, mask) + mass_in_mask(maps, ~mask), torch.ones(2, 3))
    assert mass_in_mask(torch.ones(4, 5), mask) == pytest.approx(6 / 20)
    assert torch.allclose(mass_in_mask(maps, torch.full((4, 5), 0.5)), torch.full((2, 3), 0.5))


def test_cosine_overlap(maps):
    found = cosine_overlap(maps)
    for i in range(3):
        for j in range(3):
            expected = torch.cosine_similarity(maps[:, i].flatten(1), maps[:, j].flatten(1))
            assert torch.allclose(found[:, i, j], expected, atol=1e-6)
    apart = torch.zeros(2, 2, 2)
    apart[0, 0, 0] = apart[1, 1, 1] = 1
    assert torch.equal(cosine_overlap(apart), torch.eye(2))


def test_column_mass_sums_to_one():
    probabilities = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    assert torch.allclose(column_mass(probabilities).sum(-1), torch.ones(2))
    assert torch.allclose(column_mass(probabilities), probabilities.mean((2, 3)))


def test_statistics_are_those_of_the_table():
    """Slow sums over small maps; the browser test holds the screen's own numbers against the same table."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    mask = torch.tensor(table["mask"])
    for row in table["maps"]:
        maps = torch.tensor(row["map"], dtype=torch.float64)
        assert column_mass(maps).item() == pytest.approx(row["mass"], abs=1e-6), row["name"]
        assert scatter_where_read(maps[None]) == [pytest.approx(row["scatter"], abs=1e-6)], row["name"]
        if row["gearys_c"] is not None:
            assert gearys_c(maps).item() == pytest.approx(row["gearys_c"], abs=1e-6), row["name"]
            assert mass_in_mask(maps, mask).item() == pytest.approx(row["in_mask"], abs=1e-6), row["name"]
        assert overlap_with_mask(maps, mask).item() == pytest.approx(row["iou"], abs=1e-6), row["name"]
    with_mass = torch.tensor([row["map"] for row in table["maps"] if row["mass"]])
    first, second = torch.triu_indices(len(with_mass), len(with_mass), offset=1)
    overlap = cosine_overlap(with_mass)[first, second].mean().item()
    assert overlap == pytest.approx(table["mean_cosine_of_those_with_mass"], abs=1e-5)


def test_overlap_with_a_mask_is_of_every_map_and_refuses_an_empty_one(maps):
    mask = torch.zeros(4, 5)
    mask[1, 1:3] = 1
    exact, uniform = mask + 0.1, torch.full((4, 5), 0.3)
    assert overlap_with_mask(torch.stack([exact, uniform]), mask).tolist() == pytest.approx([1, 0.1])
    assert overlap_with_mask(maps, mask).shape == (2, 3)
    masks = torch.stack([mask, 1 - mask, torch.ones(4, 5)])
    alone = [overlap_with_mask(maps[:, place], each) for place, each in enumerate(masks)]
    assert torch.equal(overlap_with_mask(maps, masks), torch.stack(alone, dim=1)), "each has a mask of its own size"
    with pytest.raises(ValueError, match="the mask has no position"):
        overlap_with_mask(maps, torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"mask is \(5, 4\): expected the maps' \(4, 5\)"):
        overlap_with_mask(maps, mask.mT)


def test_gearys_c_tells_a_blob_from_its_shuffled_self():
    line = torch.linspace(-2, 2, 16)
    blob = torch.exp(-(line[:, None] ** 2 + line[None] ** 2))
    order = torch.randperm(256, generator=torch.Generator().manual_seed(1))
    noise = blob.flatten()[order].view(16, 16)
    checkers = (torch.arange(16)[:, None] + torch.arange(16)[None]) % 2 + 0.0
    smooth, scattered, alternating, flat = gearys_c(torch.stack([blob, noise, checkers, torch.ones(16, 16)]))
    assert scatter(blob).item() == pytest.approx(scatter(noise).item())
    assert smooth < 0.1
    assert scattered == pytest.approx(1, abs=0.15)
    assert alternating > 1.9
    assert flat == 1
    assert gearys_c(100 * blob).item() == pytest.approx(smooth.item(), rel=1e-5)
    with pytest.raises(ValueError, match="no mass"):
        gearys_c(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="one position a side"):
        gearys_c(torch.ones(1, 4))


@pytest.mark.parametrize("measure", [scatter, cosine_overlap])
def test_maps_without_a_shape_are_refused(measure):
    with pytest.raises(ValueError, match="no mass"):
        measure(torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="negative or non-finite"):
        measure(torch.tensor([[[1.0, float("nan")]]]))
    with pytest.raises(ValueError, match="negative or non-finite"):
        measure(torch.tensor([[[1.0, -0.1]]]))
    with pytest.raises(ValueError, match=r"expected \[\.\.\., h, w\]"):
        measure(torch.ones(3))


def test_other_bad_input_is_named(maps):
    with pytest.raises(ValueError, match="one position"):
        scatter(torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"mask is \(5, 4\): expected the maps' \(4, 5\)"):
        mass_in_mask(maps, torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        mass_in_mask(maps, torch.full((4, 5), 2.0))
