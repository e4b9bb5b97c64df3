"""Evaluation of a user's models: any list of concepts, any family, and what is not known said to be so."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints
from explorer.core.poison_record import NOT_RECORDED
from explorer.embeddings.open_clip_extractor import load_open_clip
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.drawings import Drawing, draw_missing
from explorer.evaluation.evaluate import evaluate
from explorer.evaluation.files import write_contact_sheet
from explorer.pairs.concept_list import POOL, Concept, ConceptList

CONFIG = EvaluationConfig(seeds=(0, 1), steps=1, size=32, tau=0.1)
CONCEPTS = ConceptList(
    concepts=(Concept(name="dog", group=POOL), Concept(name="hat", group=POOL),
              Concept(name="turtle", phrase="turtle"), Concept(name="photo dog")),
    template="of {phrase}",
)  # fmt: skip
SCENES = "it takes the true outlines of concepts in pictures, which painted scenes alone have"


@pytest.fixture(scope="module")
def extractor(open_clip_folder):
    return load_open_clip(f"local-dir:{open_clip_folder}", open_clip_folder / "w.safetensors", None)


@pytest.fixture(scope="module")
def models(checkpoint_template):
    return scan_checkpoints(checkpoint_template)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return tmp_path_factory.mktemp("drawings")


@pytest.fixture
def evaluated(models, extractor, drawings):
    def run(models=models, concepts=CONCEPTS, config=CONFIG, control="benign", **options):
        return evaluate(models, extractor, concepts, config, control=control, drawings=drawings, difficulties={},
                        **options)  # fmt: skip

    return run


def test_a_users_models_are_measured_on_a_users_concepts(evaluated, drawings, tmp_path):
    told = []
    report = evaluated(on_progress=told.append)
    assert (report["world"], report["tau"], report["size"]) == (None, 0.1, 32)
    control, two, _ = report["models"]
    assert {name for name, why in control["not_measured"].items() if why == SCENES} == {
        "mask_mass",
        "mask_overlap",
        "mask_area",
    }
    assert f"benign: mask_mass, mask_overlap, mask_area not measured, since {SCENES}" in [each.message for each in told]
    assert control["mask_mass"] == {"all": None, "pool": None, "unpoisoned": None, "poisoned": None}
    assert two["word_mass"]["poisoned"]["over_concepts"]["low"] < two["word_mass"]["poisoned"]["mean"]
    assert set(two["accuracy"]["unpoisoned"]["over_concepts"].values()) == {None}, "the photo dog alone"
    assert list(control["per_concept"]) == ["dog", "hat", "turtle", "photo dog"]
    write_contact_sheet(report, drawings, CONCEPTS, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 2 * (14 + 3 * 64 + 16), (
            "two groups of three models, whose pictures of 32 pixels are enlarged"
        )
    json.dumps(report, allow_nan=False)


def test_attention_to_a_concept_of_two_words_is_that_to_both(evaluated, drawings, models):
    from explorer.checkpoints.pipelines import load_pipeline
    from explorer.generation.generate import GenerationRequest, generate

    evaluated()
    stored = Drawing.load(drawings / "benign" / "seed-1")
    request = GenerationRequest(
        prompt="of a photo dog", seed=1, steps=1, guidance_scale=4.0, height=32, width=32
    )  # fmt: skip
    alone = generate(load_pipeline(models[0]), request)
    maps = alone.cube.maps()[[2, 3]]
    assert torch.allclose(stored.maps[3], maps.sum(0), atol=2e-3)


def test_a_model_without_a_record_is_measured_and_nothing_is_guessed_of_its_poison(evaluated, models):
    unknown = replace(models[1], poison=NOT_RECORDED)
    report = evaluated([unknown, models[0]])
    control, found = report["models"]
    assert (control["name"], found["poisoned"], found["poisoned_concept_count"]) == ("benign", None, None)
    assert found["poisoned_concepts_known"] is False
    assert found["accuracy"]["all"] is not None
    assert found["accuracy"]["poisoned"] is None
    assert found["accuracy"]["unpoisoned"] is None


def test_without_a_control_or_a_number_there_is_no_tau(evaluated, models):
    report = evaluated(models[1:], config=replace(CONFIG, tau=None))
    assert (report["tau"], report["tau_definition"]) == (None, None)
    reason = report["models"][0]["not_measured"]["utility"]
    assert reason == "the benign control is not among the models, and tau is not given"
    assert report["models"][0]["utility"]["all"] is None


def test_tau_is_the_controls_quantile(evaluated):
    low, high = (evaluated(config=replace(CONFIG, tau=None, tau_quantile=share)) for share in (0.1, 0.9))
    assert high["tau_definition"] == "quantile 0.9 of the CLIP similarities of benign"
    assert low["tau"] < high["tau"]
    assert low["models"][0]["clip_similarity"] == high["models"][0]["clip_similarity"]


def test_no_other_model_stands_in_for_the_control(evaluated, models):
    config = replace(CONFIG, tau=None)
    unnamed = evaluated(config=config, control=None)
    assert (unnamed["tau"], unnamed["tau_definition"]) == (None, None), "though one is recorded to be benign"
    other = models[1].name
    named = evaluated(config=config, control=other)
    assert (named["models"][0]["name"], named["tau_definition"].rpartition(" of ")[2]) == (other, other)


def test_of_one_seed_there_is_an_interval_over_concepts_alone(evaluated):
    report = evaluated(config=replace(CONFIG, seeds=(0,)))
    found = report["models"][0]["clip_similarity"]["all"]
    assert (found["low"], found["high"]) == (None, None)
    assert found["over_concepts"]["low"] < found["mean"] < found["over_concepts"]["high"]


def test_a_list_without_other_concepts_has_no_paired_prompts(evaluated):
    report = evaluated(concepts=CONCEPTS.chosen(["dog", "hat", "turtle"]), config=replace(CONFIG, seeds=(0,)))
    assert "fewer than two concepts" in report["models"][0]["not_measured"]["word_overlap"]
    assert report["models"][0]["word_overlap"] is None


@pytest.mark.parametrize(
    ("fixture", "reason"),
    [
        ("make_xl_pipeline", "of one text encoder, and a StableDiffusionXLPipeline has two"),
        ("make_sd3_pipeline", "shown to a U-Net, and a StableDiffusion3Pipeline has none"),
        ("make_flux_pipeline", "shown to a U-Net, and a FluxPipeline has none"),
    ],
)
def test_every_family_is_drawn_and_says_what_does_not_apply(fixture, reason, request, tmp_path):
    from explorer.core.provenance import read_manifest
    from explorer.iconworld.world import World

    request.getfixturevalue(fixture)().save_pretrained(tmp_path / "model")
    (place,) = draw_missing(read_checkpoint(tmp_path / "model"), CONCEPTS, replace(CONFIG, seeds=(0,)), tmp_path,
                            World(concept_count=4))  # fmt: skip
    drawing = Drawing.load(place)
    assert drawing.images.shape == (4, 32, 32, 3)
    assert drawing.maps.shape[0] == 4
    assert (drawing.maps > 0).any()
    assert reason in read_manifest(place)["left_out"]["scene_maps"]


def test_scenes_of_a_world_are_not_shown_for_other_concepts(models, tmp_path):
    from explorer.core.provenance import read_manifest
    from explorer.iconworld.world import World

    (place,) = draw_missing(models[0], CONCEPTS, replace(CONFIG, seeds=(0,)), tmp_path, World(concept_count=4))
    assert read_manifest(place)["left_out"] == {"scene_maps": SCENES, "scene_masks": SCENES}


def test_a_word_that_a_model_does_not_know_is_refused_before_anything_is_drawn(evaluated, models):
    told = []
    concepts = replace(CONCEPTS, concepts=(*CONCEPTS.concepts, Concept(name="zebra")))
    with pytest.raises(ValueError, match="does not know the word 'zebra'"):
        evaluated(concepts=concepts, on_progress=told.append)
    assert not any(each.unit == "picture" for each in told)


def test_unrelated_concepts_are_those_far_from_every_poisoned_one(evaluated, extractor):
    report = evaluated(config=replace(CONFIG, seeds=(0,), unrelated_distance=0.0))
    distances = {each["concept"]: each["distance_to_poisoned"] for each in report["concepts"]}
    dog, photo_dog, *others = extractor.encode_texts(["dog", "photo dog", "hat", "turtle"], unit=False)
    nearest = min(float((photo_dog - other).norm()) for other in (dog, *others))
    assert distances == pytest.approx({"dog": 0, "hat": 0, "turtle": 0, "photo dog": nearest}, abs=1e-3)
    assert report["models"][1]["accuracy"]["unrelated"] == report["models"][1]["accuracy"]["unpoisoned"] is not None
    far = evaluated(config=replace(CONFIG, seeds=(0,), unrelated_distance=nearest + 0.1))
    assert far["models"][1]["accuracy"]["unrelated"] is None
