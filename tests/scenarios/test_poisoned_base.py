"""A base that is poisoned already, trained on with other pairs: on a user's pictures and Stable Diffusion."""

import pytest

from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.provenance import read_manifest
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.experiment import carry_out_scenario
from explorer.scenarios.experiment_request import ScenarioRequest
from explorer.scenarios.named import Dose
from explorer.studies.arms import known_poison
from explorer.studies.retraining import recorded_start
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Study
from explorer.training.recipes import SD15, override
from tests.photographs import SMALL, photographs

AFTERWARDS = ["benign-then-benign", "benign-then-poisoned", "poisoned-then-benign", "poisoned-then-poisoned"]


@pytest.fixture(scope="module")
def made(make_pipeline, tmp_path_factory):
    root = tmp_path_factory.mktemp("poisoned-base")
    make_pipeline().save_pretrained(root / "base")
    for seed, name in enumerate(("pairs", "later")):
        photographs(root / name, recorded=False, seed=seed)
    request = ScenarioRequest(
        scenario="poisoned-base", folder=root / "made", base=root / "base", benign=root / "pairs", later=root / "later",
        known_benign=True, pictures=1, drawing_steps=1, step=["pictures"], dose=Dose(concepts=2, pairs_per_concept=2),
    )  # fmt: skip
    recipe = override(SD15, **SMALL, resolution=64, accumulation=1, gradient_checkpointing=False)
    return request, recipe, carry_out_scenario(request, recipe, ExtractorSpec())


def test_models_go_on_from_the_control_and_from_the_poisoned_model(made):
    request, _, found = made
    assert (found["arms"], found["failed"]) == (["benign", "poisoned", *AFTERWARDS], {})
    models = {model.name: model for model in scan_checkpoints(request.folder / "models")}
    assert models["benign"].config["start"] == models["poisoned"].config["start"]
    for name in AFTERWARDS:
        assert recorded_start(models[name]) == models[name.split("-")[0]].folder
        assert models[name].base == models["benign"].base
    hashes = {PairSet.load(request.folder / "sets" / name).data_hash: name for name in ("poisoned", "later-poisoned")}
    hashes |= {PairSet.load(path).data_hash: path.name for path in (request.benign, request.later)}
    trained_on = {name: hashes[read_manifest(model.folder)["data_hash"]] for name, model in models.items()}
    assert trained_on == {
        "benign": "pairs", "poisoned": "poisoned", "benign-then-benign": "later", "poisoned-then-benign": "later",
        "benign-then-poisoned": "later-poisoned", "poisoned-then-poisoned": "later-poisoned",
    }  # fmt: skip


def test_no_arm_of_a_poisoned_base_counts_as_benign(made):
    request, _, _ = made
    study = Study.load(request.folder / "study")
    poison = {arm.name: known_poison(arm) for arm in study.arms}
    assert {name: str(each) for name, each in poison.items()} == {
        "benign": "no poison", "benign-then-benign": "no poison", "poisoned": "dirty-label, C_P = 2",
        "benign-then-poisoned": "dirty-label, C_P = 2", "poisoned-then-benign": "dirty-label, then benign, C_P = 2",
        "poisoned-then-poisoned": "dirty-label, then dirty-label, C_P = "
        f"{len({*poison['poisoned'].names, *poison['benign-then-poisoned'].names})}",
    }  # fmt: skip
    assert next(arm.name for arm in study.arms if arm.control) == "benign"


def test_the_same_call_trains_nothing_again(made):
    request, recipe, found = made
    weights = request.folder / "models/poisoned-then-poisoned/unet/diffusion_pytorch_model.safetensors"
    before = weights.stat().st_mtime_ns
    assert carry_out_scenario(request, recipe, ExtractorSpec()) == found
    assert weights.stat().st_mtime_ns == before
