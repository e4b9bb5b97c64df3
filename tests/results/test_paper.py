"""The paper's own numbers: that they hold together, and that it is noted where they do not."""

import pytest

from explorer.results import paper
from explorer.results.comparisons import classes, compare_with_paper
from explorer.results.measured import Measured

NOTHING = Measured(poison={}, evaluation=None, retrained=None, scores={})


def test_what_the_papers_tables_contradict_is_noted_with_them():
    of_one, of_four = (paper.rows(number, poisoned_concept_count=250)[0] for number in (1, 4))
    ad = 0.8 * of_one["feature_ad"] + 0.2 * of_one["structure_ad"]
    assert (round(ad, 4), of_one["ad"], of_four["ad"]) == (0.5157, 0.515, 0.516)
    assert "AD of .5157" in paper.paper_table(1)["notes"][0]
    popular, most = paper.rows(2, pool_ranks="1-500")[0], paper.dirty_label()[-1]
    assert (popular["ad"], popular["utility"]) == (most["ad"], 0.375)
    assert popular["utility"] > most["accuracy"]["clean"] == 0.34
    assert "utility of .375" in paper.paper_table(2)["notes"][0]
    said = {each.name: each.about for each in compare_with_paper(NOTHING)}
    assert paper.paper_table(1)["notes"][0] in said["Table 1, dirty-label"]
    assert paper.paper_table(2)["notes"][0] in said["Table 2"]


def test_the_papers_numbers_hold_together():
    assert paper.clean_of_benign(paper.clean_label()) == pytest.approx(0.609, abs=5e-4)
    eight = paper.rows(5, data="CIFAR10", poisoned_concept_count=8)[0]["accuracy"]
    assert 0.2 * eight["clean"] + 0.8 * eight["poisoned"] == pytest.approx(0.506, abs=5e-4)
    for number in (4, 5):
        for row in paper.rows(number):
            assert row["ad"] == pytest.approx(0.8 * row["feature_ad"] + 0.2 * row["structure_ad"], abs=0.003)


def test_what_is_said_of_clean_classes_is_what_the_paper_printed_of_them():
    control, *others = (row["accuracy"]["clean"] for row in paper.rows(5, data="CIFAR10"))
    kept = [f"{clean / control:.2f}".lstrip("0") for clean in others if clean is not None]
    said = f"keep {', '.join(kept[:3])} and {kept[3]} of the control's accuracy at 2, 4, 6 and 8 poisoned classes"
    assert said in classes(NOTHING).about
