"""Scores from features and neighbours, halves, collateral, and what a user brings."""

import numpy as np
import pandas
import pytest
import torch

from explorer.alignment.neighbourhoods import measure_local
from explorer.defence.collateral import CaptionGroups, collateral, main_script
from explorer.defence.held_out import first_half, threshold_on
from explorer.defence.measured_scores import measured_scores
from explorer.defence.neighbourhoods import label_disagreement
from explorer.defence.recipe import apply_recipe, read_recipe
from explorer.defence.scores import DESCRIPTIONS
from explorer.defence.users_scores import joined_scores


def test_scores_are_their_definitions():
    generator = torch.Generator().manual_seed(2)
    image, text = (torch.nn.functional.normalize(torch.randn(40, 6, generator=generator).double()) for _ in range(2))
    measured = measured_scores(image, text, np.arange(40) % 3, feature_range=(-0.5, 0.5), alpha=0.8)
    assert set(measured.scores) == set(DESCRIPTIONS)
    signed = (image @ image.T - text @ text.T).fill_diagonal_(0)
    centred = [rows - rows.mean(dim=0) for rows in (image, text)]
    expected = {
        "clip_similarity": (image * text).sum(1),
        "structure_distance": signed.abs().mean(1),
        "squared_structure_distance": signed.square().mean(1),
        "centred_structure_distance": (centred[0] @ centred[0].T - centred[1] @ centred[1].T).abs().mean(1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(measured.scores[name], values, rtol=1e-8, err_msg=name)
    assert measured.ad == pytest.approx(measured.scores["sample_ad"].mean())
    assert measured.ad == pytest.approx(0.8 * measured.feature_ad + 0.2 * measured.structure_ad)


def test_a_single_pair_has_no_neighbours():
    one = torch.tensor([[1.0, 0.0]])
    found = measured_scores(one, one, np.array([0]), feature_range=(0.0, 1.0), alpha=0.8)
    assert not {"picture_scatter", "knn_label_disagreement"} & set(found.scores)


def test_labels_disagree_where_near_pictures_are_called_something_else():
    labels, near = np.array([0, 0, 1, -1]), np.array([[1, 2], [0, 3], [0, 1], [0, 1]])
    np.testing.assert_array_equal(label_disagreement(labels, near), [0.5, 0, 1, np.nan])


def test_the_scatter_that_filters_cut_by_is_that_of_local_ad():
    generator = torch.Generator().manual_seed(3)
    image, text = (torch.nn.functional.normalize(torch.randn(50, 6, generator=generator)) for _ in range(2))
    found = measured_scores(image, text, np.arange(50) % 3, feature_range=(-0.5, 0.5), alpha=0.8, convention="halved")
    local = measure_local(image, text, feature_range=(-0.5, 0.5), convention="halved")
    np.testing.assert_array_equal(found.scores["picture_scatter"], local.picture_scatter.numpy())


def test_halves_do_not_hang_on_the_order_and_hold_about_half():
    uids = [f"pair-{number}" for number in range(400)]
    half = first_half(uids, seed=0)
    assert first_half(uids[::-1], seed=0).tolist() == half[::-1].tolist()
    assert 160 < half.sum() < 240
    assert (half != first_half(uids, seed=1)).any()


@pytest.mark.parametrize(
    ("criterion", "cut", "removed"),
    [("f1", {"rank": 0}, [4, 5, 6, 7]), ("half-the-poison", {"rank": 0}, [6, 7]), ("cut", {"budget": 0.25}, [6, 7])],
)
def test_a_threshold_is_found_on_one_half_alone(criterion, cut, removed):
    values, uids = np.arange(8, dtype=np.float32), [str(number) for number in range(8)]
    half, poisoned = np.arange(8) % 2 == 0, np.arange(8) >= 4
    # On the other half everything is the other way round: it has no say.
    poisoned = np.where(half, poisoned, ~poisoned)
    recipe = read_recipe({"score": "a", "remove": "highest", "cut": cut})
    found = threshold_on(recipe, criterion, half, values, poisoned, ~poisoned)
    result = apply_recipe(found, {"a": values}, uids=uids, main_concept=np.full(8, -1))
    assert np.flatnonzero(result.removed).tolist() == removed


@pytest.mark.parametrize("remove", ["lowest", "highest"])
@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("near", [False, True])
def test_a_threshold_removes_exactly_what_it_was_found_for(remove, count, near):
    values = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    if near:  # each is the next number of 32 bits after the one before
        for place in range(1, 4):
            values[place] = np.nextafter(values[place - 1], np.float32(1))
    every = np.ones(4, bool)
    recipe = read_recipe({"score": "a", "remove": remove, "cut": {"rank": count}})
    found = threshold_on(recipe, "cut", every, values, every, ~every)
    result = apply_recipe(found, {"a": values}, uids=list("abcd"), main_concept=np.full(4, -1))
    assert result.removed.sum() == count
    poisoned = np.arange(4) == (3 if remove == "lowest" else 0)
    best = threshold_on(recipe, "half-the-poison", every, values, poisoned, ~poisoned)
    result = apply_recipe(best, {"a": values}, uids=list("abcd"), main_concept=np.full(4, -1))
    assert result.removed.all(), "the poison is the least suspicious"


def test_truth_is_asked_for_where_a_criterion_needs_it():
    recipe, nothing = read_recipe({"score": "a", "remove": "highest", "cut": {"rank": 0}}), np.zeros(4, bool)
    with pytest.raises(ValueError, match="known to be poison"):
        threshold_on(recipe, "f1", ~nothing, np.arange(4, dtype=np.float32), nothing, nothing)
    with pytest.raises(ValueError, match="criterion is 'best'"):
        threshold_on(recipe, "best", ~nothing, np.arange(4, dtype=np.float32), nothing, nothing)


@pytest.mark.parametrize("cut", [{"rank": 1}, {"budget": 0.05}])
def test_a_half_without_a_scored_pair_chooses_no_threshold(cut):
    half, poisoned = np.arange(8) < 4, np.arange(8) % 2 == 0
    values = np.where(half, np.nan, -1).astype(np.float32)
    recipe = read_recipe({"score": "user:taste", "remove": "lowest", "cut": cut})
    with pytest.raises(ValueError, match=r"user:taste is known of no pair of the half .*: expected some"):
        threshold_on(recipe, "cut", half, values, poisoned, ~poisoned)
    given = read_recipe({"score": "user:taste", "remove": "lowest", "cut": {"threshold": 0.5}})
    assert threshold_on(given, "cut", half, values, poisoned, ~poisoned) == given, "a threshold that is given is kept"


def test_collateral_lists_what_is_nearly_erased_and_who_is_hit_unevenly():
    concepts = np.repeat([0, 1, -1], [10, 4, 186])
    captions = CaptionGroups.of(["кот"] * 60 + ["a cat that sits on a mat"] * 140)
    removed = np.zeros(200, bool)
    removed[:2], removed[10:14], removed[14:60] = True, True, True
    found = collateral(removed, np.ones(200, bool), main_concept=concepts, concepts=["cat", "dog"], captions=captions)
    assert [(each["concept"], each["lost_share"]) for each in found["concepts"]] == [("dog", 1.0), ("cat", 0.2)]
    assert (found["lost"], found["scripts"]["uneven"], found["lengths"]["uneven"]) == (52, True, True)
    assert [group["name"] for group in found["scripts"]["groups"]] == ["Cyrillic", "Latin"]
    even = collateral(removed, ~removed, main_concept=concepts, concepts=["cat", "dog"], captions=captions)
    assert (even["lost"], even["concepts"], even["scripts"]["uneven"]) == (0, [], False)


def test_the_script_of_a_caption():
    assert [main_script(text) for text in ("a cat", "кот и cat", "猫", "123 !", "")] == [
        "Latin", "Cyrillic", "Cjk", "none", "none",
    ]  # fmt: skip


@pytest.fixture
def own_scores(tmp_path):
    path = tmp_path / "own.parquet"
    pandas.DataFrame({"uid": ["b", "a", "z"], "toxicity": [0.5, 0.25, 1.0], "words": ["x", "y", "z"]}).to_parquet(path)
    return path


def test_own_scores_are_joined_by_uid(own_scores):
    found = joined_scores(own_scores, ["toxicity"], pandas.Series(["a", "b", "c"]))["toxicity"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [0.25, 0.5, np.nan])


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (["rank"], "expected rank among them"),
        (["words"], "expected numbers"),
    ],
)
def test_own_scores_that_do_not_fit_are_refused(own_scores, columns, problem):
    with pytest.raises(ValueError, match=problem):
        joined_scores(own_scores, columns, pandas.Series(["a"]))


def test_own_scores_are_missing_doubled_or_no_parquet(own_scores):
    with pytest.raises(FileNotFoundError, match="is missing"):
        joined_scores(own_scores.with_name("none.parquet"), ["toxicity"], pandas.Series(["a"]))
    pandas.DataFrame({"uid": ["a", "a"], "toxicity": [1.0, 2.0]}).to_parquet(own_scores)
    with pytest.raises(ValueError, match="uid 'a' stands more than once"):
        joined_scores(own_scores, ["toxicity"], pandas.Series(["a"]))
    own_scores.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="is no parquet file"):
        joined_scores(own_scores, ["toxicity"], pandas.Series(["a"]))
