"""Attention layer by layer, of an evaluation that has layers and of one that has none."""

import json
import shutil
from types import SimpleNamespace

import pytest

from explorer.core.provenance import ROOT, write_manifest
from explorer.evaluation.files import EVALUATION_NAME
from explorer.studies.layers import by_layer
from explorer.studies.results import EVALUATION, KIND
from explorer.studies.study import Study
from explorer.ui.shell.context import SHIPPED_STUDY


@pytest.fixture(scope="module")
def evaluated(micro_evaluation, tmp_path_factory):
    """A study whose evaluation is the micro world's, and that evaluation."""
    folder, report = micro_evaluation
    place = tmp_path_factory.mktemp("study") / EVALUATION
    place.mkdir()
    shutil.copy(folder / EVALUATION_NAME, place)
    write_manifest(place, kind=KIND, config={}, seed=None, files=[EVALUATION_NAME])
    return SimpleNamespace(name="micro", folder=place.parent, results=place.parent), report


def test_every_layer_of_every_arm_is_there_in_the_numbers_of_the_evaluation(evaluated):
    study, report = evaluated
    found = by_layer(study, group="pool")
    control = report["models"][0]
    assert list(found["layers"]) == control["attention_layers"]
    for layer, metrics in found["layers"].items():
        assert set(metrics) == {"late_word_mass", "late_contiguity", "word_overlap", "mask_mass", "mask_overlap"}
        assert set(metrics["late_word_mass"]) == {model["name"] for model in report["models"]}
        of_group = control["by_layer"][layer]["late_word_mass"]["pool"]
        assert metrics["late_word_mass"][control["name"]]["mean"] == of_group["mean"]
        pairs = control["by_layer"][layer]["word_overlap"]
        assert metrics["word_overlap"][control["name"]]["mean"] == pairs["mean"], "of pairs, which have no groups"
    json.dumps(found, allow_nan=False)


def test_a_group_that_an_arm_has_not_is_no_number(evaluated):
    study, report = evaluated
    layer = report["models"][0]["attention_layers"][0]
    found = by_layer(study, group="poisoned")["layers"][layer]["late_word_mass"]
    assert found[report["models"][0]["name"]] is None
    assert found[report["models"][-1]["name"]]["mean"] > 0


def test_an_evaluation_without_layers_says_what_to_do(evaluated):
    with pytest.raises(
        ValueError, match="holds no attention layers: expected one with maps, made by this release; delete"
    ):
        by_layer(Study.load(SHIPPED_STUDY))
    with pytest.raises(ValueError, match="group is 'none': expected one of all, pool"):
        by_layer(evaluated[0], group="none")


def test_late_contiguity_rises_in_five_of_six_layers_in_every_run_of_the_short_recipe():
    """As docs/results.md says; that it rises in every layer is true of the shipped, tuned run alone."""
    rises = {}
    for run in ("", "-2", "-3"):
        study = Study.load(ROOT / "assets" / "experiments" / "clean-label" / f"equal-share{run}")
        for layer, metrics in by_layer(study)["layers"].items():
            late, fading = metrics["late_contiguity"], metrics["late_word_mass"]
            rises.setdefault(layer, []).append(late["dirty-060"]["mean"] - late["benign"]["mean"])
            assert 0.36 < fading["dirty-060"]["mean"] / fading["benign"]["mean"] < 0.74
    unlike = {layer for layer, of_runs in rises.items() if min(of_runs) <= 0}
    assert unlike == {"up_blocks.2.attentions.0.transformer_blocks.0.attn1"}
    assert [rise > 0 for rise in rises[unlike.pop()]] == [False, True, False]
