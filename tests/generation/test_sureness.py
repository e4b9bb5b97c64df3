"""When a judge is sure: by the quartiles of what the control gets right, and never by too few of them."""

from explorer.generation.sureness import LEAST, is_sure, sure_bounds


def verdict(top, similarity, margin):
    return {"top_concept": top, "clip_similarity": similarity, "margin": margin}


def test_bounds_are_the_quartiles_of_the_right_pictures_alone():
    right = [verdict("cat", 0.5 + 0.1 * at, 0.04 * at) for at in range(5)]
    wrong = [verdict("dog", 0.99, 0.9)] * 6
    assert sure_bounds(right + wrong, ["cat"] * 11) is None, "five are too few"
    bounds = sure_bounds(2 * right + wrong, ["cat"] * 16)
    assert bounds == {"clip_similarity": 0.6, "margin": 0.04, "pictures": 10}
    assert is_sure(verdict("cat", 0.6, 0.04), bounds)
    assert not is_sure(verdict("cat", 0.9, 0.03), bounds), "the next concept is as near"
    assert not is_sure(verdict("cat", 0.59, 0.2), bounds)


def test_what_has_no_margin_gives_no_bounds():
    assert sure_bounds([verdict("cat", 0.9, None)] * LEAST, ["cat"] * LEAST) is None, "a list of one concept"
    assert sure_bounds([{"scatter": 0.9}] * LEAST, ["cat"] * LEAST) is None, "nobody judged"
