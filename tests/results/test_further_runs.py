"""Training runs that a study names: what they give together, which are not there, and whether the recipe was tuned."""

from dataclasses import replace

import pytest

from explorer.core.provenance import ROOT
from explorer.results.further_runs import further_runs, told_of_runs
from explorer.results.measured import Measured
from explorer.studies.study import Study

SHIPPED = Study.load(ROOT / "assets" / "studies" / "iconworld")
UNTUNED = ("exchanged-nouns", "seed-1", "seed-2", "seed-4", "seed-5")


def test_the_shipped_recipe_was_tuned_and_its_five_untuned_runs_speak_for_it():
    assert SHIPPED.recipe_tuned
    assert tuple(place.name for place in SHIPPED.runs) == UNTUNED
    runs, lacking = further_runs(SHIPPED)
    assert (len(runs["runs"]), lacking) == (5, "")
    share = runs["models"][-1]["accuracy_of_control"]
    assert share["mean"] == pytest.approx(0.40, abs=0.005), "the headline of README.md and docs/results.md"
    told = told_of_runs(SHIPPED, runs)
    assert "revised after what it gives on these very concepts had been seen: over 5 training runs" in told
    assert "keep 0.40 [0.36, 0.44] of the control's accuracy at C_P = 60" in told
    assert Measured.of(SHIPPED).runs == runs


def test_a_study_that_was_not_tuned_counts_as_a_run_of_its_own():
    runs, _ = further_runs(replace(SHIPPED, recipe_tuned=False, runs=SHIPPED.runs[:1]))
    assert len(runs["runs"]) == 2
    assert told_of_runs(replace(SHIPPED, recipe_tuned=False), runs).startswith("Over 2 training runs of this recipe")


def test_runs_that_are_not_there_are_named_and_the_others_count(tmp_path):
    runs, lacking = further_runs(replace(SHIPPED, runs=(*SHIPPED.runs[:2], tmp_path / "gone")))
    assert len(runs["runs"]) == 2
    assert lacking == "no evaluation of the training run gone is there"
    lonely = replace(SHIPPED, runs=(SHIPPED.runs[0], tmp_path / "gone"))
    assert further_runs(lonely) == (None, lacking)
    assert told_of_runs(lonely, None).endswith("what it gives where it was not is not known here.")
    assert Measured.of(lonely).problems["runs"] == lacking


def test_runs_that_cannot_be_taken_together_are_said_to_be_so(tmp_path):
    (tmp_path / "evaluation.json").write_text("[]", encoding="utf-8")
    runs, lacking = further_runs(replace(SHIPPED, runs=(*SHIPPED.runs[:1], tmp_path)))
    assert runs is None
    assert "the training runs cannot be taken together" in lacking
    assert "is no evaluation.json" in lacking


def test_a_study_without_further_runs_says_nothing():
    alone = replace(SHIPPED, runs=(), recipe_tuned=False)
    assert further_runs(alone) == (None, "")
    assert told_of_runs(alone, None) == ""


def test_runs_are_written_read_and_refused_as_studies_beside_are(tmp_path):
    study = replace(SHIPPED, folder=tmp_path / "mine", beside=(), runs=(tmp_path / "one",), recipe_tuned=True)
    study.write()
    text = (study.folder / "study.toml").read_text(encoding="utf-8")
    assert 'runs = ["../one"]' in text
    assert "beside" not in text
    found = Study.load(study.folder)
    assert (found.runs, found.recipe_tuned) == (study.runs, True)
    with pytest.raises(ValueError, match="runs names the study itself"):
        replace(study, runs=(study.folder,))
    with pytest.raises(ValueError, match="runs names one twice"):
        replace(study, runs=(tmp_path / "one", tmp_path / "one"))
    (study.folder / "study.toml").write_text(text.replace('["../one"]', '"../one"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs of the study is '../one': expected a list of paths"):
        Study.load(study.folder)
