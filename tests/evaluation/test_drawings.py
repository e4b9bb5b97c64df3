"""Pictures and maps are drawn once and kept, and drawn anew only where they are not those that are asked for."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint
from explorer.checkpoints.weights_hash import weights_hash
from explorer.core.provenance import MANIFEST_NAME, hash_file, read_manifest, write_json
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.drawings import FILE_NAME, Drawing, draw_missing
from explorer.evaluation.files import evaluate_folder
from explorer.evaluation.metrics.listed import METRICS
from explorer.evaluation.metrics.metric import Metric
from explorer.evaluation.prompts import single_prompts
from explorer.generation.generate import GenerationRequest, generate

CONFIG = EvaluationConfig(seeds=(0, 1), steps=2, batch_size=3)


@pytest.fixture(scope="module")
def world(micro_recipe):
    return micro_recipe.world()


@pytest.fixture(scope="module")
def stored(micro_world, world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    draw_missing(read_checkpoint(micro_world.output / "dirty-004"), world.concept_list(), CONFIG, folder, world)
    return folder


@pytest.fixture
def folder(stored, tmp_path):
    """Drawings of dirty-004, to be tampered with."""
    return shutil.copytree(stored, tmp_path / "drawings")


@pytest.fixture
def models(micro_world, tmp_path):
    """The micro world's models, whose files may change: their manifests record no hashes."""
    folder = shutil.copytree(micro_world.output, tmp_path / "models")
    for name in ("benign", "dirty-002", "dirty-004"):
        write_json(folder / name / MANIFEST_NAME, read_manifest(folder / name) | {"files": {}})
    return folder


def drawn_by(models, world, folder, config=CONFIG):
    """The folders, what was said, and how many pictures were drawn."""
    told = []
    model = read_checkpoint(models / "dirty-004")
    places = draw_missing(model, world.concept_list(), config, folder, world, told.append)
    said = [progress.message for progress in told if "drawn anew" in progress.message]
    return places, said, max((progress.done for progress in told if progress.unit == "picture"), default=0)


def test_what_is_stored_is_whole_and_says_where_it_came_from(stored, micro_world, world):
    place = stored / "dirty-004" / "seed-1"
    manifest = read_manifest(place, kind="drawing")
    assert manifest["config"]["weights"] == weights_hash(read_checkpoint(micro_world.output / "dirty-004"))
    assert (manifest["config"]["steps"], manifest["seed"], manifest["device"]) == (2, 1, "cpu")
    drawing = Drawing.load(place)
    assert drawing.images.shape == (8, 64, 64, 3)
    assert drawing.pair_maps.shape == (2, 2, 16, 16)
    assert not torch.equal(drawing.maps, drawing.late_maps)
    assert not torch.equal(drawing.images, Drawing.load(place.with_name("seed-0")).images)


def test_guidance_maps_are_those_of_the_prompts_drawn_alone(stored, micro_world, world):
    maps = Drawing.load(stored / "dirty-004" / "seed-1").guidance_maps
    pipeline = load_pipeline(read_checkpoint(micro_world.output / "dirty-004"))
    prompt, _ = single_prompts(world.concept_list())[5]
    request = GenerationRequest(prompt=prompt, seed=1, steps=2, guidance_scale=CONFIG.guidance_scale)
    alone = generate(pipeline, request).steps.guidance.mean(0)[0]
    assert maps.shape == (8, 16, 16)
    torch.testing.assert_close(maps[5], alone, rtol=1e-3, atol=1e-4)


def test_drawings_without_guidance_and_of_before_its_maps_were_kept_say_so(models, tmp_path):
    config = replace(CONFIG, seeds=(0,), guidance_scale=1.0)
    unguided = evaluate_folder(models, None, tmp_path / "unguided", config)["models"][0]
    assert unguided["guidance"]["all"] is None
    assert "the guidance scale is 1" in unguided["not_measured"]["guidance"]
    out = tmp_path / "older"
    first = evaluate_folder(models, None, out, replace(config, guidance_scale=4.0))
    assert first["models"][0]["guidance"]["all"]["mean"] > 0
    for path in out.rglob(FILE_NAME):
        tensors = load_file(path)
        del tensors["guidance_maps"]
        save_file(tensors, path)
        manifest = read_manifest(path.parent)
        write_json(path.parent / MANIFEST_NAME, manifest | {"files": {FILE_NAME: hash_file(path)}})
    told = []
    again = evaluate_folder(models, None, out, replace(config, guidance_scale=4.0), on_progress=told.append)
    assert not any(progress.unit == "picture" for progress in told), "no other figure needs them"
    assert again["models"][0]["guidance"]["all"] is None
    assert again["models"][0]["not_measured"]["guidance"] == "it was drawn before guidance maps were kept"


def test_what_is_there_is_not_drawn_again_and_further_seeds_are(folder, models, world):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    places, said, pictures = drawn_by(models, world, folder)
    assert (len(places), said, pictures) == (2, [], 0)
    _, said, pictures = drawn_by(models, world, folder, replace(CONFIG, seeds=(0, 1, 2)))
    assert (said, pictures) == ([], 8 + 2)
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()}.items() <= before.items()


def test_a_run_that_was_cut_off_goes_on_with_what_is_missing(folder, stored, models, world):
    (folder / "dirty-004" / "seed-1" / MANIFEST_NAME).unlink()
    (folder / "dirty-004" / "seed-1" / FILE_NAME).write_bytes(b"half of it")
    places, said, pictures = drawn_by(models, world, folder)
    assert pictures == 8 + 2
    assert "seed 1 is drawn anew, since what lies there is no whole drawing" in said[0]
    again, first = load_file(places[1] / FILE_NAME), load_file(stored / "dirty-004" / "seed-1" / FILE_NAME)
    assert all(torch.equal(again[name], first[name]) for name in first)


@pytest.mark.parametrize("change", ["steps", "weights", "weights of the base", "sampler", "damage"])
def test_drawings_that_are_not_the_ones_asked_for_are_drawn_anew_and_that_is_said(change, folder, models, world):
    config, expected = CONFIG, f"since it was drawn with other {change}"
    if change == "steps":
        config = replace(CONFIG, steps=1)
    elif change == "sampler":
        path = models / "benign" / "scheduler" / "scheduler_config.json"
        path.write_text(path.read_text() + "\n")
    elif change == "damage":
        path = folder / "dirty-004" / "seed-0" / FILE_NAME
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        expected = "since what lies there is no whole drawing"
    else:
        own = models / ("benign" if change == "weights of the base" else "dirty-004")
        path = own / "unet" / "diffusion_pytorch_model.safetensors"
        save_file({name: 1.01 * values for name, values in load_file(path).items()}, path)
    _, said, pictures = drawn_by(models, world, folder, config)
    assert expected in said[0]
    assert pictures == (1 if change == "damage" else 2) * (8 + 2)
    assert drawn_by(models, world, folder, config)[1:] == ([], 0)


def test_a_metric_that_is_added_later_is_computed_of_what_is_stored(models, tmp_path, monkeypatch):
    first = evaluate_folder(models, None, tmp_path / "out", CONFIG)
    largest = Metric(name="largest", needs=("maps",), compute=lambda maps: maps.amax((1, 2)))
    monkeypatch.setattr("explorer.evaluation.evaluate.METRICS", (*METRICS, largest))
    told = []
    again = evaluate_folder(models, None, tmp_path / "out", CONFIG, on_progress=told.append)
    assert not any(progress.unit == "picture" for progress in told)
    added = [model.pop("largest") for model in again["models"]]
    assert all(0 < value["all"]["low"] <= value["all"]["high"] <= 1 for value in added)
    assert again == first


def test_without_maps_the_same_pictures_are_drawn_and_nothing_else(stored, models, world, tmp_path):
    places, _, pictures = drawn_by(models, world, tmp_path / "plain", replace(CONFIG, maps=False))
    assert pictures == 2 * 8, "no prompts of two concepts"
    plain, whole = Drawing.load(places[1]), Drawing.load(stored / "dirty-004" / "seed-1")
    assert (plain.images.int() - whole.images.int()).abs().max() <= 1, "up to rounding"
    assert (plain.maps, plain.pair_images, plain.scene_maps) == (None, None, None)
    assert "without maps" in read_manifest(places[1])["left_out"]["maps"]
    _, said, _ = drawn_by(models, world, tmp_path / "plain")
    assert "drawn with other prompts, maps" in said[0], "a drawing without maps does not stand for one with them"


def test_prompts_of_two_concepts_that_a_model_cannot_read_are_left_out_with_the_reason(models, world, tmp_path):
    """As of a base that was trained on a user's captions, none of which says what is left of what."""
    for lexicon in models.rglob("lexicon.json"):
        write_json(lexicon, [word for word in json.loads(lexicon.read_text()) if word != "left"])
    places, _, pictures = drawn_by(models, world, tmp_path / "unread")
    assert pictures == 2 * 8, "of single concepts alone"
    assert "the model does not know the word 'left'" in read_manifest(places[0])["left_out"]["pair_maps"]
    drawing = Drawing.load(places[0])
    assert drawing.maps is not None
    assert drawing.pair_images is None
