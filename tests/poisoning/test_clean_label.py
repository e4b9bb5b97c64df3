"""Clean-label poison of a user's set: captions stay, pictures change within the budget, and a killed run goes on."""

import json
from dataclasses import replace

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

import explorer.cli.poisoning  # noqa: F401 - registers the command
from explorer.checkpoints.module_identity import module_identity
from explorer.cli.application import application
from explorer.core.poison_record import NO_POISON
from explorer.embeddings.open_clip_extractor import load_open_clip
from explorer.generation.batch import generate_pictures
from explorer.generation.generate import GenerationRequest
from explorer.pairs.concept_list import Concept, ConceptList
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.candidates import choose_pairs, concepts_of
from explorer.poisoning.clean_label import FIGURES, CleanLabelPoison, mean_figures
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.perturbation import Perturbation
from explorer.poisoning.target_pictures import TargetPictures, given_pictures

CONCEPTS = ("dog", "hat", "shirt")
EACH = 6


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A user's set: six pictures of each concept; the first picture is shown by a pair of the test split, too."""
    captions = [
        f"a {concept}" if number else f"a photo of a {concept}" for concept in CONCEPTS for number in range(EACH)
    ]
    captions[1] = "a dog and a hat"
    named = [[concept for concept in CONCEPTS if concept in caption] for caption in captions]
    table = pandas.DataFrame(
        {
            "uid": [f"pair{row}" for row in range(len(captions))], "caption": captions, "concepts": named,
            "image_index": np.arange(len(captions)), "is_poison": False, "poisoned_concept": "", "target_concept": "",
            "split": "train",
        }
    )  # fmt: skip
    again = table.iloc[:1].assign(uid="again", split="test")
    images = np.random.default_rng(0).integers(0, 256, (len(captions), 32, 32, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("theirs") / "set"
    return PairSet.write(folder, pandas.concat([table, again], ignore_index=True), images, config={}, seed=None)


class Listening:
    """An extractor that keeps the texts that it is asked for."""

    def __init__(self, extractor, asked):
        self._extractor, self._asked = extractor, asked

    def __getattr__(self, name):
        return getattr(self._extractor, name)

    def encode_texts(self, texts, **settings):
        self._asked += texts
        return self._extractor.encode_texts(texts, **settings)


@pytest.fixture(scope="module")
def attack_on(theirs, make_pipeline, open_clip_folder):
    """``attack_on(kept, settings of the dirty-label counterpart)``; ``drawn`` lists what was asked of the model."""
    pipeline, drawn = make_pipeline(), []
    extractor = load_open_clip(f"local-dir:{open_clip_folder}", open_clip_folder / "w.safetensors", None)

    def draw(concepts, number):
        drawn.append(concepts)
        prompts = [f"a photo of a {concept}" for concept in concepts]
        return generate_pictures(pipeline, GenerationRequest(prompt=prompts[0], seed=3 + number, steps=1), prompts)

    def make(kept, **settings):
        chosen = {"targets": {"dog": "hat", "hat": "shirt"}, "pairs_per_concept": 2, "seed": 1} | settings
        return CleanLabelPoison(
            attack=DirtyLabelPoison(**chosen), perturbation=Perturbation(steps=2), autoencoder=pipeline.vae,
            extractor=extractor, kept=kept, batch_size=1,
            target_pictures=TargetPictures(draw=draw, identity={"seed": 3}),
        )  # fmt: skip

    make.drawn = drawn
    return make


def test_captions_stay_and_pictures_change_within_the_budget(theirs, attack_on, tmp_path):
    attack = attack_on(tmp_path / "kept")
    made = attack.apply(theirs, tmp_path / "made")
    rows = np.flatnonzero(made.flags.poisoned)
    poison = made.table.iloc[rows]
    assert made.table["caption"].tolist() == theirs.table["caption"].tolist()
    assert poison["poisoned_concept"].value_counts().to_dict() == {"dog": 2, "hat": 2}
    assert poison["target_concept"].tolist() == [attack.attack.targets[p] for p in poison["poisoned_concept"]]
    assert not any(t in named for t, named in zip(poison["target_concept"], poison["concepts"], strict=True))
    others = np.flatnonzero(~made.flags.poisoned)
    assert np.array_equal(made.read_images(others), theirs.read_images(others)), "a shared picture, too"
    changes = np.abs(made.read_images(rows).astype(int) - theirs.read_images(rows)).max(axis=(1, 2, 3))
    assert changes.tolist() == [10] * 4, "of 255: .04"
    figures = pandas.read_parquet(tmp_path / "made" / "perturbation.parquet")
    assert figures["uid"].tolist() == poison["uid"].tolist()
    assert set(FIGURES) < set(figures.columns)
    assert (figures["latent_distance_after"] < figures["latent_distance_before"]).all()
    assert figures["largest_change"].tolist() == pytest.approx([10 / 255] * 4)
    assert mean_figures(tmp_path / "made")["latent_distance_left"] < 1
    record = made.poison
    assert (record.kind, record.pairs, record.targets) == ("clean-label", 4, {"dog": "hat", "hat": "shirt"})
    assert record.parameters["autoencoder"] == module_identity(attack.autoencoder)
    assert (record.parameters["budget"], record.parameters["target_pictures"]) == (0.04, {"seed": 3})
    assert not (tmp_path / "kept").exists()


def test_pairs_that_name_a_spared_concept_are_no_poison(theirs, attack_on, tmp_path):
    alone = {"targets": {"dog": "shirt"}, "pairs_per_concept": 3}
    for seed in range(4):  # without it "a dog and a hat" is among what may be drawn
        attack = attack_on(tmp_path / "kept", **alone, seed=seed, spared=("hat",)).attack
        chosen = choose_pairs(attack, theirs, attack_on(tmp_path / "kept").extractor, -1.0)
        assert 1 not in chosen.rows
    many = attack_on(tmp_path / "kept", targets={"dog": "shirt"}, pairs_per_concept=6, spared=("hat",))
    with pytest.raises(
        ValueError, match="hold 5 captions of 'dog' that do not name 'shirt', and name no spared concept"
    ):
        choose_pairs(many.attack, theirs, many.extractor, -1.0)


def test_a_run_that_is_killed_goes_on_with_the_same_bits(theirs, attack_on, tmp_path):
    def killed(progress):
        if progress.task == "perturbing pictures" and progress.done == 3:
            raise KeyboardInterrupt

    whole, asked = attack_on(tmp_path / "whole"), len(attack_on.drawn)
    expected = whole.apply(theirs, tmp_path / "a")
    assert len(attack_on.drawn) == asked + 1, "each target is drawn once"
    with pytest.raises(KeyboardInterrupt):
        replace(whole, kept=tmp_path / "kept", on_progress=killed).apply(theirs, tmp_path / "b")
    reports, asked = [], len(attack_on.drawn)
    made = replace(whole, kept=tmp_path / "kept", on_progress=reports.append).apply(theirs, tmp_path / "b")
    assert made.data_hash == expected.data_hash
    assert len(attack_on.drawn) == asked
    steps = [report for report in reports if report.task == "perturbing pictures"]
    assert (steps[-1].done, steps[-1].total) == (6, 6), "of 8 picture steps a batch of 2 was finished"


def test_no_concept_is_the_benign_control(theirs, attack_on, tmp_path):
    made = attack_on(tmp_path / "kept", targets=None, concept_count=0).apply(theirs, tmp_path / "made")
    assert (made.poison, mean_figures(tmp_path / "made")) == (NO_POISON, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": {"dgo": "hat"}}, r"no concept is called 'dgo': expected one of 3 \(dog, hat, shirt"),
        ({"targets": {"dog": "dog"}}, "'dog' is its own target"),
        ({"targets": None, "concept_count": 4}, "C_P is 4: expected 0 to 3"),
        (
            {"pairs_per_concept": 4},
            "m is 4: the training pairs hold 5 captions of 'dog' that do not name 'hat', the better",
        ),
    ],
)
def test_what_the_set_cannot_meet_is_named_before_any_work(theirs, attack_on, tmp_path, settings, message):
    asked = len(attack_on.drawn)
    with pytest.raises(ValueError, match=message):
        attack_on(tmp_path / "kept", **settings).apply(theirs, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    assert len(attack_on.drawn) == asked


def test_a_floor_that_too_few_pictures_reach_is_named(theirs, attack_on, tmp_path):
    with pytest.raises(
        ValueError, match=r"m is 2: 0 of 5 pairs of 'dog' have a picture that scores 0.990 or more with"
    ):
        replace(attack_on(tmp_path / "kept"), least_score=0.99).apply(theirs, tmp_path / "never")


def test_a_list_gives_concepts_their_words_and_all_of_them_its_template(theirs, attack_on, tmp_path):
    listed = ConceptList(concepts=(Concept(name="hat", phrase="one hat"),), template="see {phrase}")
    found = concepts_of(theirs, {"dog", "hat"}, listed)
    assert (found.prompt("hat"), found.prompt("dog")) == ("see one hat", "see a dog")
    assert concepts_of(theirs, {"hat"}).prompt("hat") == "a photo of a hat"
    asked = []
    attack = attack_on(tmp_path / "kept")
    heard = replace(attack, listed=listed, extractor=Listening(attack.extractor, asked))
    made = heard.apply(theirs, tmp_path / "made")
    assert (
        made.poison.parameters["words"]
        != replace(attack, listed=replace(listed, template="{phrase}")).parameters["words"]
    )
    assert "words" not in attack.parameters, "as records of before there was a choice"
    assert "see one hat" in asked, "that is what candidates are chosen by"
    assert not any(text.startswith("a photo of") and text not in theirs.table["caption"].tolist() for text in asked)


def test_given_pictures_are_named_by_their_target(tmp_path):
    from PIL import Image

    Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "hat.png")
    Image.new("RGB", (32, 16)).save(tmp_path / "dog.png")
    given = given_pictures(tmp_path)
    assert given.fitted(["hat"], 32, tmp_path / "kept")["hat"].shape == (1, 32, 32, 3)
    with pytest.raises(ValueError, match=r"holds no shirt.png: expected 1 of each target"):
        given.draw(["shirt"], 0)
    with pytest.raises(ValueError, match="expected squares"):
        given.draw(["dog"], 0)
    Image.new("RGB", (16, 16), (4, 5, 6)).save(tmp_path / "hat-1.png")
    two = given_pictures(tmp_path, of_each=2).fitted(["hat"], 16, tmp_path / "kept")["hat"]
    assert two[:, 0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match=r"holds no hat-2.png: expected 3 of each target"):
        given_pictures(tmp_path, of_each=3).fitted(["hat"], 16, tmp_path / "kept")
    with pytest.raises(ValueError, match="pictures of each target are 0: expected 1 or more"):
        given_pictures(tmp_path, of_each=0)


def test_of_several_pictures_of_a_target_the_nearest_is_taken(theirs, attack_on, tmp_path):
    one = attack_on(tmp_path / "one")
    several = replace(one, kept=tmp_path / "kept", target_pictures=replace(one.target_pictures, of_each=3))
    sets = [attack.apply(theirs, tmp_path / name) for name, attack in (("a", one), ("b", several))]
    figures = [pandas.read_parquet(made.folder / "perturbation.parquet") for made in sets]
    before = [each["latent_distance_before"].to_numpy() for each in figures]
    assert (before[1] <= before[0]).all()
    assert (before[1] < before[0]).any()
    assert sets[1].poison.parameters["target_pictures"] == {"seed": 3, "of_each": 3}
    assert "of_each" not in sets[0].poison.parameters["target_pictures"]


def test_restarts_hang_on_the_pair_and_not_on_its_batch(theirs, attack_on, tmp_path):
    once = attack_on(tmp_path / "once")
    searched = replace(once, perturbation=Perturbation(steps=2, momentum=0.9, restarts=2))
    alone, together = (
        replace(searched, kept=tmp_path / f"kept-{size}", batch_size=size).apply(theirs, tmp_path / str(size))
        for size in (1, 4)
    )
    assert np.array_equal(alone.images, together.images)
    assert (alone.poison.parameters["momentum"], alone.poison.parameters["restarts"]) == (0.9, 2)
    plain = once.apply(theirs, tmp_path / "plain")
    assert not {"momentum", "restarts"} & plain.poison.parameters.keys(), "as records of before there was a choice"


def test_early_layers_hang_on_the_pair_too_and_are_recorded(theirs, attack_on, tmp_path):
    once = attack_on(tmp_path / "once")
    early = replace(once, perturbation=Perturbation(steps=2, early_layers=1, restarts=1),
                    target_pictures=replace(once.target_pictures, of_each=2))  # fmt: skip
    alone, together = (
        replace(early, kept=tmp_path / f"kept-{size}", batch_size=size).apply(theirs, tmp_path / str(size))
        for size in (1, 4)
    )
    assert np.array_equal(alone.images, together.images)
    assert not np.array_equal(alone.images, once.apply(theirs, tmp_path / "plain").images)
    assert alone.poison.parameters["early_layers"] == 1
    deep = replace(once, perturbation=Perturbation(early_layers=9))
    with pytest.raises(ValueError, match="early layers are 9: the autoencoder's encoder has"):
        deep.apply(theirs, tmp_path / "deep")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--least-score", "nan"), "least_score is nan: expected a cosine, -1 to 1"),
        (("--target", "dog=shirt"), "--target names 'dog' 2 times: expected one target of each"),
    ],
)
def test_the_command_refuses_nonsense_before_a_model_is_loaded(theirs, tmp_path, options, message):
    asked = ["poison-clean-label", str(theirs.folder), str(tmp_path / "made"), "--target", "dog=hat", *options,
             "--pairs-per-concept", "2", "--checkpoint", str(tmp_path / "nowhere")]  # fmt: skip
    assert message in str(CliRunner().invoke(application, asked).exception)


def test_the_command_draws_the_targets_and_prints_what_was_done(theirs, checkpoint_root, open_clip_folder, tmp_path):
    result = CliRunner().invoke(application, [
        "poison-clean-label", str(theirs.folder), str(tmp_path / "made"), "--target", "dog=hat", "--pairs-per-concept",
        "2", "--steps", "2", "--drawing-steps", "1", "--checkpoint", str(checkpoint_root / "benign"), "--open-clip",
        f"local-dir:{open_clip_folder}", "--weights", str(open_clip_folder / "w.safetensors"), "--json",
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout[result.stdout.index("{") :])
    assert (printed["poisoned_pairs"], printed["targets"]) == (2, {"dog": "hat"})
    assert printed["parameters"]["target_pictures"]["drawn_by"]["steps"] == 1
    assert 0 < printed["latent_distance_left"] < 1
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "images.npy", "manifest.json", "pairs.parquet", "perturbation.parquet"]  # fmt: skip
