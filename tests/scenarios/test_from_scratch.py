"""What an experiment from scratch needs, of a user's own small pictures: a small base, and a classifier as judge."""

import json
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch

from explorer.checkpoints.registry import read_checkpoint
from explorer.core.provenance import read_manifest
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.evaluation.classifier import BROKEN, PictureClassifier
from explorer.pairs.concept_list import Concept, ConceptList
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.mislabelled import MislabelledPairs
from explorer.scenarios.classifier_files import classifier_spec
from explorer.scenarios.experiment import carry_out_scenario
from explorer.scenarios.experiment_request import ScenarioRequest
from explorer.scenarios.named import Dose
from explorer.scenarios.recipes import fine_tuning_recipe
from explorer.scenarios.small_base import SmallBase, make_small_base
from explorer.scenarios.train_classifier import ClassifierLoss, ClassifierTask, train_classifier
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Study
from explorer.training.config import TrainingConfig
from explorer.training.recipes import override

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220), "white": (240, 240, 240)}
SHORT = TrainingConfig(steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=0)


def colour_pairs(folder, count=80, seed=0, split="train"):
    """Noisy pictures of one colour, 32 x 32, whose caption names it: classes that a classifier can learn in seconds."""
    random, names = np.random.default_rng(seed), list(COLOURS)
    labels = [names[row % len(names)] for row in range(count)]
    noise = random.normal(0, 25, (count, 32, 32, 3))
    images = np.clip(np.array([COLOURS[name] for name in labels])[:, None, None] + noise, 0, 255).astype(np.uint8)
    table = pandas.DataFrame({
        "uid": [f"{split}-{row}" for row in range(count)], "caption": labels, "concepts": [[name] for name in labels],
        "image_index": range(count), "is_poison": False, "poisoned_concept": "", "target_concept": "", "split": split,
    })  # fmt: skip
    return PairSet.write(folder, table, images, config={"poison": {"kind": "none"}}, seed=seed)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return colour_pairs(tmp_path_factory.mktemp("colours") / "set")


@pytest.fixture(scope="module")
def base(colours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    recipe = SmallBase(
        autoencoder=SHORT, extractor=SHORT, autoencoder_channels=(8, 8, 8), denoiser_channels=(16, 16, 16)
    )
    made = make_small_base(colours, recipe, folder / "small", run=folder / "run")
    return folder / "small", recipe, made


@pytest.fixture(scope="module")
def classifier(colours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    config = TrainingConfig(steps=30, batch_size=16, learning_rate=1e-3, warmup_steps=5)
    held_out = colour_pairs(folder / "held-out", count=40, seed=1, split="test")
    manifest = train_classifier(colours, config, folder / "classifier", run=folder / "run", side=32, held_out=held_out)
    return folder, config, manifest


def test_a_small_base_that_was_cut_off_is_gone_on_with(colours, base, tmp_path, monkeypatch):
    folder, recipe, made = base

    def cut_off(*_, **__):
        raise KeyboardInterrupt

    for part in ("train", "convert_text_tower"):  # in the midst of the extractor, and of the base
        with monkeypatch.context() as patch:
            patch.setattr(f"explorer.scenarios.small_base.{part}", cut_off)
            with pytest.raises(KeyboardInterrupt):
                make_small_base(colours, recipe, tmp_path / "small", run=tmp_path / "run")
    assert make_small_base(colours, recipe, tmp_path / "small", run=tmp_path / "run") == made
    for part in ("base", "extractor"):
        assert read_manifest(tmp_path / "small" / part)["files"] == read_manifest(folder / part)["files"]


def test_a_small_base_is_a_pipeline_and_an_extractor_of_the_pictures_own_size(base, colours):
    folder, _, made = base
    checkpoint = read_checkpoint(folder / "base")
    assert (checkpoint.problem, checkpoint.family) == (None, "sd1")
    assert json.loads((folder / "base/unet/config.json").read_text())["sample_size"] == 8
    assert read_manifest(folder / "base")["metrics"] == {name: made[name] for name in made if name != "pairs_found"}
    extractor = UniversalExtractor.load(folder / "extractor")
    features = extractor.encode_images(np.array(colours.images[:3]))
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-4)
    assert 0 <= made["pairs_found"] <= 1


def test_what_is_finished_is_not_made_again(base, colours, tmp_path):
    folder, recipe, made = base
    before = (folder / "base/manifest.json").stat().st_mtime_ns
    assert make_small_base(colours, recipe, folder, run=tmp_path / "other") == made
    assert (folder / "base/manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="was made with other settings: choose a new folder"):
        make_small_base(colours, replace(recipe, seed=1), folder, run=tmp_path / "other")


@pytest.mark.parametrize(("shape", "told"), [((8, 24, 32), "32 x 24"), ((8, 24, 24), "24 x 24")])
def test_pictures_that_do_not_fit_are_refused_before_any_work(shape, told, tmp_path, colours):
    images = np.zeros((*shape, 3), dtype=np.uint8)
    pairs = PairSet.write(tmp_path / "set", colours.table.iloc[:8], images, config={}, seed=0)
    with pytest.raises(ValueError, match=f"are {told}: expected squares, with a side that is a multiple of 16"):
        make_small_base(pairs, SmallBase(), tmp_path / "out", run=tmp_path / "run")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"autoencoder_channels": (8, 12, 16)}, r"autoencoder_channels are \(8, 12, 16\): expected multiples of 8"),
        ({"denoiser_channels": (16, 0, 16)}, r"denoiser_channels are \(16, 0, 16\): expected multiples of 16"),
    ],
)
def test_channels_that_no_network_can_have_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        SmallBase(**changes)


def test_poison_is_refused_by_base_and_classifier(colours, tmp_path):
    poisoned = MislabelledPairs(concept_count=1, pairs_per_concept=3).apply(colours, tmp_path / "poisoned")
    with pytest.raises(ValueError, match=r"3 of 83 pairs of .* are poison: expected none"):
        make_small_base(poisoned, SmallBase(), tmp_path / "out", run=tmp_path / "run")
    with pytest.raises(ValueError, match="holds 3 poison pairs"):
        train_classifier(poisoned, SHORT, tmp_path / "out", run=tmp_path / "run", side=32)


def test_the_classifier_learns_and_a_study_reads_it(classifier, colours):
    folder, _, manifest = classifier
    assert manifest["metrics"]["accuracy"] >= 0.9
    spec = classifier_spec(folder / "classifier", set(COLOURS))
    with pytest.raises(
        ValueError, match="knows the classes blue, green, red, white: expected some of the 1 concepts, cat"
    ):
        classifier_spec(folder / "classifier", {"cat"})
    assert spec.preparation == "side-32"
    judge = PictureClassifier.load(
        spec.architecture,
        spec.weights,
        spec.class_names,
        ConceptList(concepts=tuple(Concept(name=name) for name in COLOURS)),
        preparation=spec.preparation,
    )
    seen = judge.read(np.array(colours.images[:4]))
    named = [sorted(COLOURS)[number] for number in seen["classes"]]
    assert sum(name == caption for name, caption in zip(named, colours.table["caption"][:4], strict=True)) >= 3


def test_a_classifier_is_not_trained_again_and_not_taken_for_another(classifier, colours):
    folder, config, manifest = classifier
    held_out = PairSet.load(folder / "held-out")
    again = {"run": folder / "none", "held_out": held_out}
    assert train_classifier(colours, config, folder / "classifier", side=32, **again) == manifest
    with pytest.raises(ValueError, match="a classifier of another side: choose a new folder"):
        train_classifier(colours, config, folder / "classifier", side=64, **again)
    with pytest.raises(ValueError, match="another training"):
        train_classifier(colours, replace(config, steps=31), folder / "classifier", side=32, **again)


def test_a_classifier_that_was_cut_off_ends_with_the_same_bits(colours, tmp_path):
    config = TrainingConfig(
        steps=12, batch_size=16, learning_rate=1e-3, warmup_steps=0, checkpoint_every=4, log_every=1
    )
    whole = train_classifier(colours, config, tmp_path / "whole", run=tmp_path / "at once", side=32)
    run, told = tmp_path / "run", []

    def cut_off(progress):
        told.append(progress.done)
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(colours, config, tmp_path / "cut", run=run, side=32, on_progress=cut_off)
    assert not (tmp_path / "cut").exists()
    told.clear()
    again = train_classifier(colours, config, tmp_path / "cut", run=run, side=32,
                             on_progress=lambda progress: told.append(progress.done))  # fmt: skip
    assert told[:2] == [4, 5], "what was done is not done again"
    assert again["files"] == whole["files"]


def test_a_classifier_may_have_a_class_for_broken_pictures(colours, classifier, tmp_path):
    config, held_out = replace(SHORT, batch_size=13), PairSet.load(classifier[0] / "held-out")
    made = train_classifier(colours, config, tmp_path / "judge", run=tmp_path / "run", side=32, held_out=held_out,
                            broken=True)  # fmt: skip
    assert made["config"]["classes"] == [*sorted(COLOURS), BROKEN]
    assert made["metrics"]["called_broken"].keys() == {"whole", "blended", "shuffled", "warped", "collaged"}
    assert all(0 <= share <= 1 for share in made["metrics"]["called_broken"].values())
    spec = classifier_spec(tmp_path / "judge", set(COLOURS))
    concepts = ConceptList(concepts=tuple(Concept(name=name) for name in COLOURS))
    judge = PictureClassifier.load(
        spec.architecture, spec.weights, spec.class_names, concepts, preparation=spec.preparation
    )
    assert (judge.broken, judge.read(np.array(colours.images[:2]))["broken_class"]) == (4, 4)
    assert not judge.class_matches[:, 4].any()
    with pytest.raises(ValueError, match="a classifier of another classes: choose a new folder"):
        train_classifier(colours, config, tmp_path / "judge", run=tmp_path / "run", side=32, held_out=held_out)
    with pytest.raises(ValueError, match="batch_size is 12: expected 13 or more"):
        train_classifier(
            colours, replace(config, batch_size=12), tmp_path / "few", run=tmp_path / "run", side=32, broken=True
        )


def test_a_fifth_of_a_batch_is_broken_and_the_rest_as_without(colours):
    labels = np.arange(20) % 4
    images = np.array(colours.images[:20])
    batches = [
        ClassifierTask(ClassifierLoss(torch.nn.Identity()), images, labels, 32, broken).batch(
            torch.arange(20), torch.Generator().manual_seed(0)
        )
        for broken in (None, 4)
    ]
    plain, broken = batches
    assert torch.equal(broken["labels"], torch.cat((plain["labels"][4:], torch.full((4,), 4))))
    assert torch.equal(broken["images"][:16], plain["images"][4:])


def test_table_5_from_scratch_by_one_call(base, classifier, colours, tmp_path):
    request = ScenarioRequest(
        scenario="mislabelled", folder=tmp_path / "scenario", base=base[0] / "base", benign=colours.folder,
        pictures=1, drawing_steps=2, template="{phrase}", classifier=classifier[0] / "classifier",
        step=["pictures", "evaluation"], dose=Dose(concepts=4, pairs_per_concept=6),
    )  # fmt: skip
    changes = {"steps": 2, "batch_size": 4, "precision": "no", "fused": False, "warmup_steps": 0, "ema_decay": 0.0}
    recipe = override(fine_tuning_recipe("cpu"), **changes, resolution=32, from_scratch=True)
    made = carry_out_scenario(request, recipe, ExtractorSpec(folder=base[0] / "extractor"))
    assert (made["arms"], made["failed"]) == (["benign", "mislabelled-002", "mislabelled-003", "mislabelled-004"], {})
    found = json.loads((request.folder / "study/results/evaluation/evaluation.json").read_text())
    assert all("classifier_accuracy" in json.dumps(model) for model in found["models"])
    assert Study.load(request.folder / "study").concept_list().prompt("red") == "red"
