"""Models trained again: on what a filter leaves, on a random draw, from the poisoned model; and their step."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import explorer.cli.defence
import explorer.cli.retraining  # noqa: F401 - registers the commands
from explorer.cli.application import application
from explorer.core.provenance import ManifestError, read_manifest
from explorer.defence.recipe import read_recipe
from explorer.defence.training_sets import KnownPoison, RandomDraw
from explorer.pairs.pair_set import PairSet
from explorer.studies.arms import arm_checkpoint
from explorer.studies.filtering import scored_pairs
from explorer.studies.results import PICTURES, RETRAINED, result_file, step_folder
from explorer.studies.retraining import recorded_start, recover, retrain, retrained_models
from explorer.studies.running import RunRequest, run_study
from explorer.studies.specs import RetrainedSpec
from explorer.studies.state import CANNOT, DONE, STALE, UNCHECKED, study_state
from explorer.studies.steps.retrained import _compare
from explorer.studies.study import Study
from explorer.training.recipes import as_recorded
from tests.studies.retraining.conftest import ARM

LOWEST_TEN = {"score": "clip_similarity", "remove": "lowest", "cut": {"rank": 10}}


@pytest.fixture(scope="module")
def models(study, recipe):
    """Two filters' models, one random draw's as large, one of all known poison, one recovery."""
    rules = {"clip": read_recipe(LOWEST_TEN), "random": RandomDraw(count=10), "oracle": KnownPoison(),
             "unfiltered": RandomDraw(count=0)}  # fmt: skip
    made = {name: retrain(study, ARM, name, rule, recipe) for name, rule in rules.items()}
    benign = PairSet.load(study.arm("benign").pairs)
    return made | {"recovery-20": recover(study, ARM, benign, 20, recipe)}


@pytest.fixture(scope="module")
def measured(study, models):
    assert run_study(study, RunRequest(steps=(RETRAINED,))).failed == {}
    return json.loads(result_file(study, RETRAINED, "retrained.json").read_text(encoding="utf-8"))


def state_of(study):
    return next(each for each in study_state(study) if each.step == RETRAINED)


def test_without_a_model_the_step_names_the_command(micro_world, study):
    state = state_of(study).of("benign")
    assert state.state == CANNOT
    assert "study retrain" in state.why


def test_a_model_is_trained_on_what_the_filter_leaves_from_the_recorded_base(study, models, micro_world):
    record, config = models["clip"].record, read_manifest(models["clip"].folder)["config"]
    removal = scored_pairs(study, ARM).removal(read_recipe(LOWEST_TEN)).removed
    poisoned = scored_pairs(study, ARM).flags.poisoned
    assert (record["removed"], record["kept"]) == (10, 30)
    assert record["poison_removed"] == int((removal & poisoned).sum())
    assert record["benign_lost"] == 10 - record["poison_removed"]
    assert (config["pairs"], config["poison"]["pairs"]) == (30, 12 - record["poison_removed"])
    assert recorded_start(arm_checkpoint(study.arm(ARM))) == micro_world.output / "base"
    assert record["recipe"] == LOWEST_TEN | {"quota": None}
    assert read_manifest(models["oracle"].folder)["config"]["poison"]["kind"] == "none"
    assert models["oracle"].record["poison_removed"] == 12


def test_the_same_call_again_trains_nothing(study, models, recipe):
    before = (models["clip"].folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    retrain(study, ARM, "clip", read_recipe(LOWEST_TEN), recipe)
    assert (models["clip"].folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="another kept"):
        retrain(study, ARM, "clip", RandomDraw(count=10, seed=3), recipe)


def test_recovery_starts_from_the_poisoned_model_and_its_steps_follow_its_pairs(study, models, recipe):
    record, config = models["recovery-20"].record, read_manifest(models["recovery-20"].folder)["config"]
    assert (record["kept"], record["share"], record["steps"]) == (20, 0.5, recipe.training.steps / 2)
    assert config["start"] != read_manifest(models["clip"].folder)["config"]["start"]
    assert config["poison"]["kind"] == "dirty-label, then benign"
    poisoned = PairSet.load(study.arm(ARM).pairs)
    with pytest.raises(ValueError, match="are poison: expected benign ones"):
        recover(study, ARM, poisoned, 40, recipe)
    with pytest.raises(ValueError, match="41 pairs to recover with: expected from 1 to 40"):
        recover(study, ARM, poisoned, 41, recipe)


def test_another_recovery_of_one_size_takes_another_name(study, models, recipe, monkeypatch):
    benign = study.arm("benign").pairs
    slower = replace(recipe, training=replace(recipe.training, learning_rate=1e-6))
    with pytest.raises(ValueError, match=r"recovery-20 holds a checkpoint with another training: .* --name"):
        recover(study, ARM, PairSet.load(benign), 20, slower)
    trained = []
    monkeypatch.setattr("explorer.studies.retraining._train", lambda _study, _arm, name, *_: trained.append(name))
    asked = ["study", "recover", str(study.folder), ARM, "--pairs", str(benign), "--size", "20", "--size", "10",
             "--training", "cpu"]  # fmt: skip
    for options in ([], ["--name", "slow"]):
        assert CliRunner().invoke(application, [*asked, *options]).exit_code == 0
    assert trained == ["recovery-20", "recovery-10", "slow-20", "slow-10"]


def test_what_cannot_be_left_out_is_refused_before_any_work(study, recipe):
    with pytest.raises(ValueError, match="40 pairs to draw at random: expected from 0 to 39"):
        retrain(study, ARM, "all", RandomDraw(count=40), recipe)
    with pytest.raises(ValueError, match="none of 40 pairs is recorded to be poison"):
        retrain(study, "benign", "oracle", KnownPoison(), recipe)
    with pytest.raises(ValueError, match="expected a name that a folder can have"):
        retrain(study, ARM, "../up", RandomDraw(count=1), recipe)


def test_scores_of_other_pairs_leave_nothing_out(study, recipe, monkeypatch):
    monkeypatch.setattr("explorer.studies.retraining._train", lambda *_: pytest.fail("work"))
    benign = study.arm("benign").pairs
    arms = tuple(replace(arm, pairs=benign) if arm.name == ARM else arm for arm in study.arms)
    others = replace(study, arms=arms)
    with pytest.raises(ValueError, match=rf"the pairs of {ARM} are others than .* study run .* filters"):
        retrain(others, ARM, "oracle", KnownPoison(), recipe)
    with pytest.raises(ValueError, match="are others than those that were scored"):
        recover(others, ARM, PairSet.load(benign), 20, recipe)
    asked = ["study", "filter", str(study.folder), ARM]
    study_file = study.folder / "study.toml"
    before = study_file.read_text(encoding="utf-8")
    others.write()
    try:
        assert "are others than those" in str(CliRunner().invoke(application, asked).exception)
    finally:
        study_file.write_text(before, encoding="utf-8")
    assert CliRunner().invoke(application, asked).exit_code == 0


def test_every_model_is_measured_beside_the_arm_and_the_control(measured, models, study):
    arm = measured["arms"][ARM]
    assert [each["name"] for each in arm["models"]] == ["clip", "oracle", "random", "unfiltered"]
    assert [each["name"] for each in arm["recovery"]] == ["recovery-20"]
    every = [measured["control"], arm["unfiltered"], *arm["models"], *arm["recovery"]]
    assert sorted(each["strip_row"] for each in every) == list(range(7))
    for each in every:
        assert each["metrics"]["top1"]["all"]["mean"] == pytest.approx(np.mean(each["per_concept"]))
        assert len(each["per_concept"]) == len(measured["drawn"]) == 8
    clip, oracle, random, unfiltered = arm["models"]
    assert clip["against_random"]["model"] == "random"
    gain = np.mean(clip["per_concept"]) - np.mean(random["per_concept"])
    assert clip["against_random"]["top1"]["all"]["mean"] == pytest.approx(gain)
    assert (random["against_random"], oracle["against_random"]) == (None, None)
    assert (oracle["against_unfiltered"]["model"], unfiltered["against_unfiltered"]) == ("unfiltered", None)
    recorded = read_manifest(models["clip"].folder)["config"]
    assert clip["training"]["learning_rate"] == recorded["training"][-1]["learning_rate"]
    assert clip["training"]["start"] == recorded["start"]
    strip = np.asarray(Image.open(result_file(study, RETRAINED, "strip.png")))
    assert strip.shape == (7 * measured["tile"], len(measured["concepts"]) * measured["tile"], 3)
    assert len(np.unique(strip.reshape(7, -1), axis=0)) > 1, "models draw differently"


def retrained(name, recipe, removed, shares, *, steps=10, rate=1e-4):
    return {"name": name, "recipe": recipe, "removed": removed, "per_concept": shares, "steps": steps,
            "training": None if rate is None else {"learning_rate": rate}}  # fmt: skip


def test_several_random_draws_are_averaged_and_other_trainings_are_named_instead():
    clip = retrained("clip", LOWEST_TEN, 10, [1.0, 0.5])
    first, second = (retrained(f"random-{seed}", {"random": 10, "seed": seed}, 10, shares)
                     for seed, shares in enumerate(([0.0, 0.0], [0.5, 0.25])))  # fmt: skip
    longer = retrained("random-longer", {"random": 10, "seed": 2}, 10, [1.0, 1.0], steps=20)
    faster = retrained("unfiltered-faster", {"random": 0, "seed": 0}, 0, [0.0, 0.0], rate=1e-3)
    models = [clip, first, second, longer, faster]
    _compare(models, {"all": np.ones(2, bool)})
    assert clip["against_random"]["model"] == "the mean of random-0, random-1"
    assert clip["against_random"]["top1"]["all"]["mean"] == pytest.approx(0.75 - (0 + 0.375) / 2)
    assert clip["against_unfiltered"] is None
    assert clip["not_compared"] == ["random-longer", "unfiltered-faster"]
    assert first["against_random"] is None, "a draw is not compared with another one"
    faster["training"] = None  # of a model that is gone, the steps alone are known
    _compare(models, {"all": np.ones(2, bool)})
    assert clip["against_unfiltered"]["model"] == "unfiltered-faster"


@pytest.mark.parametrize("content", ["", '{"kind": "fil', "[]", '{"kind": "filter", "steps": 3}', '{"kind": []}'])
def test_a_foreign_or_cut_off_record_is_named(study, models, content):
    path = models["clip"].folder.with_name("foreign.json")
    path.write_text(content, encoding="utf-8")
    try:
        with pytest.raises(ManifestError, match=r"foreign\.json .*: expected the record"):
            retrained_models(study)
    finally:
        path.unlink()


def test_the_arms_pictures_are_taken_over_where_they_are_drawn(study, measured):
    own = study.folder / "retrained" / "pictures" / "arms" / ARM
    run_study(study, RunRequest(steps=(PICTURES,)))
    for seed in study.seeds:
        shutil.rmtree(own / f"seed-{seed}")
    edited = replace(Study.load(study.folder), retrained=RetrainedSpec(seeds=(1,), unpoisoned_only=True))
    edited.write()
    edited = Study.load(study.folder)
    assert state_of(edited).state == STALE
    assert run_study(edited, RunRequest(steps=(RETRAINED,))).failed == {}
    assert state_of(edited).of(ARM).state == DONE
    again = json.loads(result_file(edited, RETRAINED, "retrained.json").read_text(encoding="utf-8"))
    assert (again["seeds"], len(again["drawn"])) == ([1], 3)
    arm = again["arms"][ARM]
    # A recovery, and what it is compared with, are asked for all concepts; what a filter leaves is not.
    for each in (arm["unfiltered"], again["control"], *arm["recovery"]):
        assert None not in (each["metrics"]["top1"][group] for group in ("all", "unpoisoned", "poisoned"))
        assert len(each["per_concept"]) == 3
        assert each["metrics"]["top1"]["unpoisoned"]["mean"] == pytest.approx(np.mean(each["per_concept"]), abs=1e-4)
    for each in arm["models"]:
        assert (each["metrics"]["top1"]["poisoned"], each["metrics"]["top1"]["all"]) == (None, None)
    assert not (own / "seed-1").exists()


def test_results_of_models_that_are_gone_are_not_replaced_by_those_of_the_rest(study, measured, models, tmp_path):
    folder, results = models["clip"].folder, step_folder(study, RETRAINED) / "retrained.json"
    gone, before = (folder, folder.with_name("clip.json")), results.read_bytes()
    for path in gone:
        shutil.move(path, tmp_path / path.name)
    try:
        state = state_of(study).of(ARM)
        assert state.state == UNCHECKED
        assert "the retrained models clip were measured and are not on this machine" in state.why
        run_study(study, RunRequest(steps=(RETRAINED,)))
        assert results.read_bytes() == before
    finally:
        for path in gone:
            shutil.move(tmp_path / path.name, path)


def test_a_new_model_is_measured_beside_what_is_known_of_those_that_are_gone(study, measured, models, recipe, tmp_path):
    assert run_study(study, RunRequest(steps=(RETRAINED,))).failed == {}  # other tests measure otherwise
    folder, results = models["clip"].folder, step_folder(study, RETRAINED)
    gone, told = (folder, folder.with_name("clip.json")), measured["arms"][ARM]["models"]
    with Image.open(results / "strip.png") as strip:
        before = np.asarray(strip)
    shutil.copytree(results, tmp_path / "results")
    for path in gone:
        shutil.move(path, tmp_path / path.name)
    new = retrain(study, ARM, "five", RandomDraw(count=5), recipe)
    try:
        assert (state := state_of(study).of(ARM)).state == STALE, state.why
        assert run_study(study, RunRequest(steps=(RETRAINED,))).failed == {}
        again = json.loads(result_file(study, RETRAINED, "retrained.json").read_text(encoding="utf-8"))
        found = {each["name"]: each for each in again["arms"][ARM]["models"]}
        assert list(found) == sorted(found)
        assert found.keys() == {each["name"] for each in told} | {"five"}
        kept, known = found["clip"], next(each for each in told if each["name"] == "clip")
        rows = [np.arange(64) + 64 * each["strip_row"] for each in (kept, known)]
        with Image.open(results / "strip.png") as strip:
            assert (np.asarray(strip)[rows[0]] == before[rows[1]]).all()
        assert kept == known | {"strip_row": kept["strip_row"]}
        study.folder.joinpath("study.toml").write_text(
            (toml := study.folder.joinpath("study.toml").read_text()).replace("steps = 2", "steps = 3")
        )
        assert state_of(Study.load(study.folder)).of(ARM).state == UNCHECKED
        study.folder.joinpath("study.toml").write_text(toml)
    finally:
        shutil.rmtree(new.folder)
        new.folder.with_name("five.json").unlink()
        shutil.rmtree(results)
        shutil.copytree(tmp_path / "results", results)
        for path in gone:
            shutil.move(tmp_path / path.name, path)
    assert state_of(study).of(ARM).state == DONE


def test_a_model_that_was_changed_is_refused(study, models):
    path = models["clip"].folder / "manifest.json"
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b'"pairs": 30', b'"pairs": 31'))
    try:
        with pytest.raises(ManifestError, match="is not the model that"):
            retrained_models(study)
    finally:
        path.write_bytes(kept)


def test_the_recorded_training_is_what_a_checkpoint_was_fine_tuned_by(study, recipe):
    config = arm_checkpoint(study.arm(ARM)).config
    assert as_recorded(replace(recipe, training=replace(recipe.training, steps=99)), config) == recipe
    with pytest.raises(ValueError, match="records the training None"):
        as_recorded(recipe, {})


def test_the_command_prints_every_model_and_the_papers_recovery(study, measured):
    result = CliRunner().invoke(application, ["study", "retrained", str(study.folder)])
    assert result.exit_code == 0, (result.exception, result.output)
    lines = result.stdout.splitlines()
    clip = next(line for line in lines if line.startswith(f"{ARM} clip"))
    assert "removed 10, poison" in clip
    assert "  less random: all " in result.stdout
    assert "recovery-20, 20 benign pairs, 1 steps" in result.stdout
    assert "  recovered, 30000 benign pairs: all 0.733, clean 0.718, poisoned 0.748" in lines
    told = json.loads(CliRunner().invoke(application, ["study", "retrained", str(study.folder), "--json"]).stdout)
    assert told["arms"].keys() == {ARM}
