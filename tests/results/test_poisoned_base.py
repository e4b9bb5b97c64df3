"""AD over what a model was trained on in turn, and what it predicts."""

import pytest

from explorer.results.measured import Measured
from explorer.results.poisoned_base import Continued, Later, of_paper, of_study, on_poisoned_bases, report

LINE = ((0.2, 0.8), (0.6, 0.4))
"""Accuracy is 1 less AD."""


def case(*recovered):
    models = (Later(name="recovered", base=(0.6, 0.4), later=0.2, share=share, accuracy=accuracy)
              for share, accuracy in recovered)  # fmt: skip
    return Continued(line=LINE, models=tuple(models))


def test_the_history_is_the_mean_over_all_pairs_and_weights_count_as_more_of_them():
    found = case((1.0, 0.6), (0.25, 0.4), (0.0, 0.4))
    whole, quarter, none = found.models
    assert whole.history() == pytest.approx(0.4)
    assert quarter.history(weight=4) == pytest.approx(whole.history())
    assert none.history() == 0.6
    assert found.predicted() == pytest.approx([0.6, 1 - (0.6 + 0.25 * 0.2) / 1.25, 0.4])
    assert found.error([0.7, 0.5, 0.4]) == pytest.approx(0.2 / 3)


def test_a_weight_is_found_that_made_the_accuracies():
    truth = case((0.1, 0), (0.5, 0), (2.0, 0))
    found = case(*((model.share, made) for model, made in zip(truth.models, truth.predicted(7.3), strict=True)))
    assert found.fitted_weight() == pytest.approx(7.3)
    assert found.error(found.predicted(7.3)) == pytest.approx(0)


def test_models_that_any_weight_fits_alike_fit_none():
    flat = Continued(line=((0.2, 0.0), (0.6, 0.0)), models=case((0.5, 0.0)).models)
    assert flat.fitted_weight() is None
    told = report(flat)
    assert (told["fitted_weight"], told["mean_error_of_fit"]) == (None, None)
    assert on_poisoned_bases(flat).count("times, as fits the others") == 1, "the paper's weight, for these models"


def test_the_papers_model_is_that_of_its_table_1():
    found = of_paper()
    assert {model.base for model in found.models} == {(0.465, 0.548)}
    assert found.line[0] == (0.441, 0.9)
    assert [model.share for model in found.models] == [0.1, 0.2, 0.4, 0.6]


def model(name, count, difficulty, accuracy, start=None, pairs=100):
    return {"name": name, "poisoned_concept_count": count, "weights": f"weights of {name}", "start_weights": start,
            "alignment_difficulty": difficulty and {"ad": difficulty, "n": pairs},
            "accuracy": {"unpoisoned": {"mean": accuracy}}}  # fmt: skip


def measured(retrained, *models):
    from explorer.core.poison_record import NO_POISON, PoisonRecord

    poison = {each["name"]: PoisonRecord(kind="dirty-label", concepts=each["poisoned_concept_count"])
              if each["poisoned_concept_count"] else NO_POISON for each in models}  # fmt: skip
    return Measured(poison=poison, evaluation={"models": list(models)}, retrained=retrained, scores={})


def top1(accuracy):
    return {"metrics": {"top1": {"unpoisoned": accuracy and {"mean": accuracy}}}}


def test_recoveries_of_a_study_are_read_beside_its_line():
    arm = {"recovery": [top1(0.7) | {"share": 0.5}, top1(0.5) | {"share": 0.1}], "unfiltered": top1(0.38)}
    models = model("benign", 0, 0.2, 0.8), model("dirty", 20, 0.6, 0.4)
    found = of_study(measured({"arms": {"dirty": arm}}, *models))
    recovered = (Later(name="recovered", base=(0.6, 0.38), later=0.2, share=share, accuracy=accuracy)
                 for share, accuracy in ((0.1, 0.5), (0.5, 0.7)))  # fmt: skip
    assert found == Continued(line=LINE, models=tuple(recovered))
    told = report(found)
    assert (told["models"][1]["measured"], told["papers_weight"]) == (0.7, of_paper().fitted_weight())
    assert [each["weighted"] for each in told["models"]] == found.predicted(told["papers_weight"])
    assert on_poisoned_bases(found).count("| here |") == 2
    for retrained, known in (
        (None, models),
        ({"arms": {"dirty": arm | {"recovery": []}}}, models),
        ({"arms": {"dirty": arm | {"unfiltered": None}}}, models),
        ({"arms": {"dirty": arm}}, (models[0], model("dirty", 20, None, 0.4))),
    ):
        assert of_study(measured(retrained, *known)) is None
    assert report(None) is None
    assert "here" not in on_poisoned_bases(None)


def test_arms_that_another_arm_was_trained_on_to_are_held_against_the_history_and_leave_the_line_alone():
    found = of_study(measured(
        None, model("benign", 0, 0.2, 0.8), model("dirty", 20, 0.6, 0.4),
        model("dirty-again", 20, 0.6, 0.3, start="weights of dirty", pairs=50),
        model("benign-then-dirty", 20, 0.6, 0.45, start="weights of benign"),
        model("of-another", 0, 0.2, 0.75, start="weights of a model that is no arm"),
        model("no-pairs", 20, None, 0.45, start="weights of benign"),
    ))  # fmt: skip
    assert found == Continued(line=LINE, models=(
        Later(name="dirty-again", base=(0.6, 0.4), later=0.6, share=0.5, accuracy=0.3),
        Later(name="benign-then-dirty", base=(0.2, 0.8), later=0.6, share=1.0, accuracy=0.45),
    ))  # fmt: skip
    assert found.predicted() == pytest.approx([0.4, 0.6])
    assert "| here: dirty-again | 0.50 | 0.600 | 0.400 |" in on_poisoned_bases(found)
