"""A training picture of a concept, from a pair set and from what a user has."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
from PIL import Image

from explorer.core.poison_record import NO_POISON
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFields
from explorer.studies.study import Arm
from explorer.studies.training_pictures import training_picture

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
    found = {training_picture(pair_set, "dog", CONCEPTS, seed).caption for seed in range(20)}
    assert found == {"a dog", "a dog in the sun"}
    of_seed = [training_picture(pair_set, "dog", CONCEPTS, 3) for _ in range(2)]
    assert of_seed[0].caption == of_seed[1].caption
    row = CAPTIONS.index(of_seed[0].caption)
    assert (of_seed[0].pixels == (row + 1) * 20).all()
    drawn = [training_picture(pair_set, "dog", CONCEPTS, seed) for seed in range(20)]
    known = {picture.caption: picture for picture in drawn}
    sure = [training_picture(replace(pair_set, poison=NO_POISON), "dog", CONCEPTS, seed) for seed in range(20)]
    assert all(each.known_benign for each in sure), "somebody says so of the whole arm"
    assert (known["a dog"].known_benign, known["a dog in the sun"].known_benign) == (True, False)


def test_a_concept_that_no_caption_names_alone_is_taken_from_those_that_name_others_too(pair_set):
    assert training_picture(pair_set, "sun", ("sun", "dog"), 0).caption == "a dog in the sun"
    with pytest.raises(ValueError, match=r"no caption of .*set names 'zebra': expected one"):
        training_picture(pair_set, "zebra", ("zebra",), 0)


def test_a_users_folder_is_read_where_it_lies(tmp_path):
    for row, (pixels, caption) in enumerate(zip(pictures(6, side=48), CAPTIONS, strict=True)):
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
        (tmp_path / f"{row}.txt").write_text(caption)
    (tmp_path / "4.png").write_bytes(b"no picture")
    (tmp_path / "5.json").write_text('{"caption": "a dog", "poison": true}')
    (tmp_path / "5.txt").unlink()
    arm = Arm(name="mine", pairs=tmp_path, poison_fields=PoisonFields(flag="poison"))
    found = [training_picture(arm, "dog", CONCEPTS, seed) for seed in range(20)]
    assert {each.caption for each in found} == {"a dog", "a dog in the sun"}
    assert not any((each.pixels == 120).all() for each in found), "neither poison nor a broken picture"
    one = training_picture(Arm(name="mine", pairs=tmp_path, poison=NO_POISON), "hat", CONCEPTS, 0)
    assert (one.caption, one.known_benign, one.pixels.shape) == ("a hat", True, (48, 48, 3))
    assert not training_picture(Arm(name="mine", pairs=tmp_path), "hat", CONCEPTS, 0).known_benign
