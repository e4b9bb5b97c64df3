"""The whole way on a micro world: encoders, base, control, poisoned models, features, evaluation."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.attention.statistics import mass_in_mask
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import scan_checkpoints, validate
from explorer.core.provenance import ManifestError, check_files, read_manifest
from explorer.embeddings.features import pair_features
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.files import SHEET_NAME, evaluate_folder
from explorer.evaluation.painted_scenes import scene_maps
from explorer.iconworld.grammar import BACKGROUNDS, CAPTION_KINDS, RELATIONS, with_article, write_caption
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.benign_pairs import benign_remainder
from explorer.scenarios.build import WorldBuild
from explorer.scenarios.recipes import CPU, FULL, RECIPES, find_recipe
from explorer.scenarios.request import BuildRequest
from explorer.scenarios.train_extractor import make_tokenizer
from explorer.training.state import finished_steps

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def build(micro_world):
    return micro_world


def test_every_model_is_published_with_a_card_and_a_checked_manifest(build):
    names = ["base", "benign", "dirty-002", "dirty-004", "extractor"]
    assert sorted(path.name for path in build.output.iterdir()) == names
    for name in names:
        manifest = read_manifest(build.output / name)
        check_files(build.output / name, manifest)
        assert manifest["files"]
        for config in (build.output / name).glob("*/config.json"):
            assert "_name_or_path" not in json.loads(config.read_text()), "no path of this machine"
        if name != "extractor":
            assert "IconWorld" in (build.output / name / "README.md").read_text()
            assert manifest["metrics"]["final_step"] == (3 if name == "base" else 2)


def test_the_registry_finds_them_sound_and_knows_their_poison(build):
    found = {checkpoint.name: validate(checkpoint, thorough=True) for checkpoint in scan_checkpoints(build.output)}
    assert {name: checkpoint.problem for name, checkpoint in found.items()} == dict.fromkeys(found)
    assert found["dirty-004"].poison.concept_count == 4
    targets = read_manifest(build.output / "dirty-004")["config"]["poison"]["targets"]
    assert set(found["dirty-004"].poison.names) == set(targets)
    assert found["dirty-002"].base == build.output / "benign"


@pytest.mark.parametrize("precision", [{}, {"dtype": torch.float16}], ids=str)
def test_stock_diffusers_generates_from_what_is_published(build, precision):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    poisoned = UNet2DConditionModel.from_pretrained(build.output / "dirty-004" / "unet", **precision)
    for exchanged in ({}, {"unet": poisoned}):
        pipeline = StableDiffusionPipeline.from_pretrained(build.output / "benign", **exchanged, **precision)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        image = pipeline("a photo of a cat", num_inference_steps=2, generator=generator, output_type="np").images[0]
        assert image.shape == (64, 64, 3)
        assert np.isfinite(image).all()


def test_a_finished_build_does_nothing_twice(build):
    said = []
    WorldBuild(
        recipe=build.recipe,
        run=build.run,
        output=build.output,
        on_progress=lambda progress: progress.message and said.append(progress.message),
    ).everything()
    assert said == []
    assert finished_steps(build.run / "base-2") == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [({"poison_pairs_per_concept": 2}, "attack"), ({"fine_tuning_zipf_exponent": 1.0}, "world")],
)
def test_sets_of_another_recipe_are_refused(build, change, named):
    other = replace(build.recipe, **change)
    with pytest.raises(ValueError, match=rf"was not made by recipe .* as it is now \(another {named}\)"):
        WorldBuild(recipe=other, run=build.run, output=build.output).pair_set(2)


def test_a_set_that_its_model_was_not_trained_on_is_refused(build, tmp_path):
    shutil.copytree(build.run / "sets" / "dirty-004", tmp_path / "sets" / "dirty-002")
    config = EvaluationConfig(seeds=(0, 1), steps=1)
    with pytest.raises(ValueError, match="dirty-002 is not the set that dirty-002 was trained on"):
        evaluate_folder(build.output, tmp_path / "sets", tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_models_of_another_variant_are_not_taken_for_ones_own(build):
    other = WorldBuild(recipe=build.recipe.variant(seed=1, rank_rotation=0), run=build.run, output=build.output)
    with pytest.raises(ValueError, match=r"dirty-002 was not made by recipe micro as it is now \(another training\)"):
        other.fine_tuned(2)


@pytest.mark.parametrize("stage", ["base", "extractor"])
def test_encoders_and_base_of_another_world_are_refused(build, stage):
    other = WorldBuild(recipe=replace(build.recipe, concept_count=10), run=build.run, output=build.output)
    with pytest.raises(ValueError, match=rf"{stage} was made for another world .* \(8 nouns, here 10\)"):
        getattr(other, stage)()


def test_a_remainder_of_another_set_is_refused(build, tmp_path):
    again = WorldBuild(recipe=build.recipe, run=tmp_path, output=tmp_path / "models")
    folder = again.pair_set(4).folder.with_name("remainder-004")
    benign_remainder(again.pair_set(2), folder)
    with pytest.raises(ValueError, match=r"remainder-004 is not what is left of .*dirty-004"):
        again.remainder_set()


def test_poisoned_sets_have_the_recipes_counts(build):
    for count in build.recipe.poisoned_concept_counts:
        table = PairSet.load(build.run / "sets" / f"dirty-{count:03d}").table
        assert table["is_poison"].sum() == 3 * count
        assert (table["split"] == "train").sum() == 40


def test_the_sets_can_be_made_again_bit_identically(build, tmp_path):
    again = WorldBuild(recipe=build.recipe, run=tmp_path, output=tmp_path / "models")
    for folder in again.sets():
        trained_on = read_manifest(build.output / folder.name)["data_hash"]
        assert PairSet.load(folder).data_hash == trained_on


def test_encoders_and_base_are_adopted_and_only_the_fine_tuning_differs(build, tmp_path):
    recipe = build.recipe.variant(seed=1, rank_rotation=4)
    said = []
    again = WorldBuild(
        recipe=recipe,
        run=tmp_path / "run",
        output=tmp_path / "models",
        on_progress=lambda progress: progress.message and said.append(progress.message),
    )
    again.adopt(build.output)
    again.adopt(build.output)
    again.fine_tuned(2)
    assert [line.split(":")[0] for line in said] == ["dirty-002"], "neither encoders nor base are trained"
    ours, theirs = (read_manifest(each.output / "dirty-002")["config"] for each in (again, build))
    assert ours["start"] == theirs["start"]
    assert (ours["training"][0]["seed"], theirs["training"][0]["seed"]) == (1, 0)
    assert ours["world"] == theirs["world"] | {"rank_rotation": 4}
    world = recipe.fine_tuning_world()
    assert set(ours["poison"]["targets"]) <= set(world.frequent_pool)
    assert not set(ours["poison"]["targets"]) & set(theirs["poison"]["targets"])


def test_the_second_control_sees_the_benign_pairs_of_the_most_poisoned_set_and_no_others(build, tmp_path):
    again = WorldBuild(recipe=build.recipe, run=tmp_path / "run", output=tmp_path / "models")
    again.adopt(build.output)
    assert again.remainder() == tmp_path / "models" / "remainder-004"
    config = read_manifest(tmp_path / "models" / "remainder-004")["config"]
    assert (config["pairs"], config["poison"]["kind"]) == (40 - 4 * 3, "none")
    kept, poisoned = again.remainder_set(), again.pair_set(4)
    assert kept.manifest["config"]["remainder_of"] == poisoned.data_hash
    clean = poisoned.table.index[~poisoned.table["is_poison"]]
    assert kept.table["uid"].tolist() == poisoned.table["uid"][clean].tolist()
    assert (kept.read_images() == poisoned.read_images(clean)).all()
    with pytest.raises(ValueError, match=r"0 of 60 pairs of .* are poison, 0 not recorded: expected some to be poison"):
        benign_remainder(build.pair_set(0), tmp_path / "none")


def test_other_parts_than_those_at_hand_are_not_adopted(build, tmp_path):
    shipped = tmp_path / "shipped"
    shutil.copytree(build.output, shipped)
    again = WorldBuild(recipe=build.recipe, run=tmp_path / "run", output=tmp_path / "models")
    shutil.copytree(shipped / "base", tmp_path / "models" / "base")
    shutil.copy(shipped / "benign" / UNET, tmp_path / "models" / "base" / UNET)
    with pytest.raises(ValueError, match=r"models/base holds other weights than .*shipped/base"):
        again.adopt(shipped)
    shutil.copy(shipped / "benign" / UNET, shipped / "base" / UNET)
    with pytest.raises(ManifestError, match="has SHA-256"):
        again.adopt(shipped)


def test_features_are_cached_and_follow_the_weights(build):
    pairs = build.pair_set(2)
    extractor = UniversalExtractor.load(build.output / "extractor")
    image, text = pair_features(pairs, extractor)
    assert image.shape == text.shape == (len(pairs), 128)
    assert torch.allclose(image.norm(dim=1), torch.ones(len(pairs)), atol=1e-5)
    direct = extractor.encode_images(pairs.read_images())
    assert torch.allclose(image, direct, atol=2e-3)
    cached = (pairs.folder / "features" / extractor.name / "image.npy").stat().st_mtime_ns
    pair_features(pairs, extractor)
    assert (pairs.folder / "features" / extractor.name / "image.npy").stat().st_mtime_ns == cached
    pair_features(pairs, replace(extractor, identity="other weights"))
    assert (pairs.folder / "features" / extractor.name / "image.npy").stat().st_mtime_ns != cached


def test_evaluation_reports_groups_intervals_and_difficulty(micro_evaluation):
    folder, report = micro_evaluation
    assert (folder / SHEET_NAME).stat().st_size > 0
    assert [model["name"] for model in report["models"]] == ["benign", "dirty-002", "dirty-004"]
    benign, _, worst = report["models"]
    assert benign["accuracy"]["poisoned"] is None
    assert worst["poisoned_concept_count"] == 4
    assert {item["group"] for item in report["concepts"]} >= {"pool", "other"}
    for model in report["models"]:
        for quantity in ("accuracy", "utility", "scatter", "mask_mass", "mask_overlap", "word_mass", "late_word_mass"):
            share = model[quantity]["all"]
            if quantity in ("accuracy", "utility"):
                bounds = share["over_concepts"]
                # Models as small as these draw as many right at every seed, which gives no interval over seeds.
                right = {sum(each) for each in zip(*model["right_by_seed"].values(), strict=True)}
                assert (share["low"] is None) == (share["high"] is None) == (len(right) == 1), quantity
            else:
                bounds = share
            assert bounds["low"] <= share["mean"] <= bounds["high"]
            assert 0 <= share["mean"] <= 1
        assert 0 <= model["alignment_difficulty"]["ad"] <= 1
        assert list(model["by_layer"]) == model["attention_layers"]
        for name, right in model["right_by_seed"].items():
            assert sum(right) / len(report["seeds"]) == pytest.approx(model["per_concept"][name], abs=1e-3)
        for name in ("late_word_mass", "mask_mass"):  # means over layers of what each layer has
            each = [layer[name]["all"]["mean"] for layer in model["by_layer"].values()]
            if name == "late_word_mass":
                assert sum(each) / len(each) == pytest.approx(model[name]["all"]["mean"], rel=1e-5)
            assert len(set(each)) > 1
    assert report["models"][0]["utility"]["all"]["mean"] <= report["models"][0]["accuracy"]["all"]["mean"]


def test_painted_scenes_have_a_map_and_a_mask_for_every_concept(build):
    pipeline = load_pipeline(build.output / "benign")
    maps, covered = scene_maps(pipeline, build.recipe.world(), seed=0)
    again, _ = scene_maps(pipeline, build.recipe.world(), seed=0)
    assert (maps.shape[1:], covered.shape) == ((8, 16, 16), (8, 16, 16))
    assert len(maps) > 1
    mass, area = mass_in_mask(maps.mean(0), covered), covered.mean(dim=(1, 2))
    assert ((mass > 0) & (mass < 1)).all()
    assert ((area > 0.02) & (area < 0.9)).all()
    assert torch.equal(maps, again)


def test_recipes_are_found_by_name():
    assert find_recipe("cpu") is CPU
    assert RECIPES["full"] is FULL
    assert FULL.world().concept_count > 370
    with pytest.raises(ValueError, match=r"recipe 'gpu' is unknown: expected one of \['cpu', 'full'\]"):
        find_recipe("gpu")


@pytest.mark.parametrize("recipe", [CPU, FULL])
def test_the_longest_caption_of_a_recipe_fits_its_text_encoder(recipe):
    world = recipe.world()
    tokenizer = make_tokenizer(world, recipe.context_length)
    generator = np.random.default_rng(0)

    def tokens(text):
        return len(tokenizer(text, truncation=False).input_ids)

    longest = sorted(world.concepts, key=lambda noun: tokens(with_article(noun)))[-3:]
    color = max(BACKGROUNDS, key=tokens)
    relation = max(RELATIONS, key=tokens)
    captions = [write_caption(kind, longest[: kind.mentioned], relation, color, generator)
                for kind in CAPTION_KINDS for _ in range(60)]  # fmt: skip
    captions += [write_caption(kind, longest[::-1][: kind.mentioned], relation, color, generator)
                 for kind in CAPTION_KINDS for _ in range(60)]  # fmt: skip
    assert max(map(tokens, captions)) <= recipe.context_length


@pytest.mark.parametrize("recipe", [CPU, FULL])
def test_the_poison_of_a_recipe_fits_its_sets(recipe):
    world = recipe.world()
    assert max(recipe.poisoned_concept_counts) <= len(world.frequent_pool)
    assert max(recipe.poisoned_concept_counts) * recipe.poison_pairs_per_concept < recipe.fine_tuning_pairs


def test_some_of_the_poisoned_models_can_be_asked_for():
    assert BuildRequest(recipe="cpu", poisoned_concepts=[60, 20, 60]).variant.poisoned_concept_counts == (20, 60)
    assert BuildRequest(recipe="cpu", seed=4).variant.poisoned_concept_counts == (20, 40, 60)
    with pytest.raises(ValueError, match="poisoned_concepts is 50: expected one of 20, 40, 60"):
        BuildRequest(recipe="cpu", poisoned_concepts=[60, 50])
