"""Recipes: what they remove, in which order, and what they refuse."""

import numpy as np
import pytest

from explorer.defence.recipe import apply_recipe, order_of_suspicion, read_recipe, recipe_json

NAN = float("nan")
SCORES = {
    "a": np.array([0.5, 0.1, NAN, 0.1, 0.9, 0.3], np.float32),
    "b": np.array([1, 2, 3, 4, 5, 6], np.float32),
}
UIDS = [f"u{number}" for number in range(6)]
CONCEPTS = np.array([0, 1, 1, 1, 0, -1])


def leaf(score="a", remove="lowest", quota=None, **cut):
    return {"score": score, "remove": remove, "cut": cut, "quota": quota}


def applied(recipe):
    return apply_recipe(read_recipe(recipe), SCORES, uids=UIDS, main_concept=CONCEPTS)


def removed(recipe):
    return np.flatnonzero(applied(recipe).removed).tolist()


def test_suspicion_is_by_score_and_equals_by_row():
    assert order_of_suspicion(SCORES["a"], "lowest").tolist() == [1, 3, 5, 0, 4]
    assert order_of_suspicion(SCORES["a"], "highest").tolist() == [4, 0, 5, 1, 3]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (leaf(threshold=0.1), []),  # the threshold itself is kept
        (leaf(threshold=0.3), [1, 3]),
        (leaf(remove="highest", threshold=0.4), [0, 4]),
        (leaf(rank=1), [1]),
        (leaf(rank=99), [0, 1, 3, 4, 5]),  # a pair without a score is never removed
        (leaf(budget=0.5), [1, 3, 5]),
        (leaf(budget=0.49), [1, 3]),
        (leaf(budget=1), [0, 1, 3, 4, 5]),
        ({"uids": ["u2", "u4"]}, [2, 4]),
        ({"all": [leaf(rank=3), leaf("b", "highest", rank=3)]}, [3, 5]),
        ({"any": [leaf(rank=1), {"uids": ["u2"]}]}, [1, 2]),
    ],
)
def test_what_a_recipe_removes(recipe, expected):
    assert removed(recipe) == expected


@pytest.mark.parametrize("percent", range(101))
def test_a_share_loses_no_pair_to_binary_rounding(percent):
    values = np.arange(100, dtype=np.float32)
    uids = [str(number) for number in range(100)]
    for cut, quota in (({"budget": percent / 100}, None), ({"rank": 100}, percent / 100)):
        recipe = read_recipe({"score": "a", "remove": "lowest", "cut": cut, "quota": quota})
        result = apply_recipe(recipe, {"a": values}, uids=uids, main_concept=np.zeros(100, int))
        assert result.removed.sum() == percent


def test_a_quota_spares_the_least_suspicious_of_a_concept_and_nothing_takes_their_place():
    # Concept 1 has three pairs, so that one of them may go; the pair of no concept is bound by none.
    assert removed(leaf("b", "lowest", rank=4, quota=0.5)) == [0, 1]
    assert removed(leaf("b", "highest", rank=3, quota=0.0)) == [5]
    cut = applied(leaf("b", "lowest", rank=4, quota=0.5)).cuts[0]
    assert (cut["removed"], cut["spared_by_quota"], cut["at"]) == (2, 2, 4.0)


def test_equal_scores_at_the_cut_and_unknown_ones_are_counted():
    one = applied(leaf(rank=1))
    assert (one.tied_at_cut, one.unscored.tolist()) == (1, [False, False, True, False, False, False])
    assert applied(leaf(rank=2)).tied_at_cut == 0
    # Named by another filter of the combination, the pair without a score goes, and is not told as unscored.
    assert not applied({"any": [leaf(rank=1), {"uids": ["u2"]}]}).unscored.any()


def test_a_recipe_is_written_as_it_was_read():
    recipe = {"any": [leaf(rank=2, quota=0.25), {"all": [leaf("b", budget=0.1), {"uids": ["u1"]}]}]}
    assert recipe_json(read_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ([], "expected an object"),
        ({}, "expected one of score, uids, all, any"),
        ({"score": "a", "uids": []}, "expected one of score, uids, all, any"),
        (leaf(), "cut is {}"),
        (leaf(rank=1, budget=0.5), "expected one of"),
        (leaf(rank=1.5), "rank is 1.5"),
        (leaf(rank=True), "rank is True"),
        (leaf(rank=-1), "rank is -1"),
        (leaf(budget=1.1), "budget is 1.1"),
        (leaf(threshold=NAN), "threshold is nan"),
        (leaf(threshold="0.5"), "threshold is '0.5'"),
        (leaf(rank=1, quota=2), "quota is 2"),
        (leaf(remove="most", rank=1), "remove is 'most'"),
        ({"all": []}, "all is an empty list"),
        ({"uids": [3]}, "uids hold 3"),
        (leaf(rank=1) | {"keep": 1}, "unknown field 'keep'"),
    ],
)
def test_what_is_no_recipe_is_refused_by_name(recipe, problem):
    with pytest.raises(ValueError, match=problem):
        read_recipe(recipe)


def test_endless_nesting_is_refused():
    recipe = leaf(rank=1)
    for _ in range(10):
        recipe = {"all": [recipe]}
    with pytest.raises(ValueError, match="nests more than"):
        read_recipe(recipe)


@pytest.mark.parametrize(("recipe", "problem"), [(leaf("c", rank=1), "score is 'c'"), ({"uids": ["u9"]}, "uid 'u9'")])
def test_what_the_pairs_do_not_have_is_refused_by_name(recipe, problem):
    with pytest.raises(ValueError, match=problem):
        applied(recipe)
