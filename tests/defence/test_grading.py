"""Grades against scikit-learn, and intervals that hold what they should."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from explorer.defence.grading import (
    Confusion,
    grade_filter,
    grade_score,
)


@pytest.fixture(scope="module")
def scored():
    """Rounded scores, so that many are equal; a fifth of the pairs are of unknown kind."""
    random = np.random.default_rng(3)
    poisoned = random.random(400) < 0.3
    known = random.random(400) < 0.8
    values = (random.normal(size=400) + 1.5 * poisoned).round(1).astype(np.float32)
    return values, poisoned & known, ~poisoned & known


@pytest.mark.parametrize("remove", ["highest", "lowest"])
def test_areas_are_scikit_learns(scored, remove):
    values, poisoned, benign = scored
    known = poisoned | benign
    suspicion = values[known] if remove == "highest" else -values[known]
    grade = grade_score(values, remove, poisoned, benign, draws=50)
    assert grade["auc"]["value"] == pytest.approx(roc_auc_score(poisoned[known], suspicion), abs=1e-12)
    assert grade["average_precision"]["value"] == pytest.approx(
        average_precision_score(poisoned[known], suspicion), abs=1e-12
    )
    assert all(each["low"] < each["value"] < each["high"] for each in grade.values())


def test_intervals_of_areas_are_as_wide_as_chance_has_it(scored):
    values, poisoned, benign = scored
    found = grade_score(values, "highest", poisoned, benign, draws=400)["auc"]
    area, positive, negative = found["value"], int(poisoned.sum()), int(benign.sum())
    # Hanley and McNeil (1982).
    once, twice = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (once - area**2) + (negative - 1) * (twice - area**2)
    error = (variance / positive / negative) ** 0.5
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.25)
    assert found == grade_score(values, "highest", poisoned, benign, draws=400)["auc"]


def test_half_of_the_poison_is_reached_on_the_line_over_equals():
    # Of the two poison pairs one stands alone; the other shares its score with two benign pairs.
    values = np.array([9, 5, 5, 5, 1], np.float32)
    poisoned = np.array([True, True, False, False, False])
    assert grade_score(values, "highest", poisoned, ~poisoned, draws=1)["benign_lost_at_half"]["value"] == 0
    poisoned = np.array([False, True, True, False, False])
    half = grade_score(values, "highest", poisoned, ~poisoned, draws=1)["benign_lost_at_half"]["value"]
    assert half == pytest.approx((1 + 0.5) / 3)


def test_where_no_draw_differs_no_interval_is_claimed():
    poisoned = np.arange(8) < 4
    grade = grade_score(np.arange(8, dtype=np.float32), "lowest", poisoned, ~poisoned, draws=50)
    assert grade["auc"] == {"value": 1.0, "low": None, "high": None}
    assert grade["benign_lost_at_half"] == {"value": 0.0, "low": None, "high": None}


def test_without_both_kinds_nothing_is_graded():
    values, all_of_them = np.arange(4, dtype=np.float32), np.ones(4, bool)
    assert set(grade_score(values, "lowest", all_of_them, ~all_of_them).values()) == {None}
    assert set(grade_score(values, "lowest", ~all_of_them, ~all_of_them).values()) == {None}
    assert set(grade_score(np.full(4, np.nan), "lowest", values > 1, values <= 1).values()) == {None}


def test_rates_of_a_filter_are_scikit_learns(scored):
    values, poisoned, benign = scored
    removed, known = values > 1, poisoned | benign
    confusion = Confusion.of(removed, poisoned, benign)
    assert confusion.unrecorded_removed == (removed & ~known).sum()
    grade = grade_filter(confusion)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert grade[name]["value"] == pytest.approx(score(poisoned[known], removed[known]))
        assert grade[name]["low"] < grade[name]["value"] < grade[name]["high"]
    assert grade["benign_lost"]["value"] == pytest.approx((removed & benign).sum() / benign.sum())
    assert grade["poison_removed"] == grade["recall"]


def test_where_no_benign_pair_of_3000_is_lost_some_of_30000_may_be():
    grade = grade_filter(Confusion(poison_removed=900, benign_removed=0, poison_kept=0, benign_kept=3000))
    assert (grade["benign_lost"]["value"], grade["benign_lost"]["low"]) == (0, 0)
    assert grade["benign_lost"]["high"] == pytest.approx(0.00128, abs=5e-6)
    assert grade["f1"]["value"] == grade["f1"]["high"] == 1
    assert 0.995 < grade["f1"]["low"] < grade["recall"]["high"] == 1


def test_f1s_interval_holds_it_as_often_as_it_says():
    """Counts drawn again and again from known rates: the coverage of 95 % intervals."""
    rng, share = np.random.default_rng(0), np.array([0.3, 0.05, 0.2, 0.45])
    truth = 2 * share[0] / (2 * share[0] + share[1] + share[2])
    held = 0
    for caught, lost, missed, kept in rng.multinomial(400, share, size=500).tolist():
        counts = Confusion(poison_removed=caught, benign_removed=lost, poison_kept=missed, benign_kept=kept)
        f1 = grade_filter(counts)["f1"]
        held += f1["low"] <= truth <= f1["high"]
    assert 0.93 <= held / 500 <= 0.97


def test_a_rate_of_nothing_is_unknown():
    nothing_removed = grade_filter(Confusion(poison_removed=0, benign_removed=0, poison_kept=3, benign_kept=4))
    assert nothing_removed["precision"] is None
    assert nothing_removed["recall"]["value"] == 0
    empty = grade_filter(Confusion(poison_removed=0, benign_removed=0, poison_kept=0, benign_kept=0))
    assert set(empty.values()) == {None}
