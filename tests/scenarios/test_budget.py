"""A budgeted build trains what fits, tells how much, and makes models like any other build's."""

import json
from dataclasses import replace

import pytest

from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.provenance import read_manifest
from explorer.scenarios.budget import FEWEST_STEPS, SHARES, BudgetedBuild

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(micro_recipe):
    return replace(micro_recipe, base=micro_recipe.base[:1], poisoned_concept_counts=(2,))


@pytest.fixture(scope="module")
def built(small, tmp_path_factory):
    folder, reports = tmp_path_factory.mktemp("budget"), []
    build = BudgetedBuild(
        recipe=small, run=folder / "run", output=folder / "models", device="cpu", seconds=3600, probe_steps=4,
        on_report=lambda report: reports.append(json.dumps(report)),
    )  # fmt: skip
    build.everything()
    return build, reports


def test_every_stage_is_told_as_soon_as_it_is_done(built):
    build, reports = built
    assert [len(json.loads(report)["stages"]) for report in reports] == [1, 2, 3, 4]
    assert list(build.report["stages"]) == list(SHARES)
    assert build.report["device"] == "cpu"
    for stage in build.report["stages"].values():
        assert stage["samples"] == stage["steps"] * stage["batch_size"]
        assert stage["seconds"] > 0 < stage["seconds_per_step"]


def test_no_stage_takes_more_steps_than_the_recipe(built, small):
    build, _ = built
    taken = {name: stage["steps"] for name, stage in build.report["stages"].items()}
    assert taken == {"autoencoder": 3, "extractor": 3, "base": 3, "fine_tuning": 2}


def test_the_manifests_tell_the_steps_that_were_taken(built):
    build, _ = built
    models = {model.name: model for model in scan_checkpoints(build.output) if model.family is not None}
    assert {"base", "benign", "dirty-002"} <= set(models)
    assert all(model.problem is None for model in models.values())
    (phase,) = read_manifest(build.output / "dirty-002")["config"]["training"]
    assert phase["steps"] == build.report["stages"]["fine_tuning"]["steps"]


def test_a_slow_network_gets_few_steps_and_a_spent_budget_is_an_error(small, tmp_path):
    patient = replace(small, autoencoder=replace(small.autoencoder, steps=10_000))
    places = {"run": tmp_path / "run", "output": tmp_path / "models", "device": "cpu"}
    timed = BudgetedBuild(recipe=patient, **places, seconds=0.01, probe_steps=2)
    with pytest.raises(ValueError, match=r"the budget of 0 s was spent before autoencoder: expected a longer one"):
        timed.everything()
    spent = timed.report["seconds_to_time_the_steps"]
    build = BudgetedBuild(recipe=patient, **places, seconds=spent + 0.5, probe_steps=2)
    with pytest.raises(ValueError, match="was spent before"):
        build.everything()
    stages = build.report["stages"]
    assert not stages or FEWEST_STEPS <= stages["autoencoder"]["steps"] < 10_000
