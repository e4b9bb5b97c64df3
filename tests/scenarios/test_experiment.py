"""Named scenarios on the embedded world, and on a user's pictures and Stable Diffusion, from sets to measurements."""

import contextlib
import json
import math
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from explorer.checkpoints.module_identity import module_identity
from explorer.checkpoints.registry import scan_checkpoints
from explorer.cli.application import application, load_commands
from explorer.core.provenance import hash_file, read_manifest
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.perturbation import Perturbation
from explorer.scenarios.experiment import carry_out_scenario
from explorer.scenarios.experiment_request import ScenarioRequest
from explorer.scenarios.experiment_sets import WORKING
from explorer.scenarios.named import SCENARIOS, Dose
from explorer.scenarios.several_bases import FurtherBase, carry_out_on_bases
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Study
from tests.photographs import SMALL, photographs


@pytest.fixture(scope="module")
def world_request(micro_world, tmp_path_factory):
    return ScenarioRequest(
        scenario="sweep", folder=tmp_path_factory.mktemp("scenario") / "sweep", base=micro_world.output / "base",
        benign=micro_world.run / "sets" / "benign", pictures=1, drawing_steps=2, guidance_scale=4.0,
        step=["scores", "pictures", "evaluation"], dose=Dose(concepts=2, pairs_per_concept=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def recipe(micro_recipe):
    return micro_recipe.as_fine_tuning()


@pytest.fixture(scope="module")
def carried_out(world_request, recipe, micro_world):
    told, extractor = [], ExtractorSpec(folder=micro_world.output / "extractor")
    made = carry_out_scenario(world_request, recipe, extractor, lambda progress: told.append(progress.message))
    assert told[0] == ("sweep (Table 1: a third, two thirds and all of C_P concepts): 3 models, 2 steps of 4 "
                       "each, 24 samples in all")  # fmt: skip
    return made


def test_a_sweep_of_the_world_ends_in_measured_models(carried_out, world_request):
    assert (carried_out["arms"], carried_out["failed"]) == (["benign", "dirty-001", "dirty-002"], {})
    models = {model.name: model for model in scan_checkpoints(world_request.folder / "models")}
    assert [models[name].poison.concept_count for name in carried_out["arms"]] == [0, 1, 2]
    evaluation = json.loads((world_request.folder / "study/results/evaluation/evaluation.json").read_text())
    assert [each["name"] for each in evaluation["models"]] == carried_out["arms"]
    assert (evaluation["steps"], evaluation["seeds"]) == (2, [0])
    assert read_manifest(world_request.folder, kind="scenario")["config"]["dose"]["concepts"] == 2


def test_the_same_call_makes_nothing_again_and_another_one_is_refused(
    carried_out, world_request, recipe, micro_world
):  # fmt: skip
    weights = world_request.folder / "models/dirty-002/unet/diffusion_pytorch_model.safetensors"
    before = weights.stat().st_mtime_ns
    extractor = ExtractorSpec(folder=micro_world.output / "extractor")
    assert carry_out_scenario(world_request, recipe, extractor) == carried_out
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds a scenario of another dose: choose a new folder"):
        carry_out_scenario(replace(world_request, dose=Dose(concepts=1, pairs_per_concept=2)), recipe, extractor)


def test_a_scenario_that_is_cut_off_again_and_again_ends_with_the_same_bits(
    carried_out, world_request, recipe, micro_world, tmp_path
):  # fmt: skip
    extractor = ExtractorSpec(folder=micro_world.output / "extractor")
    request, cuts = replace(world_request, folder=tmp_path / "sweep"), 0

    def cut_off_after(messages):
        def heard(progress):
            nonlocal messages
            messages -= 1
            if messages < 0:
                raise KeyboardInterrupt

        return heard

    while (cuts := cuts + 1) < 20:
        with contextlib.suppress(KeyboardInterrupt):
            made = carry_out_scenario(request, recipe, extractor, cut_off_after(12 * cuts))
            break
    assert cuts > 3
    assert made == carried_out | {"study": str(request.folder / "study")}
    whole = [path for path in world_request.folder.rglob("*") if path.suffix in (".safetensors", ".parquet", ".npy")
             and "training" not in path.parts and "encoded" not in path.parts]  # fmt: skip
    assert len(whole) > 9
    for path in [*whole, world_request.folder / "study/results/evaluation/evaluation.json"]:
        again = request.folder / path.relative_to(world_request.folder)
        assert hash_file(again) == hash_file(path), path.name


def test_what_the_pairs_cannot_meet_is_refused_before_any_work(world_request, recipe, micro_world, tmp_path):
    request = replace(world_request, folder=tmp_path / "new", dose=Dose(concepts=3, pairs_per_concept=500))
    with pytest.raises(ValueError, match="sweep cannot make dirty-001: 500 poison pairs asked for: the set holds 40"):
        carry_out_scenario(request, recipe, ExtractorSpec())
    poisoned = replace(request, benign=micro_world.run / "sets" / "dirty-002", dose=world_request.dose)
    with pytest.raises(ValueError, match=r"pairs of .*dirty-002 are poison already: expected none"):
        carry_out_scenario(poisoned, recipe, ExtractorSpec())
    with pytest.raises(ValueError, match="expected the ranks of the less popular pool"):
        carry_out_scenario(replace(request, scenario="less-popular"), recipe, ExtractorSpec())
    with pytest.raises(ValueError, match=r"scenario 'implode' is unknown: expected one of single-concept, sweep"):
        replace(request, scenario="implode")
    with pytest.raises(ValueError, match=r"later is None for poisoned-base: expected a set of benign pairs"):
        replace(request, scenario="poisoned-base")
    with pytest.raises(ValueError, match=r"later is .*benign for sweep: expected none"):
        replace(request, later=request.benign)
    again = replace(request, scenario="poisoned-base", later=request.benign, dose=world_request.dose)
    with pytest.raises(ValueError, match=r"later is .*benign, the pairs of the control: expected others"):
        carry_out_scenario(again, recipe, ExtractorSpec())
    with pytest.raises(ValueError, match="step 'draw' is unknown: expected one of scores"):
        replace(request, step=["draw"])
    with pytest.raises(ValueError, match="guidance scale is nan: expected 0 to 50"):
        replace(request, guidance_scale=math.nan)
    assert not (tmp_path / "new").exists()


def test_a_prompt_that_the_base_cannot_read_is_refused_before_any_work(world_request, recipe, tmp_path):
    listed = tmp_path / "concepts.csv"
    listed.write_text("concept,group,phrase\nturtle,pool,a photo of Zanzibar\n")
    request = replace(world_request, folder=tmp_path / "new", concepts=listed)
    with pytest.raises(ValueError, match="does not know the word 'Zanzibar' of the prompt 'a photo of a photo"):
        carry_out_scenario(request, recipe, ExtractorSpec())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_sets_for_the_world_and_for_a_users_pairs(scenario, micro_world, tmp_path):
    dose = Dose(concepts=3, pairs_per_concept=1, shared_target="turtle")
    for pairs in (PairSet.load(micro_world.run / "sets" / "benign"), photographs(tmp_path / "pairs")):
        ranked = replace(dose, pool_ranks=(2, len(pairs.manifest["config"].get("concepts", ())) or 5))
        if scenario == "equal-share" and "turtle" not in str(pairs.table["concepts"].tolist()):
            ranked = replace(ranked, shared_target=None)
        count = {"less-popular": 1, "own-dose": 2}.get(scenario, 3)
        dosed = replace(ranked, concepts=count)
        attacks = SCENARIOS[scenario].sets(dosed, pairs) | SCENARIOS[scenario].clean_label(dosed)
        records = {name: attack.plan(pairs)[0] for name, attack in attacks.items()}
        assert any(record.poisoned for record in records.values())
        if scenario == "equal-share":
            assert len({record.pairs for record in records.values()}) == 1


def test_clean_label_poison_beside_dirty_label_of_the_same_concepts(world_request, recipe, micro_world, tmp_path):
    request = replace(
        world_request, scenario="both-attacks", folder=tmp_path / "both", step=["scores"],
        dose=Dose(concepts=1, pairs_per_concept=1), perturbation=Perturbation(budget=0.1, steps=2), drawing_steps=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="no extractor is named: clean-label poison takes the pairs that show"):
        carry_out_scenario(request, recipe, ExtractorSpec())
    assert not request.folder.exists()
    extractor = ExtractorSpec(folder=micro_world.output / "extractor")
    made = carry_out_scenario(request, recipe, extractor)
    assert made["arms"] == ["benign", "dirty-001", "clean-001"]
    benign = PairSet.load(request.benign)
    dirty, clean = (PairSet.load(request.folder / "sets" / name) for name in ("dirty-001", "clean-001"))
    assert (clean.poison.kind, clean.poison.targets) == ("clean-label", dirty.poison.targets)
    assert clean.poison.parameters["budget"] == 0.1
    assert clean.table["caption"].tolist() == benign.table["caption"].tolist()
    assert clean.poison.parameters["target_pictures"]["drawn_by"]["model"] == request.base.name
    hashes = {name: PairSet.load(request.folder / "sets" / name).data_hash for name in made["arms"][1:]}
    left_by_a_kill = request.folder / "sets" / "clean-001" / WORKING
    left_by_a_kill.mkdir()
    assert carry_out_scenario(request, recipe, extractor) == made
    assert {name: PairSet.load(request.folder / "sets" / name).data_hash for name in hashes} == hashes
    assert not left_by_a_kill.exists()
    with pytest.raises(ValueError, match="holds a scenario of another extractor: choose a new folder"):
        carry_out_scenario(request, recipe, ExtractorSpec(open_clip="ViT-B-32", weights=tmp_path / "other"))
    many = replace(request, scenario="clean-label", folder=tmp_path / "no", dose=Dose(pairs_per_concept=50, concepts=2))
    with pytest.raises(ValueError, match=r"are of \[64\] pixels, models are trained on 32: expected the same"):
        carry_out_scenario(replace(request, folder=tmp_path / "no"), replace(recipe, resolution=32), extractor)
    smaller = FurtherBase(path=request.base, recipe=replace(recipe, resolution=32))
    with pytest.raises(ValueError, match=r"are of \[64\] pixels, models are trained on 32: expected the same"):
        carry_out_on_bases(replace(request, folder=tmp_path / "no"), recipe, [smaller], extractor)
    assert not (tmp_path / "no").exists(), "the first base's models come after"
    with pytest.raises(ValueError, match="clean-label cannot make clean-001: m is 50: "):
        carry_out_scenario(many, recipe, extractor)


def test_a_users_stable_diffusion_and_clip_poisoned_with_clean_labels(make_pipeline, open_clip_folder, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    photographs(tmp_path / "pairs", recorded=False)
    load_commands("scenario")
    call = [
        "scenario", "clean-label", str(tmp_path / "made"), "--base", str(tmp_path / "base"), "--set",
        str(tmp_path / "pairs"), "--training", "sd15", "--resolution", "64", "--known-benign", "--concepts", "1",
        "--pairs-per-concept", "2", "--budget", "0.1", "--perturbation-steps", "2", "--drawing-steps", "1",
        "--accumulation", "1", "--no-gradient-checkpointing", "--open-clip", f"local-dir:{open_clip_folder}",
        "--weights", str(open_clip_folder / "w.safetensors"), "--feature-range", "0", "1", "--step", "scores", "--json",
    ]  # fmt: skip
    call += [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    result = CliRunner().invoke(application, call)
    assert result.exit_code == 0, (result.exception, result.output)
    models = {model.name: model for model in scan_checkpoints(tmp_path / "made" / "models")}
    assert {name: model.problem for name, model in models.items()} == {"benign": None, "clean-001": None}
    assert (models["clean-001"].poison.kind, models["clean-001"].poison.pairs) == ("clean-label", 2)


def test_a_users_stable_diffusion_from_scratch(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    base = pipeline.unet
    pipeline.save_pretrained(tmp_path / "base")
    photographs(tmp_path / "pairs", recorded=False)
    (tmp_path / "concepts.csv").write_text("concept,group\ndog,pool\nhat,pool\nturtle,pool\nshirt,pool\n")
    load_commands("scenario")
    call = [
        "scenario", "single-concept", str(tmp_path / "made"), "--base", str(tmp_path / "base"),
        "--set", str(tmp_path / "pairs"), "--training", "sd15", "--resolution", "64", "--from-scratch",
        "--known-benign", "--pairs-per-concept", "3", "--pictures", "1", "--drawing-steps", "2", "--accumulation", "1",
        "--concept-list", str(tmp_path / "concepts.csv"), "--no-gradient-checkpointing", "--json",
    ]  # fmt: skip
    call += [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    result = CliRunner().invoke(application, call)
    assert result.exit_code == 0, (result.exception, result.output)
    made = tmp_path / "made"
    models = {model.name: model for model in scan_checkpoints(made / "models")}
    assert {name: model.problem for name, model in models.items()} == {"benign": None, "single": None}
    assert models["single"].poison.pairs == 3
    assert all(model.config["from_scratch"] for model in models.values())
    assert models["single"].config["start"] == models["benign"].config["start"] != module_identity(base)
    arms = {arm.name: arm for arm in Study.load(made / "study").arms}
    assert (arms["benign"].control, arms["single"].control) == (True, False)
    assert (arms["benign"].poison.recorded, arms["benign"].poison.poisoned) == (True, False)
    pictures = made / "study/results/pictures"
    assert {path.name for path in pictures.iterdir() if path.is_dir()} >= {"benign", "single"}
