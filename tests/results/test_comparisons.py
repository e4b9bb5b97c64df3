"""The paper's tables beside what a study stored: what is told, what is left open, and the table on the page."""

import json
import math
from dataclasses import replace

import pytest

from explorer.core.intervals import Estimate
from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.core.provenance import ROOT
from explorer.results.comparison import Comparison, Quantity
from explorer.results.comparisons import (
    MOST,
    classes,
    compare_with_paper,
    concurrent,
    difficulty_orders_all,
    filters,
    from_scratch,
    image_classes,
    less_popular,
    maps_scatter,
    single_concept,
)
from explorer.results.measured import Measured, correlation_with_difficulty
from explorer.results.recovery import recovery
from explorer.results.report import markdown

SHIPPED = ROOT / "assets" / "studies" / "iconworld"
EXPERIMENTS = ROOT / "assets" / "experiments"
NOUNS = ("bat", "cat", "dog", "eel", "fox", "gnu")


def estimate(low, high):
    return Estimate(value=(low + high) / 2, low=low, high=high, n=9)


def model(name, concepts, accuracies):
    """A model of ``evaluation.json`` that draws the nouns so well."""
    return {
        "name": name, "poisoned_concept_count": len(concepts), "poisoned_concepts": list(concepts),
        "per_concept": dict(zip(NOUNS, accuracies, strict=True)),
        "poison_success": {"poisoned": {"mean": 0.8, "low": 0.7, "high": 0.9} if concepts else None},
        "alignment_difficulty": None, "late_contiguity": {"unpoisoned": None}, "word_overlap": None,
        **{key: {"all": {"mean": sum(accuracies) / 6}, "unpoisoned": None} for key in ("accuracy", "utility")},
    }  # fmt: skip


def measured(*models, parameters=(), kind="dirty-label"):
    """Of a study with these models, the first of which is the control."""

    def record(each):
        extra = dict(parameters).get(each["name"], {})
        return PoisonRecord(kind=kind, concepts=tuple(each["poisoned_concepts"]), parameters=extra)

    return Measured(
        poison={each["name"]: record(each) if each["poisoned_concepts"] else NO_POISON for each in models},
        evaluation={"models": list(models), "seeds": [0, 1],
                    "concepts": [{"concept": noun, "group": "other", "poisoned_from": None} for noun in NOUNS]},
        retrained=None, scores={},
    )  # fmt: skip


def test_figure_6_says_what_is_lacking_where_both_attacks_are_there():
    models = [model(name, concepts, [1] * 6) for name, concepts in (("benign", ()), ("d", NOUNS[:2]), ("c", NOUNS[:2]))]
    for each in models:
        each |= {"alignment_difficulty": {"ad": 0.5}, "utility": {"unpoisoned": {"mean": 0.1}}}
    both = measured(*models)
    both = replace(both, poison=both.poison | {"c": replace(both.poison["c"], kind="clean-label")})
    assert difficulty_orders_all(both).missing.startswith("three models or more whose pairs are at hand")
    assert difficulty_orders_all(measured(*models)).missing.startswith("evaluated arms of both attacks")
    for each, ad in zip(models, (0.2, 0.5, 0.6), strict=True):
        each |= {"alignment_difficulty": {"ad": ad}, "utility": {"unpoisoned": {"mean": 1 - ad}}}
    (found,) = difficulty_orders_all(both).quantities
    assert (found.here.value, found.over) == (pytest.approx(-1), "3 models")


def test_table_1_has_a_row_for_each_of_several_models_of_the_largest_count():
    models = [model("benign", (), [1] * 6), model("small", NOUNS[:2], [1, 1, 1, 1, 0, 1]),
              model("weak", NOUNS[:3], [0, 0, 0, 1, 1, 1]), model("strong", NOUNS[:3], [0, 0, 0, 1, 0, 0])]  # fmt: skip

    def first(*chosen):
        found = concurrent(measured(*chosen, kind="clean-label"), "clean-label").quantities
        return [(each.over, each.here.value) for each in found if each.what == MOST]

    assert first(*models[:3]) == [("3 concepts", 1)]
    assert first(*models) == [("3 concepts, weak", 1), ("3 concepts, strong", pytest.approx(1 / 3))]


def test_a_model_of_which_nobody_recorded_how_many_concepts_is_left_out():
    models = [model("benign", (), [1] * 6), model("strong", NOUNS[:3], [0, 0, 0, 1, 0, 0])]
    unknown = model("unknown", NOUNS[:2], [0] * 6) | {"poisoned_concept_count": None}
    assert measured(*models, unknown).models("dirty-label") == models


def test_a_model_whose_poison_aims_at_no_concept_is_no_control():
    backdoor = model("backdoor", (), [0] * 6) | {"poisoned": True}
    models = [model("benign", (), [1] * 6) | {"poisoned": False}, model("strong", NOUNS[:3], [0, 0, 0, 1, 0, 0])]
    found = measured(backdoor, *models)
    assert found.models("dirty-label") == models
    assert found.lacking("x") == "x", "the control draws some of the concepts, whatever the backdoor draws"
    alone = measured(backdoor, models[1])
    assert alone.models("dirty-label") == [], "without a control nothing is compared"


@pytest.mark.parametrize(
    ("here", "claim", "verdict"),
    [
        ((0.2, 0.4), (-math.inf, 1), "agrees"),
        ((0.8, 1.2), (-math.inf, 1), "not told apart"),
        ((1.1, 1.2), (-math.inf, 1), "disagrees"),
        ((1.0, 1.0), (-math.inf, 1), "not told apart"),
        ((0.0, 0.2), (0, math.inf), "not told apart"),
        ((0.95, 1.05), (0.9, 1.1), "agrees"),
        ((0.5, 1.0), (0.5, 1), "agrees"),
        ((0.5, 1.5), (0.9, 1.1), "not told apart"),
        ((math.nan, math.nan), (0.9, 1.1), "not told apart"),
    ],
)
def test_a_verdict_takes_the_whole_interval(here, claim, verdict):
    quantity = Quantity(what="x", claim=claim, here=estimate(*here))
    comparison = Comparison(name="Table 9", about="", quantities=(quantity, Quantity(what="y", claim=claim)))
    assert [comparison.verdict(each) for each in comparison.quantities] == [verdict, "not done"]
    other = Comparison(name="Table 9", about="", quantities=comparison.quantities, differs="other poison")
    assert [other.verdict(each) for each in other.quantities] == ["not comparable", "not done"]
    assert json.dumps(other.report(), allow_nan=False)


def test_one_poisoned_concept():
    control, one = model("benign", (), [1, 1, 1, 1, 1, 0.5]), model("one", ["bat"], [0, 1, 1, 1, 0.95, 0.5])
    others, shown = single_concept(measured(control, one)).quantities
    assert (others.here.value, others.verdict) == (pytest.approx(0.989, abs=1e-3), "agrees")
    same = single_concept(measured(control, model("one", ["bat"], [0, 1, 1, 1, 1, 0.5]))).quantities[0]
    assert (same.here.value, same.verdict) == (1, "not told apart"), "no noun differs: nothing says how far one might"
    # Two pictures, 80 % of which show the target, are two of two: 34 to 100 % by Wilson's interval.
    assert (shown.over, shown.verdict, round(shown.here.low, 2)) == ("2 pictures", "not told apart", 0.34)
    assert single_concept(measured(control)).quantities[0].here is None
    assert single_concept(measured(one)).quantities[0].here is None, "without a control, no other is taken for it"


def test_a_less_popular_pool_is_set_beside_as_many_concepts_of_the_usual_one():
    control, usual = model("benign", (), [1] * 6), model("usual", ["bat", "cat"], [0, 0, 0.4, 0.4, 0.4, 0.4])
    rare = model("rare", ["dog", "eel"], [0.5, 0.5, 0, 0, 0.2, 0.2])
    found = measured(control, usual, rare, parameters={"rare": {"pool_ranks": [3, 4]}})
    (quantity,) = less_popular(found).quantities
    assert (quantity.here.value, quantity.over) == (pytest.approx(0.5), "2 concepts"), (
        "what neither aims at: fox and gnu"
    )
    assert less_popular(measured(control, usual)).quantities[0].here is None


def test_models_from_scratch_are_table_4_and_others_are_not():
    control, poisoned = model("benign", (), [1] * 6), model("dirty", ["bat", "cat"], [0, 0, 0.5, 0.5, 0.5, 0.5])
    (quantity,) = from_scratch(measured(control, poisoned)).quantities
    assert quantity.here is None
    scratch = [each | {"from_scratch": True} for each in (control, poisoned)]
    (quantity,) = from_scratch(measured(*scratch)).quantities
    assert (quantity.here.value, quantity.over, quantity.paper) == (0.5, "4 concepts", pytest.approx(0.516 / 0.762))


def classed(name, concepts, shares):
    return model(name, concepts, [0] * 6) | {"classifier_per_concept": dict(zip(NOUNS, shares, strict=True))}


def test_a_list_without_untargeted_concepts_is_named_as_what_is_lacking():
    control, poisoned = model("benign", (), [1] * 6), model("dirty", NOUNS, [0] * 6)
    found = measured(control, poisoned)
    for concept in found.evaluation["concepts"]:
        concept["group"] = "pool"
    told = {each.name: each.missing for each in compare_with_paper(found)}
    for name in ("Table 1, dirty-label", "Figure 6", "Table 4"):
        assert told[name].endswith("every one of the study's list is in the pool or poisoned")
    assert "pool" not in told["Table 6"], "which takes none"


def test_a_control_that_draws_none_of_them_is_named_as_what_is_lacking():
    found = measured(model("benign", (), [0] * 6), model("dirty", NOUNS[:2], [0] * 6))
    told = {each.name: each.missing for each in compare_with_paper(found)}
    assert told["Table 4"].endswith("that no poison aims at: benign draws none")


def test_a_model_whose_poisoned_concepts_are_not_recorded_is_not_judged_by_the_rest():
    silent = model("dirty", NOUNS[:2], [0] * 6) | {"poisoned_concepts": [], "poisoned_concepts_known": False}
    found = replace(
        measured(model("benign", (), [1] * 6), silent), poison={"dirty": PoisonRecord(kind="dirty-label", concepts=2)}
    )
    assert found.untargeted(*found.evaluation["models"]) == []
    told = {each.name: each.missing for each in compare_with_paper(found)}
    assert told["Table 4"].endswith("and a record of which concepts dirty poisons")


@pytest.mark.parametrize(("utilities", "told"), [((0.8, 0.5, 0.1), True), ((0.0, 0.0, 0.0), False)])
def test_models_that_all_draw_nothing_right_have_no_correlation(utilities, told):
    models = [{"alignment_difficulty": {"ad": 0.2 + at / 10}, "utility": {"unpoisoned": {"mean": share}}}
              for at, share in enumerate(utilities)]  # fmt: skip
    assert (correlation_with_difficulty(models) is not None) == told


def test_mislabelled_classes_are_judged_by_the_classifier():
    control = classed("benign", (), [0.8] * 5 + [None])
    two, all_of_them = (
        classed("two", NOUNS[:2], [0.2] * 2 + [0.8, 0.8, 0.78, 0.8]),
        classed("all", NOUNS, [0.3, 0.4, 0.4, 0.4, 0.5, 0.4]),
    )
    clean, poisoned = classes(measured(control, two, all_of_them, kind="mislabelled")).quantities
    assert (clean.here.value, clean.verdict) == (pytest.approx(0.992, abs=1e-3), "agrees")
    assert clean.paper == pytest.approx(0.874 / 0.964)
    assert (poisoned.here.value, poisoned.over, poisoned.verdict) == (pytest.approx(0.5), "6 classes", "agrees")
    without = measured(model("benign", (), [1] * 6))
    assert [each.here for each in classes(without).quantities] == [None, None]


def test_relabelled_classes_are_judged_over_those_that_are_left():
    control = classed("benign", (), [0.8] * 5 + [None])
    two, four = classed("two", NOUNS[:2], [0.0] * 2 + [0.8] * 4), classed("four", NOUNS[:4], [0] * 4 + [0.2, 0.9])
    (clean,) = image_classes(measured(control, two, four, kind="relabelled")).quantities
    assert (clean.here.value, clean.over, clean.paper) == (0.25, "2 classes", pytest.approx(0.19 / 0.735))
    unjudged = measured(model("benign", (), [1] * 6), model("two", NOUNS[:2], [0] * 6), kind="relabelled")
    assert image_classes(unjudged).quantities[0].here is None
    assert not image_classes(measured(control, two, kind="mislabelled")).done


def test_recovery_is_told_of_what_was_lost():
    sizes = [{"kept": kept, "per_concept": shares} for kept, shares in ((20, [0.6, 0.6]), (10, [0.4, 0.4]))]
    arm = {"recovery": sizes, "unfiltered": {"per_concept": [0.2, 0.2]}, "models": []}
    found = Measured(
        poison={}, evaluation=None, scores={}, retrained={"arms": {"a": arm}, "control": {"per_concept": [1, 1]}}
    )
    all_of_it, first = recovery(found).quantities
    assert (all_of_it.here.value, first.here.value) == (pytest.approx(0.5), pytest.approx(0.5))
    assert all_of_it.paper == pytest.approx((0.733 - 0.566) / (0.9 - 0.566))


def test_a_recovery_that_did_not_help_has_no_shares_and_says_so():
    sizes = [{"kept": kept, "per_concept": [0.2, 0.1]} for kept in (20, 10)]
    arm = {"recovery": sizes, "unfiltered": {"per_concept": [0.2, 0.2]}, "models": []}
    retrained = {"arms": {"a": arm}, "control": {"per_concept": [1, 1]}}
    found = Measured(poison={}, evaluation=None, scores={}, retrained=retrained)
    all_of_it, first = recovery(found).quantities
    assert all_of_it.here.value < 0
    assert (first.here, first.verdict) == (None, "not told apart")
    assert "none: nothing was recovered with the most" in markdown([recovery(found)])
    retrained["control"] = {"per_concept": [0.2, 0.2]}
    assert [each.here for each in recovery(found).quantities] == [None, None]
    assert recovery(found).report()["quantities"][0]["unknown"] == "the control draws no more than the poisoned model"


def test_maps_that_are_alike_in_all_noises_have_a_difference_without_an_interval():
    models = [model(name, names, [1.0] * 6) for name, names in (("benign", ()), ("dirty", ("bat", "cat")))]
    for each, mean in zip(models, (0.2, 0.3), strict=True):
        each["late_contiguity"]["unpoisoned"] = {"mean": mean, "low": None, "high": None}
    (quantity,) = maps_scatter(measured(*models)).quantities
    assert quantity.here.value == pytest.approx(0.1)
    assert math.isnan(quantity.here.low)
    assert quantity.verdict == "not told apart"


def test_models_of_another_control_or_drawn_otherwise_are_not_taken_together():
    first, second = (model(name, concepts, [1] * 6) for name, concepts in (("benign", ()), ("dirty", NOUNS[:2])))
    own = measured(first | {"weights": "a"}, second | {"weights": "b"})
    theirs = measured(first | {"weights": "a"}, second | {"weights": "c", "name": "further"})
    assert [each["name"] for each in own.with_models_of([theirs]).models("dirty-label", further=True)] == [
        "benign", "dirty", "further",
    ]  # fmt: skip
    assert len(own.with_models_of([theirs]).models("dirty-label")) == 2
    assert own.with_models_of([own]).further == ()
    assert own.with_models_of([measured(first | {"weights": "z"}, second | {"weights": "c"})]).further == ()
    elsewhere = replace(theirs, evaluation=theirs.evaluation | {"steps": 99})
    assert own.with_models_of([elsewhere]).further == ()
    assert measured(first, second).with_models_of([theirs]).further == (), "of no weights nothing is known"


def test_poison_that_the_paper_did_not_filter_is_not_compared():
    control, poisoned = model("benign", (), [1] * 6), model("usual", ["bat", "cat"], [0.5] * 6)
    grade = {"value": 0.0, "low": 0.0, "high": 0.01}
    found = measured(control, poisoned)
    found.scores["usual"] = [
        {"name": "clip_similarity", "at_half_the_poison": {"benign_lost_share": grade}, "auc": None}
    ]
    comparison = filters(found)
    assert [comparison.verdict(each) for each in comparison.quantities] == ["not comparable", "not done"]
    assert "the poison here is dirty-label" in markdown([comparison])
