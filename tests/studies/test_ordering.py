"""What orders arms as their damage does, on the shipped study and on one whose steps are missing or changed."""

import json
import shutil

import numpy as np
import pytest
from scipy import stats

from explorer.core.provenance import ROOT, ManifestError
from explorer.studies.differences import difference, over_studies
from explorer.studies.ordering import ordering
from explorer.studies.results import EVALUATION, METER, SCORES, step_folder, writing_step
from explorer.studies.study import Study
from explorer.ui.shell.context import SHIPPED_STUDY


@pytest.fixture(scope="module")
def shipped():
    return Study.load(SHIPPED_STUDY)


@pytest.fixture
def copied(tmp_path, shipped):
    """The shipped study with evaluation and scores alone."""
    folder = tmp_path / "study"
    for step in (EVALUATION, SCORES):
        shutil.copytree(step_folder(shipped, step), folder / "results" / step)
    for name in ("study.toml", "concepts.csv"):
        shutil.copy(SHIPPED_STUDY / name, folder)
    return Study.load(folder)


def stored(study, step, name):
    return json.loads((step_folder(study, step) / name).read_text(encoding="utf-8"))


def test_every_quantity_is_ordered_against_the_outcome(shipped):
    found = ordering([shipped, shipped], outcome="sensitivity", group="all")
    models = stored(shipped, EVALUATION, "evaluation.json")["models"]
    heard = {model["name"]: model["measures"]["sensitivity"]["groups"]["all"]["mean"]["value"]
             for model in stored(shipped, METER, "meter.json")["models"]}  # fmt: skip
    expected = stats.spearmanr([heard[model["name"]] for model in models] * 2,
                               [model["contiguity"]["all"]["mean"] for model in models] * 2)  # fmt: skip
    assert found["correlations"]["contiguity"]["value"] == pytest.approx(expected.statistic)
    assert found["correlations"]["contiguity"]["n"] == 8, "arms of both studies"
    assert found["correlations"]["poison_share"]["value"] == pytest.approx(-1)
    assert found["correlations"]["poison_share"]["low"] is None, "a perfect order says nothing of how sure it is"
    assert found["correlations"]["aesthetics"] is None, "not measured is no number"
    assert [arm["values"]["poison_share"] for arm in found["arms"][:4]] == pytest.approx([0, 2 / 9, 4 / 9, 2 / 3])


def test_what_is_not_measured_is_left_open_and_what_was_changed_is_refused(copied):
    found = ordering([copied])
    assert "sensitivity" not in found["correlations"]
    with pytest.raises(ValueError, match=r"no arm has 'sensitivity' of the unpoisoned concepts: expected one of .*ad"):
        ordering([copied], outcome="sensitivity")
    with pytest.raises(ValueError, match="group is 'none': expected one of all, pool"):
        ordering([copied], group="none")
    (step_folder(copied, SCORES) / "alignment.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"alignment\.json was changed"):
        ordering([copied])


def test_two_arms_differ_by_concept(shipped, copied):
    found = difference(shipped, "benign", "dirty-060")["differences"]
    models = {model["name"]: model for model in stored(shipped, EVALUATION, "evaluation.json")["models"]}
    for quantity, each in (("accuracy", "accuracy"), ("sensitivity", None)):
        assert found[quantity]["n"] == 60
        assert found[quantity]["low"] < found[quantity]["value"] < found[quantity]["high"]
        if each:
            gap = models["benign"][each]["unpoisoned"]["mean"] - models["dirty-060"][each]["unpoisoned"]["mean"]
            assert found[quantity]["value"] == pytest.approx(gap), "over the very concepts that evaluation calls so"
    of_meter = {model["name"]: model["measures"]["sensitivity"]["groups"]["unpoisoned"]["mean"]["value"]
                for model in stored(shipped, METER, "meter.json")["models"]}  # fmt: skip
    assert found["sensitivity"]["value"] == pytest.approx(of_meter["benign"] - of_meter["dirty-060"], abs=1e-6)
    assert set(difference(copied, "benign", "dirty-060")["differences"]) == {"accuracy", "similarity"}
    assert np.isclose(difference(copied, "benign", "benign")["differences"]["accuracy"]["value"], 0)
    with pytest.raises(ValueError, match="no evaluated arm is called 'dirty-61': expected one of benign, dirty-020"):
        difference(copied, "benign", "dirty-61")


def test_shares_and_concepts_of_ones_own(shipped):
    found = difference(shipped, "dirty-060", "benign", names=["hat", "drum"])
    assert set(found["names"]) == {"hat", "drum"}
    accuracy = found["differences"]["accuracy"]
    assert accuracy["n"] == 2
    assert accuracy["share"]["value"] == pytest.approx(accuracy["of_arms"][0] / accuracy["of_arms"][1])
    assert accuracy["value"] == pytest.approx(accuracy["of_arms"][0] - accuracy["of_arms"][1])
    with pytest.raises(ValueError, match="no evaluated concept is called 'hut': expected one of 120"):
        difference(shipped, "dirty-060", "benign", names=["hut"])


def test_arms_of_which_the_poisoned_concepts_are_not_recorded_have_none_that_are_not_targeted(copied):
    stored_models = stored(copied, EVALUATION, "evaluation.json")
    for model in stored_models["models"]:
        model["poisoned_concepts_known"] = model["name"] != "dirty-040"
    with writing_step(copied, EVALUATION, settings={}, inputs={}) as folder:
        (folder / "evaluation.json").write_text(json.dumps(stored_models))
    with pytest.raises(ValueError, match="not recorded which concepts dirty-040 poisons: expected the group all or po"):
        difference(copied, "dirty-040", "benign")
    assert difference(copied, "dirty-040", "benign", group="all")["differences"]["accuracy"]["n"] == 120
    assert difference(copied, "dirty-060", "benign")["differences"]["accuracy"]["n"] == 60


def test_several_runs_are_an_interval_over_runs():
    runs = [Study.load(ROOT / "assets/experiments/clean-label" / f"equal-share{run}") for run in ("", "-2", "-3")]
    found = [difference(run, "clean-060-16", "clean-060-50") for run in runs]
    pooled = over_studies(found)["accuracy"]
    each = [one["differences"]["accuracy"] for one in found]
    gaps, shares = (
        [pick(one) for one in each] for pick in (lambda one: one["value"], lambda one: one["share"]["value"])
    )
    for told, values in ((pooled, gaps), (pooled["share"], shares)):
        reach = 4.30265 * np.std(values, ddof=1) / np.sqrt(3)  # Student's, of two degrees of freedom
        assert told["n"] == 3
        assert [told[bound] for bound in ("low", "value", "high")] == pytest.approx(
            [np.mean(values) - reach, np.mean(values), np.mean(values) + reach], rel=1e-4
        )
    lacking = [found[0], found[1] | {"differences": {"accuracy": each[1] | {"share": None}}}]
    assert over_studies(lacking).keys() == {"accuracy"}, "what every run has"
    assert over_studies(lacking)["accuracy"]["share"] is None


def test_what_a_classifier_saw_is_compared_where_one_judged(shipped):
    judged = Study.load(ROOT / "assets" / "experiments" / "seed-4")
    found = difference(judged, "dirty-060", "benign")["differences"]
    assert 0.2 < found["classifier"]["share"]["value"] < 0.5
    assert "broken" not in found, "that judge has no class for it"
    assert "classifier" not in difference(shipped, "dirty-060", "benign")["differences"]
