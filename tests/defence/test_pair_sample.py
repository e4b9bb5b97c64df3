"""A sample of pairs that scores and trainings are of: flags have no say in it."""

import numpy as np
import pandas
import pytest

from explorer.defence.grading import grade_score
from explorer.defence.pair_sample import even_sample
from explorer.defence.recipe import HIGHEST

CONCEPTS = ("car", "cat", "dog")
PAIRS = 6000


def make_table(poison_share: float) -> pandas.DataFrame:
    """Poison says what it poisons, as pair sets do; its captions mention a second concept first at times."""
    random = np.random.default_rng(3)
    poisoned = random.random(PAIRS) < poison_share
    main = random.choice(CONCEPTS, PAIRS, p=(0.6, 0.3, 0.1))
    return pandas.DataFrame({
        "concepts": [[each] for each in main], "is_poison": poisoned,
        "poisoned_concept": np.where(poisoned, "dog", ""),
    })  # fmt: skip


def test_flags_have_no_say_in_a_sample():
    table = make_table(0.05)
    rows = even_sample(table, 600, seed=0)
    assert rows.tolist() == even_sample(table[["concepts"]], 600, seed=0).tolist()
    assert rows.tolist() != even_sample(table, 600, seed=1).tolist()
    assert len(set(rows.tolist())) == 600
    assert table["is_poison"].iloc[rows].mean() == pytest.approx(0.05, abs=0.03)
    drawn = table["concepts"].iloc[rows].str[0].value_counts()
    whole = table["concepts"].str[0].value_counts()
    for concept in CONCEPTS:
        assert abs(drawn[concept] - whole[concept] / 10) <= 1


def test_every_pair_is_as_likely():
    table = pandas.DataFrame({"concepts": [["a"]] * 7 + [["b"]] * 2 + [[]]})
    drawn = np.bincount(np.concatenate([even_sample(table, 4, seed) for seed in range(4000)]), minlength=10) / 4000
    assert drawn == pytest.approx(0.4, abs=0.03)


def test_a_score_that_knows_nothing_is_graded_as_chance():
    table = make_table(0.05)
    values = np.full(PAIRS, np.nan)
    values[even_sample(table, 1200, seed=0)] = np.random.default_rng(0).random(1200)
    poisoned = table["is_poison"].to_numpy()
    found = grade_score(values, HIGHEST, poisoned, ~poisoned, draws=10)
    assert found["average_precision"]["value"] == pytest.approx(0.05, abs=0.03)


def test_all_are_taken_where_there_are_no_more_and_none_cannot_be():
    table = make_table(0.5)
    assert even_sample(table, PAIRS + 1, seed=0).tolist() == list(range(PAIRS))
    with pytest.raises(ValueError, match="sample size is 0: expected at least 1"):
        even_sample(table, 0, seed=0)
