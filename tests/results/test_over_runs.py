"""What a study's training runs say of the paper's numbers, beside what it measured itself."""

from dataclasses import replace

import pytest

from explorer.core.provenance import ROOT
from explorer.results.comparisons import compare_study
from explorer.results.measured import Measured
from explorer.results.over_runs import share_over_runs
from explorer.studies.study import Study

SHIPPED = ROOT / "assets" / "studies" / "iconworld"
EXPERIMENTS = ROOT / "assets" / "experiments"


def quantities_of(name, study):
    comparisons = {each.name: each for each in compare_study(study, Measured.of(study))}
    return [(each.over, each.here, each.verdict) for each in comparisons[name].quantities]


def test_figures_of_maps_are_told_over_the_untuned_runs_too():
    shipped = Study.load(SHIPPED)
    alone, over_runs, fading = quantities_of("Figures 3 and 4", shipped)
    assert (alone[0], alone[2]) == ("60 concepts", "not told apart"), "five noises are no replications"
    assert (over_runs[0], over_runs[2]) == ("5 training runs", "agrees")
    assert over_runs[1].value == pytest.approx(0.2446 - 0.2091, abs=1e-3), "as training-runs prints both"
    assert (fading[0], fading[2]) == ("5 training runs", "agrees")
    alone, over_runs = quantities_of("Figure 7", shipped)
    assert (alone[0], over_runs[0], over_runs[2]) == ("prompts", "5 training runs", "not told apart")


def test_clean_label_models_are_told_over_their_runs_and_with_those_that_share_their_control():
    study = Study.load(EXPERIMENTS / "clean-label" / "equal-share")
    found = quantities_of("Table 1, clean-label", study)
    over = {told: here for told, here, _ in found}
    assert over["3 training runs, clean-060-16"].value == pytest.approx(0.857, abs=1e-3)
    assert over["3 training runs, clean-060-50"].value == pytest.approx(0.476, abs=1e-3)
    assert "3 training runs, and the concepts and noises in them, clean-060-50" in over
    assert "5 models" in over, "with two of the sweep, of the same control"
    assert [told for told, _, _ in quantities_of("Figure 6", study)] == ["8 models"], "the dirty-label one counts once"
    assert [told for told, _, _ in quantities_of("Figure 6", replace(study, beside=()))] == ["4 models"]


def test_a_control_that_never_looks_at_the_concept_has_no_share():
    measured = Measured.of(Study.load(SHIPPED))
    told = [measured, "late_word_mass_unpoisoned", "attention"]
    assert len(share_over_runs(*told)) == 1
    control, *others = measured.runs["models"]
    values = [0.0, *control["late_word_mass_unpoisoned"]["values"][1:]]
    blind = control | {"late_word_mass_unpoisoned": control["late_word_mass_unpoisoned"] | {"values": values}}
    told[0] = replace(measured, runs=measured.runs | {"models": [blind, *others]})
    assert share_over_runs(*told) == []
