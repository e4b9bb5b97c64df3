"""Classes of which every pair is mislabelled: what stays, what goes with the picture, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas
import pytest

from explorer.iconworld.world import World, generate_pair_set
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.relabelled import RelabelledClasses

CLASSES = ["cat", "dog", "ship"]
SIZES = (9, 4, 7)


@pytest.fixture(scope="module")
def benign(tmp_path_factory):
    """Classes of three sizes, with captions of their own, one pair of no class, and one held out."""
    names = [name for name, size in zip(CLASSES, SIZES, strict=True) for _ in range(size)]
    count = len(names) + 2
    table = pandas.DataFrame({
        "uid": [f"pair-{row}" for row in range(count)],
        "caption": [f"{name} number {row}" for row, name in enumerate([*names, "nothing", "cat"])],
        "concepts": [*([name] for name in names), [], ["cat"]],
        "image_index": range(count), "is_poison": False, "poisoned_concept": "", "target_concept": "",
        "split": ["train"] * (count - 1) + ["test"],
    })  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    config = {"source": "imagefolder", "train": count - 1, "poison": {"kind": "none"}}
    return PairSet.write(tmp_path_factory.mktemp("classes") / "set", table, images, config=config, seed=0)


def test_nothing_true_is_left_of_a_poisoned_class_and_the_rest_is_as_it_was(benign, tmp_path):
    made = RelabelledClasses(concept_count=2, seed=3).apply(benign, tmp_path / "made")
    poison, size = made.poison, dict(zip(CLASSES, SIZES, strict=True))
    assert (poison.kind, poison.concept_count) == ("relabelled", 2)
    assert poison.pairs == sum(size[name] for name in poison.names)
    assert poison.strength == poison.pairs / 21
    for column in ("uid", "caption", "split"):
        assert made.table[column].tolist() == benign.table[column].tolist()
    own = benign.table["concepts"].str[0]
    for row, pair in made.table.iterrows():
        aimed = pair["split"] == "train" and own[row] in poison.targets
        assert bool(pair["is_poison"]) == aimed
        assert own[pair["image_index"]] == (poison.targets[own[row]] if aimed else own[row]) or not len(
            pair["concepts"]
        )
    for name, target in poison.targets.items():
        shown = made.table["image_index"][made.table["poisoned_concept"] == name].value_counts()
        assert shown.max() - (shown.min() if len(shown) == size[target] else 0) <= 1, "each as often as any other"
        assert benign.table["split"][shown.index].eq("train").all()
    assert np.array_equal(made.images, benign.images)


def test_a_larger_number_poisons_the_same_classes_with_the_same_pictures_and_more(benign, tmp_path):
    few, many = (
        RelabelledClasses(concept_count=count, seed=2).apply(benign, tmp_path / str(count)) for count in (1, 3)
    )
    (name,) = few.poison.names
    rows = few.flags.poisoned
    assert many.poison.targets[name] == few.poison.targets[name]
    assert many.table["image_index"][rows].tolist() == few.table["image_index"][rows].tolist()
    assert set(many.poison.names) == set(CLASSES)


def test_the_scene_of_a_painted_picture_goes_with_it(tmp_path):
    world = replace(World(concept_count=6), caption_shares=(1.0, 0.0, 0.0, 0.0, 0.0))
    benign = generate_pair_set(world, tmp_path / "benign", train=60, seed=1)
    made = RelabelledClasses(concept_count=6).apply(benign, tmp_path / "made")
    shown = made.table["scene"].map(lambda scene: json.loads(scene)["objects"][0]["concept"])
    assert shown.tolist() == made.table["target_concept"].tolist()
    assert (shown != made.table["concepts"].str[0]).all()
    assert made.poison.strength == 1


def test_what_the_set_cannot_meet_is_refused(benign, tmp_path):
    with pytest.raises(ValueError, match="C_P is 4: expected 0 to 3, the number of classes"):
        RelabelledClasses(concept_count=4).apply(benign, tmp_path / "made")
    with pytest.raises(ValueError, match="C_P is -1"):
        RelabelledClasses(concept_count=-1)
    assert not (tmp_path / "made").exists()
    assert RelabelledClasses(concept_count=0).plan(benign)[0].kind == "none"
