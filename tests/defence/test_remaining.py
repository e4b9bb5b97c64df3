"""AD of what remains against its definition."""

import numpy as np
import pytest
import torch

from explorer.alignment.difficulty import alignment_difficulty
from explorer.alignment.structure.tiles import structure_row_sums
from explorer.defence.recipe import order_of_suspicion
from explorer.defence.remaining import kept_structure_ad, kept_structure_curves


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.nn.functional.normalize(torch.randn(90, 8, generator=generator).double()) for _ in range(2))


def definition(features, kept):
    image, text = (part[torch.from_numpy(kept)] for part in features)
    return alignment_difficulty(image, text, feature_range=(-1.0, 1.0)).structure_ad


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_any_kept_set_is_exact_whichever_side_is_smaller(features, share):
    kept = np.random.default_rng(0).random(90) < share
    sums = structure_row_sums(*features)
    assert kept_structure_ad(*features, sums, kept) == pytest.approx(definition(features, kept), rel=1e-12)


def test_nothing_kept_has_no_alignment_difficulty(features):
    assert np.isnan(kept_structure_ad(*features, structure_row_sums(*features), np.zeros(90, bool)))


@pytest.mark.parametrize("block", [7, 90])
def test_every_rank_of_every_order_from_one_pass(features, block):
    random = np.random.default_rng(1)
    scores = {"a": random.random(90).astype(np.float32), "ties": random.integers(0, 4, 90).astype(np.float32)}
    scores["gaps"] = np.where(random.random(90) < 0.3, np.nan, scores["a"])
    orders = {name: order_of_suspicion(values, "highest") for name, values in scores.items()}
    curves = kept_structure_curves(*features, orders, block=block)
    for name, order in orders.items():
        assert len(curves[name]) == len(order) + 1
        for rank in (0, 1, 40, len(order) - 1):
            kept = np.ones(90, bool)
            kept[order[:rank]] = False
            assert curves[name][rank] == pytest.approx(definition(features, kept), rel=1e-9)
    assert np.isnan(curves["a"][90])
    assert not np.isnan(curves["gaps"]).any()  # what has no score is never removed


def test_what_is_left_of_nearly_all_is_exact_in_fp32_too(features):
    order = np.random.default_rng(2).permutation(90)
    curve = kept_structure_curves(*(part.float() for part in features), {"a": order}, block=64)["a"]
    for rank in range(80, 89):
        kept = np.ones(90, bool)
        kept[order[:rank]] = False
        assert curve[rank] == pytest.approx(definition(features, kept), rel=2e-6)


def test_the_convention_scales_the_curve(features):
    order = {"a": np.arange(90)}
    authors, halved = (kept_structure_curves(*features, order, convention=name)["a"] for name in ("authors", "halved"))
    np.testing.assert_allclose(halved[:90] * 2, authors[:90])
