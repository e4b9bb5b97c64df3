"""Which grafts a study measures, how far each moves, and what is counted of them."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from explorer.checkpoints.registry import read_checkpoint
from explorer.cli.surgery import graft_lines
from explorer.core.intervals import exact_mcnemar
from explorer.surgery.differences import operation_difference
from explorer.surgery.measured import Measured
from explorer.surgery.operations import operations_between
from explorer.surgery.report import operation_entries


@pytest.fixture
def models(checkpoint_root):
    return [read_checkpoint(checkpoint_root / name) for name in ("dirty-004", "benign")]


def test_controls_move_as_far_as_what_they_stand_beside(models):
    found = {each.name: each for each in operations_between(*models, strip=True)}
    assert next(iter(found)) == "none"
    assert found["none"].distance == found["none"].parameters == 0
    for name in ("cross-attention-random", "cross-attention-mirrored", "all-as-far-as-cross-attention"):
        assert found[name].distance == pytest.approx(found["cross-attention"].distance)
        assert found[name].beside == "cross-attention"
    assert found["all-75"].distance == pytest.approx(0.75 * found["all"].distance)
    parts = [found["cross-attention"], found["all-but-cross-attention"]]
    assert sum(each.parameters for each in parts) == pytest.approx(1)
    assert math.hypot(*(each.distance for each in parts)) == pytest.approx(found["all"].distance)
    blocks = [each for each in found.values() if each.role == "block"]
    assert [each.name for each in blocks] == [f"block-{name}" for name in (
        "down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1", "up_blocks.2"
    )]  # fmt: skip
    assert math.hypot(*(each.distance for each in blocks)) < found["all"].distance


def test_some_operations_are_chosen_by_name(models):
    found = operations_between(*models, strip=False, only=["cross-attention"])
    assert [each.name for each in found] == ["none", "cross-attention", "all"]
    with pytest.raises(ValueError, match="no operation 'cross': expected some of none, cross-attention-keys-values"):
        operations_between(*models, strip=False, only=["cross"])


def test_points_of_a_curve_lie_on_a_group_s_way_and_beside_all_weights_moved_as_far(models):
    found = {each.name: each for each in operations_between(*models, strip=False, curves=True)}
    usual = [each.name for each in operations_between(*models, strip=False)]
    assert set(found) - set(usual) == {"all-50"} | {
        f"{way}{group}-{part}" for way in ("", "all-as-far-as-") for part in (25, 50, 75)
        for group in ("cross-attention-keys-values", "cross-attention", "transformer-blocks")
    }  # fmt: skip
    point, as_far = found["cross-attention-25"], found["all-as-far-as-cross-attention-25"]
    assert point.distance == pytest.approx(found["cross-attention"].distance / 4)
    assert point.parameters == found["cross-attention"].parameters
    assert as_far.distance == pytest.approx(point.distance)
    assert as_far.parameters == 1
    operations = [found[name] for name in ("none", "all", point.name, as_far.name)]
    right = {
        each.name: np.array(values) for each, values in zip(operations, ([0, 0], [1, 1], [1, 1], [0, 1]), strict=True)
    }
    measured = {name: Measured(taken_for=np.zeros((1, 2), int), listening={}, attention={}) for name in right}
    entries = operation_entries(operations, measured, right, {"all": np.ones(2, bool)}, seeds=1)
    assert entries[2]["groups"]["all"]["against_equally_far"]["rises"] == 1
    assert entries[3]["groups"]["all"]["against_equally_far"] is None


def test_two_equal_models_are_refused(models):
    with pytest.raises(ValueError, match="dirty-004 and dirty-004 have equal weights"):
        operations_between(models[0], models[0], strip=False)


def test_joint_transformers_have_their_own(make_sd3_pipeline, tmp_path):
    for seed, name in enumerate(("one", "two")):
        make_sd3_pipeline(seed).save_pretrained(tmp_path / name)
    found = operations_between(*(read_checkpoint(tmp_path / name) for name in ("one", "two")), strip=True)
    names = [each.name for each in found]
    assert names[:4] == ["none", "text-keys-values", "attention", "feed-forward"]
    assert {"attention-random", "all-as-far-as-attention", "block-transformer_blocks.1"} <= set(names)


def test_entries_count_what_was_drawn(models):
    operations = operations_between(
        *models, strip=False, only=["cross-attention", "all-as-far-as-cross-attention", "cross-attention-random"]
    )
    right = {"none": [0, 0, 1, 0], "cross-attention": [2, 1, 0, 1], "all": [2, 2, 2, 2],
             "cross-attention-random": [0, 1, 1, 0], "all-as-far-as-cross-attention": [1, 0, 0, 1]}  # fmt: skip
    right = {name: np.array(values) for name, values in right.items()}
    heard = {"none": 1.0, "all": 4.0}
    measured = {
        name: Measured(
            taken_for=np.zeros((2, 4), int), listening={"sensitivity": np.full(4, heard.get(name, 2.0))}, attention={}
        )
        for name in right
    }
    members = {"all": np.ones(4, bool), "unpoisoned": np.array([True, True, False, False])}
    entries = operation_entries(operations, measured, right, members, seeds=2)
    found = {each["name"]: each for each in entries}
    moved, everything = found["cross-attention"], found["cross-attention"]["groups"]["all"]
    assert everything["accuracy"]["value"] == 0.5
    assert everything["change"]["value"] == pytest.approx(0.375)
    assert everything["of_all"] == pytest.approx(0.375 / 0.875)
    assert everything["per_distance"]["value"] == pytest.approx(0.375 / moved["distance"])
    assert everything["against_none"] == {"rises": 3, "falls": 1, "p": exact_mcnemar(3, 1)}
    assert everything["against_equally_far"]["rises"] == 2
    assert moved["groups"]["unpoisoned"]["accuracy"]["value"] == 0.75
    assert found["cross-attention-random"]["groups"]["all"]["against_equally_far"]["falls"] == 2
    assert found["all"]["groups"]["all"]["against_equally_far"] is None
    assert found["none"]["groups"]["all"]["per_distance"] is None
    assert moved["meter"]["all"]["sensitivity"]["of_all"]["value"] == 0.5


def test_of_what_all_has_nothing_of_there_is_no_share_and_the_rest_is_told(models):
    operations = operations_between(*models, strip=False, only=["cross-attention"])
    attention = {"late_word_mass": np.zeros(4), "late_contiguity": np.ones(4)}
    found = Measured(taken_for=np.zeros((2, 4), int), listening={"sensitivity": np.zeros(4)}, attention=attention)
    measured = {each.name: found for each in operations}
    right = {each.name: np.ones(4, int) for each in operations}
    entries = operation_entries(operations, measured, right, {"all": np.ones(4, bool)}, seeds=2)
    moved = next(each for each in entries if each["name"] == "cross-attention")
    assert moved["meter"]["all"]["sensitivity"]["of_all"] is None
    assert moved["attention"]["all"]["late_word_mass"]["mean"]["value"] == 0
    way = {"recipient": "a", "donor": "b", "group": "all", "operations": entries}
    report = {"judge": {"name": "j", "identity": "0" * 64}, "directions": [way]}
    line = next(line for line in graft_lines(report) if line.startswith("cross-attention"))
    assert line.split()[-3:] == ["–", "–", "1.00"], "hears, attends, scatters"
    told = operation_difference(report, "cross-attention", "none")
    assert (told["scatters"], told["hears"], "attends" in told) == (0, 0, False)


@pytest.mark.parametrize(("rises", "falls"), [(0, 0), (1, 0), (5, 5), (12, 3), (3, 12)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_changed(rises, falls):
    expected = 1.0 if rises + falls == 0 else binomtest(rises, rises + falls).pvalue
    assert exact_mcnemar(rises, falls) == pytest.approx(expected)
