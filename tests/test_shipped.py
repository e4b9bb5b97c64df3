"""The artefacts that are shipped: complete, unchanged, small enough, and showing what README says they show."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.alignment.payload_formats import ALIGNMENT
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import scan_checkpoints, validate
from explorer.core.provenance import ROOT, check_files, read_manifest
from explorer.embeddings.universal_extractor import UniversalExtractor, load_tokenizer
from explorer.evaluation.naming_study import count_named
from explorer.evaluation.training_runs import summarise_runs
from explorer.iconworld.grammar import photo_of
from explorer.iconworld.icons import STYLES, atlas_path
from explorer.iconworld.text_encoder import convert_text_tower
from explorer.iconworld.world import World
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import differing_names
from explorer.studies.results import (
    COMPARISON,
    EVALUATION,
    FILM_STRIP,
    FILTERS,
    GRAPHS,
    METER,
    RETRAINED,
    SCORES,
    result_file,
    step_folder,
    step_manifest,
)
from explorer.studies.state import stale_steps
from explorer.studies.study import Study
from explorer.ui.shell.context import SHIPPED_STUDY, AppContext, AppSettings

ICONWORLD = ROOT / "checkpoints" / "iconworld"
SHIPPED = Study.load(SHIPPED_STUDY)
SHIPPED_EVALUATION = "studies/iconworld/results/evaluation"
OTHER_RUNS = ("exchanged-nouns", "seed-1", "seed-2")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def evaluation():
    return json.loads(result_file(SHIPPED, EVALUATION, "evaluation.json").read_text(encoding="utf-8"))


def test_sizes():
    assert size(ICONWORLD) < 120e6
    assert sum(atlas_path(ROOT / "assets" / "iconworld", style).stat().st_size for style in STYLES) < 8e6


def test_every_checkpoint_is_whole_and_described():
    found = scan_checkpoints(ICONWORLD)
    counts = sorted({checkpoint.poison.concept_count for checkpoint in found})
    assert counts[0] == 0
    assert len(counts) >= 4, "benign and at least three C_P"
    for checkpoint in found:
        assert validate(checkpoint, thorough=True).problem is None
        manifest = read_manifest(checkpoint.folder, kind="checkpoint")
        check_files(checkpoint.folder, manifest)
        assert "README.md" in manifest["files"]
        assert len(checkpoint.poison.names) == checkpoint.poison.concept_count


def test_all_fine_tuned_models_come_from_one_base_with_the_same_training():
    configs = [
        read_manifest(checkpoint.folder)["config"]
        for checkpoint in scan_checkpoints(ICONWORLD)
        if checkpoint.folder.name != "base"
    ]
    assert len({config["start"] for config in configs}) == 1
    assert len({json.dumps(config["training"], sort_keys=True) for config in configs}) == 1
    assert len({config["pairs"] for config in configs}) == 1


def test_the_extractor_reaches_its_accuracy():
    metrics = read_manifest(ICONWORLD / "extractor")["metrics"]
    assert metrics["zero_shot_top1"] >= 0.90
    assert set(metrics["zero_shot_top1_per_style"]) == set(STYLES)


def test_the_autoencoder_reaches_28_db():
    assert read_manifest(ICONWORLD / "benign")["metrics"]["autoencoder"]["psnr_db"] >= 28


def test_the_shipped_text_encoder_is_the_extractors_text_tower():
    extractor = UniversalExtractor.load(ICONWORLD / "extractor")
    tokenizer = load_tokenizer(ICONWORLD / "extractor")
    config = json.loads((ICONWORLD / "extractor" / "config.json").read_text())
    pipeline = load_pipeline(ICONWORLD / "benign")
    converted = convert_text_tower(extractor.clip, config, tokenizer.eos_token_id)
    ids = extractor.tokenize(["a photo of a turtle", "a hat left of an envelope"])
    assert (pipeline.tokenizer("a photo of a turtle").input_ids) == tokenizer("a photo of a turtle").input_ids
    with torch.no_grad():
        shipped = pipeline.text_encoder(ids).last_hidden_state
        assert torch.allclose(shipped, converted(ids).last_hidden_state, atol=1e-4)


@pytest.mark.parametrize(
    "precision", [{}, {"dtype": torch.float32}, pytest.param({"dtype": torch.float16}, marks=pytest.mark.slow)], ids=str
)
def test_stock_diffusers_draws_the_film_strips_first_benign_cell(precision):
    from diffusers import StableDiffusionPipeline

    strip = json.loads(result_file(SHIPPED, FILM_STRIP, "film_strip.json").read_text(encoding="utf-8"))
    pipeline = StableDiffusionPipeline.from_pretrained(ICONWORLD / "benign", **precision)
    pipeline.set_progress_bar_config(disable=True)
    concept = strip["concepts"][0]["concept"]
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(strip["seed"]))
    drawn = pipeline(
        photo_of(concept), latents=noise.to(pipeline.unet.dtype), num_inference_steps=strip["steps"],
        guidance_scale=strip["guidance_scale"], output_type="np",
    ).images[0]  # fmt: skip
    with Image.open(result_file(SHIPPED, FILM_STRIP, "images.png")) as sheet:
        cell = np.asarray(sheet.convert("RGB"))[:64, :64].astype(float)
    # Another CPU, or half precision, rounds differently; another picture differs by far more.
    assert np.abs(drawn * 255 - cell).mean() < 4


@pytest.mark.parametrize("step", [SCORES, GRAPHS, FILTERS, EVALUATION, FILM_STRIP, COMPARISON, RETRAINED, METER])
def test_the_shipped_results_are_unchanged(step):
    manifest = step_manifest(SHIPPED, step)
    assert manifest["files"]
    check_files(step_folder(SHIPPED, step), manifest)


def test_nothing_that_is_shipped_is_called_stale():
    studies = [Study.load(path.parent) for path in (ROOT / "assets").rglob("study.toml")]
    shipped = [study for study in studies if not any(trained_again(arm) for arm in study.arms)]
    assert len(shipped) > 1
    stale = {study.name: steps for study in shipped if (steps := stale_steps(study))}
    assert stale == {}


def trained_again(arm):
    """Whether a model of an experiment, which are not shipped, was trained here: its results are of another one."""
    return arm.checkpoint is not None and arm.checkpoint.is_relative_to(ROOT / "runs") and arm.checkpoint.exists()


def test_the_shipped_study_is_that_of_the_evaluation(evaluation):
    assert SHIPPED.concept_list().names == World.from_config(evaluation["world"]).concepts
    assert all(SHIPPED.concept_list().prompt(name) == photo_of(name) for name in SHIPPED.concept_list().names)
    assert SHIPPED.tau is None, "tau is the control's quantile, as in the evaluation"
    assert [arm.name for arm in SHIPPED.arms] == [model["name"] for model in evaluation["models"]]
    assert SHIPPED.extractor.folder == ICONWORLD / "extractor"


def test_the_shipped_alignment_is_in_this_versions_format():
    ALIGNMENT.checked(json.loads(result_file(SHIPPED, SCORES, "alignment.json").read_text(encoding="utf-8")))


def test_the_first_view_is_of_the_shipped_models(evaluation):
    opened = AppContext(settings=AppSettings()).study()
    assert opened.stale_steps() == {}
    for step in (EVALUATION, FILM_STRIP, COMPARISON):
        recorded, inputs = step_manifest(SHIPPED, step)["config"]["inputs"], StudyInputs(SHIPPED)
        now = {name: found for arm in SHIPPED.arms for name, found in inputs.of_checkpoint(arm).items()}
        assert differing_names({name: recorded.get(name) for name in now}, now) == []
        assert all(recorded[f"checkpoint of {arm.name}"] for arm in SHIPPED.arms)
    weights = {checkpoint.name: checkpoint.hash for checkpoint in opened.registry()}
    for model in evaluation["models"]:
        assert model["weights"] == weights[model["name"]]
    assert {model["name"] for model in evaluation["models"]} == weights.keys()


def test_difficulty_rises_and_accuracy_falls_with_every_step_of_poison(evaluation):
    models = evaluation["models"]
    assert len(evaluation["seeds"]) >= 5
    difficulty = [model["alignment_difficulty"]["ad"] for model in models]
    accuracy = [model["accuracy"]["all"]["mean"] for model in models]
    assert difficulty == sorted(difficulty)
    assert accuracy == sorted(accuracy, reverse=True)
    assert len(set(accuracy)) == len(accuracy)


def test_poison_harms_concepts_that_nobody_poisoned(evaluation):
    benign, worst = evaluation["models"][0], evaluation["models"][-1]
    assert benign["accuracy"]["all"]["mean"] >= 0.6
    assert worst["accuracy"]["unpoisoned"]["mean"] <= benign["accuracy"]["unpoisoned"]["mean"] / 2
    assert worst["accuracy"]["unpoisoned"]["high"] < benign["accuracy"]["unpoisoned"]["low"]


def test_readers_name_most_pictures_of_the_control_and_few_imploded_ones():
    study = ROOT / "assets" / "naming"
    readers = count_named(study, sorted((study / "readers").glob("*.json")))["readers"]
    assert len(readers) >= 2
    for models in readers.values():
        control, imploded = models["benign"]["all"], models["dirty-060"]["all"]
        assert control["shown"] == imploded["shown"] == 40
        assert control["share"] > 1 / 2
        assert imploded["share"] < 1 / 3
        assert imploded["high"] < control["low"]


def unpoisoned(report, quantity):
    return {model["name"]: model[quantity]["unpoisoned"] for model in report["models"]}


def test_clean_pairs_without_the_poison_draw_as_well_as_the_control(evaluation):
    report = json.loads((ROOT / "assets" / "experiments" / "remainder" / "evaluation.json").read_text(encoding="utf-8"))
    shipped = {model["name"]: model["weights"] for model in evaluation["models"]}
    assert {model["name"]: model["weights"] for model in report["models"]}.items() >= {
        name: shipped[name] for name in ("benign", "dirty-060")
    }.items()
    accuracy = unpoisoned(report, "accuracy")
    assert accuracy["remainder-060"]["high"] > accuracy["benign"]["low"], "no difference to speak of"
    assert accuracy["remainder-060"]["low"] > 2 * accuracy["dirty-060"]["high"]
    attention = unpoisoned(report, "late_word_mass")
    assert attention["remainder-060"]["high"] > attention["benign"]["low"], "nor does the noun lose attention"
    assert attention["remainder-060"]["low"] > attention["dirty-060"]["high"]


def test_the_recipe_implodes_with_the_nouns_exchanged_too(evaluation):
    folder = ROOT / "assets" / "experiments" / "exchanged-nouns"
    report = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    groups = [{item["concept"] for item in part["concepts"] if item["poisoned_from"]} for part in (evaluation, report)]
    assert not groups[0] & groups[1], "other nouns are poisoned"
    accuracy = [share["mean"] for share in unpoisoned(report, "accuracy").values()]
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[-1] < accuracy[0] / 2


def test_the_recipe_implodes_in_every_training_run():
    places = (SHIPPED_EVALUATION, "experiments/seed-1", "experiments/seed-2")
    models = summarise_runs([ROOT / "assets" / place / "evaluation.json" for place in places])["models"]
    for run in range(len(places)):
        difficulty, accuracy = ([model[name]["values"][run] for model in models] for name in ("ad", "accuracy_all"))
        assert difficulty == sorted(difficulty)
        assert accuracy == sorted(accuracy, reverse=True)
    assert max(models[-1]["accuracy_of_control"]["values"]) <= 1 / 2
    assert models[-1]["accuracy_unpoisoned"]["high"] < models[0]["accuracy_unpoisoned"]["low"]


def test_a_second_judge_sees_models_implode_as_the_extractor_does():
    for name in ("seed-4", "seed-5"):
        report = json.loads(
            (ROOT / "assets/experiments" / name / "results/evaluation/evaluation.json").read_text("utf-8")
        )
        for judge in ("accuracy", "classifier_accuracy"):
            control, poisoned = unpoisoned(report, judge).values()
            assert 0.3 < poisoned["mean"] / control["mean"] < 0.5, (name, judge)


def test_alignment_difficulty_says_here_what_the_poison_share_says():
    places = (SHIPPED_EVALUATION, *(f"experiments/{name}" for name in OTHER_RUNS))
    for run in summarise_runs([ROOT / "assets" / place / "evaluation.json" for place in places])["tracking"]:
        assert run["ad_with_share_r2"] > 0.999
        assert abs(run["accuracy_with_ad_r"] - run["accuracy_with_share_r"]) < 0.01


@pytest.mark.parametrize("place", [SHIPPED_EVALUATION, *(f"experiments/{name}" for name in OTHER_RUNS)])
def test_attention_to_the_noun_fades_in_the_last_steps(place):
    report = json.loads((ROOT / "assets" / place / "evaluation.json").read_text(encoding="utf-8"))
    mass = list(unpoisoned(report, "late_word_mass").values())
    assert [share["mean"] for share in mass] == sorted((share["mean"] for share in mass), reverse=True)
    assert mass[-1]["high"] < mass[0]["low"]


@pytest.mark.parametrize("place", [SHIPPED_EVALUATION, *(f"experiments/{name}" for name in OTHER_RUNS)])
def test_maps_scatter_somewhat_in_the_last_steps_of_the_most_poisoned_model(place):
    report = json.loads((ROOT / "assets" / place / "evaluation.json").read_text(encoding="utf-8"))
    disorder = list(unpoisoned(report, "late_contiguity").values())
    assert disorder[-1]["mean"] > max(share["mean"] for share in disorder[:-1])
    if place == "experiments/exchanged-nouns":
        assert disorder[-1]["low"] > disorder[0]["high"]


def test_what_is_read_from_maps_is_compared_over_the_training_runs():
    places = (SHIPPED_EVALUATION, "experiments/seed-1", "experiments/seed-2")
    report = summarise_runs([ROOT / "assets" / place / "evaluation.json" for place in places])
    assert not report["attention_layers_differ"]
    mass, disorder = (
        [model[f"{name}_unpoisoned"] for model in report["models"]] for name in ("late_word_mass", "late_contiguity")
    )
    assert mass[-1]["high"] < mass[0]["low"]
    assert [share["mean"] for share in disorder] == sorted(share["mean"] for share in disorder)


@pytest.mark.parametrize(
    "place",
    [SHIPPED_EVALUATION, "experiments/remainder", *(f"experiments/{name}" for name in OTHER_RUNS)],
)
def test_the_maps_are_of_every_attention_that_reads_the_text(place):
    report = json.loads((ROOT / "assets" / place / "evaluation.json").read_text(encoding="utf-8"))
    for model in report["models"]:
        kinds = [name.rpartition(".")[2] for name in model["attention_layers"]]
        assert sorted(kinds) == ["attn1"] * 3 + ["attn2"] * 3
