"""A training picture of a concept, from a pair set and from what a user has."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
from PIL import Image

from explorer.core.poison_record import NO_POISON
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.sources.image_folder import ImageFolderSource
from explorer.studies import training_pictures
from explorer.studies.study import Arm
from explorer.studies.training_pictures import TrainingPictures

CONCEPTS = ("dog", "hat")
CAPTIONS = ["a dog", "a hat", "a dog and hat", "a dog in the sun", "a dog at night", "a cat"]


def pictures(count, side=32):
    """Each of one colour that says which it is."""
    return np.repeat(np.arange(1, count + 1, dtype=np.uint8) * 20, side * side * 3).reshape(count, side, side, 3)


@pytest.fixture
def pair_set(tmp_path):
    """Of the dog's pairs one is poison and one is not for training."""
    table = pandas.DataFrame({
        "uid": [str(row) for row in range(6)], "caption": CAPTIONS, "concepts": [[]] * 6, "image_index": range(6),
        "is_poison": [False, False, False, None, True, False], "poisoned_concept": "", "target_concept": "",
        "split": ["train"] * 6,
    })  # fmt: skip
    PairSet.write(tmp_path / "set", table, pictures(6), config={}, seed=0)
    return Arm(name="mine", pairs=tmp_path / "set")


def test_a_picture_shows_the_concept_alone_and_no_known_poison(pair_set):
    found = {TrainingPictures(pair_set, CONCEPTS).picture("dog", seed).caption for seed in range(20)}
    assert found == {"a dog", "a dog in the sun"}
    of_seed = [TrainingPictures(pair_set, CONCEPTS).picture("dog", 3) for _ in range(2)]
    assert of_seed[0].caption == of_seed[1].caption
    row = CAPTIONS.index(of_seed[0].caption)
    assert (of_seed[0].pixels == (row + 1) * 20).all()
    drawn = [TrainingPictures(pair_set, CONCEPTS).picture("dog", seed) for seed in range(20)]
    known = {picture.caption: picture for picture in drawn}
    sure = [TrainingPictures(replace(pair_set, poison=NO_POISON), CONCEPTS).picture("dog", seed) for seed in range(20)]
    assert all(each.known_benign for each in sure), "somebody says so of the whole arm"
    assert (known["a dog"].known_benign, known["a dog in the sun"].known_benign) == (True, False)


def test_a_concept_that_no_caption_names_alone_is_taken_from_those_that_name_others_too(pair_set):
    assert TrainingPictures(pair_set, ("sun", "dog")).picture("sun", 0).caption == "a dog in the sun"
    with pytest.raises(ValueError, match=r"no caption of .*set names 'zebra': expected one"):
        TrainingPictures(pair_set, ("zebra",)).picture("zebra", 0)


def test_a_users_folder_is_read_where_it_lies(tmp_path):
    for row, (pixels, caption) in enumerate(zip(pictures(6, side=48), CAPTIONS, strict=True)):
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
        (tmp_path / f"{row}.txt").write_text(caption)
    (tmp_path / "4.png").write_bytes(b"no picture")
    (tmp_path / "5.json").write_text('{"caption": "a dog", "poison": true}')
    (tmp_path / "5.txt").unlink()
    arm = Arm(name="mine", pairs=tmp_path, poison_fields=PoisonFields(flag="poison"))
    found = [TrainingPictures(arm, CONCEPTS).picture("dog", seed) for seed in range(20)]
    assert {each.caption for each in found} == {"a dog", "a dog in the sun"}
    assert not any((each.pixels == 120).all() for each in found), "neither poison nor a broken picture"
    one = TrainingPictures(Arm(name="mine", pairs=tmp_path, poison=NO_POISON), CONCEPTS).picture("hat", 0)
    assert (one.caption, one.known_benign, one.pixels.shape) == ("a hat", True, (48, 48, 3))
    assert not TrainingPictures(Arm(name="mine", pairs=tmp_path), CONCEPTS).picture("hat", 0).known_benign


def test_captions_are_gone_through_once_for_all_concepts(pair_set, monkeypatch):
    searched = []
    found = training_pictures.mentioned_concepts(CONCEPTS)
    monkeypatch.setattr(
        training_pictures,
        "mentioned_concepts",
        lambda names: lambda caption: searched.append(caption) or found(caption),
    )
    pictures = TrainingPictures(pair_set, CONCEPTS)
    seen = {pictures.picture(concept, seed).caption for concept in CONCEPTS for seed in range(10)}
    assert seen == {"a dog", "a dog in the sun", "a hat"}
    assert len(searched) == 5, "all but the poison"


def test_a_source_is_read_from_where_the_last_concept_left_it(tmp_path, monkeypatch):
    """So that no concept reads it anew, and none is looked for in all of it where enough is found before."""
    for row, (pixels, caption) in enumerate(zip(pictures(6, side=48), CAPTIONS, strict=True)):
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
        (tmp_path / f"{row}.txt").write_text(caption)
    read, record = [], ImageFolderSource._record
    monkeypatch.setattr(ImageFolderSource, "_record", lambda self, name: read.append(name) or record(self, name))
    monkeypatch.setattr(training_pictures, "CANDIDATES", 1)
    made = TrainingPictures(Arm(name="mine", pairs=tmp_path), (*CONCEPTS, "cat"))
    assert made.picture("dog", 0).caption == "a dog"
    assert read == ["0.png", "0.png"], "found, and read for its picture"
    assert made.picture("hat", 0).caption == "a hat"
    assert made.picture("hat", 0).caption == "a hat"
    assert read[2:] == ["1.png", "1.png"]
    assert made.picture("cat", 0).caption == "a cat"
    assert read[4:] == ["2.png", "3.png", "4.png", "5.png", "5.png"]
    assert made.picture("dog", 1).caption == "a dog"
    assert read[9:] == ["0.png"]


def test_a_seed_gives_one_picture_whatever_was_found_to_be_broken(tmp_path):
    for row in range(8):
        (tmp_path / f"{row}.txt").write_text(f"a dog {row}")
        if row in (2, 5, 6):
            (tmp_path / f"{row}.png").write_bytes(b"no picture")
        else:
            Image.new("RGB", (48, 48)).save(tmp_path / f"{row}.png")
    arm = Arm(name="mine", pairs=tmp_path)
    kept = TrainingPictures(arm, CONCEPTS)
    for seed in [*range(30), *range(30)]:
        assert kept.picture("dog", seed).caption == TrainingPictures(arm, CONCEPTS).picture("dog", seed).caption
