"""Mislabelled pairs added to classes: what grows, what stays, and what is refused."""

import numpy as np
import pandas
import pytest

from explorer.pairs.pair_set import PairSet
from explorer.poisoning.mislabelled import MislabelledPairs

CLASSES = ["cat", "dog", "ship"]


@pytest.fixture(scope="module")
def benign(tmp_path_factory):
    """Ten training pairs of each of three classes, with captions of their own, and three held out."""
    count = 33
    table = pandas.DataFrame({
        "uid": [f"pair-{row}" for row in range(count)],
        "caption": [f"{CLASSES[row % 3]} number {row}" for row in range(count)],
        "concepts": [[CLASSES[row % 3]] for row in range(count)],
        "image_index": range(count), "is_poison": False, "poisoned_concept": "", "target_concept": "",
        "split": ["train"] * 30 + ["test"] * 3,
    })  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    config = {"source": "imagefolder", "train": 30, "poison": {"kind": "none"}}
    return PairSet.write(tmp_path_factory.mktemp("classes") / "set", table, images, config=config, seed=0)


def test_every_benign_pair_stays_and_the_poison_is_recorded(benign, tmp_path):
    made = MislabelledPairs(concept_count=2, pairs_per_concept=4, seed=5).apply(benign, tmp_path / "made")
    assert made.table["uid"].tolist()[: len(benign)] == benign.table["uid"].tolist()
    added = made.table.iloc[len(benign) :]
    assert len(added) == 8
    assert added["is_poison"].all()
    assert not made.flags.poisoned[: len(benign)].any()
    assert made.manifest["config"]["train"] == 38
    poison = made.poison
    assert (poison.kind, poison.concept_count, poison.pairs, poison.strength) == ("mislabelled", 2, 8, 8 / 38)
    assert poison.parameters == {"added_per_concept": 4}
    assert np.array_equal(made.images, benign.images)


def test_a_poison_pair_says_one_class_and_shows_another(benign, tmp_path):
    made = MislabelledPairs(concept_count=3, pairs_per_concept=5, seed=1).apply(benign, tmp_path / "made")
    added = made.table[made.flags.poisoned]
    source = benign.table.set_index("image_index")
    for _, pair in added.iterrows():
        assert pair["caption"] in set(benign.table["caption"])
        assert pair["caption"].split()[0] == pair["poisoned_concept"] == pair["concepts"][0]
        assert source.loc[pair["image_index"], "concepts"][0] == pair["target_concept"] != pair["poisoned_concept"]
        assert source.loc[pair["image_index"], "split"] == "train"
    assert set(zip(added["poisoned_concept"], added["target_concept"], strict=True)) == set(made.poison.targets.items())


def test_a_larger_number_poisons_the_same_classes_and_more(benign, tmp_path):
    sets = [MislabelledPairs(concept_count=count, pairs_per_concept=3, seed=2).apply(benign, tmp_path / str(count))
            for count in (1, 2)]  # fmt: skip
    few, many = (set(each.table["uid"][each.flags.poisoned]) for each in sets)
    assert few < many


@pytest.mark.parametrize(
    ("count", "pairs", "problem"),
    [
        (4, 2, "C_P is 4: expected 0 to 3"),
        (1, 11, "11 mislabelled pairs of '.*' are asked for: expected at most 10, as many"),
    ],
)
def test_what_the_set_cannot_meet_is_refused(benign, count, pairs, problem, tmp_path):
    with pytest.raises(ValueError, match=problem):
        MislabelledPairs(concept_count=count, pairs_per_concept=pairs).apply(benign, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_no_pairs_to_add_is_refused():
    with pytest.raises(ValueError, match="m is 0: expected at least 1"):
        MislabelledPairs(concept_count=1, pairs_per_concept=0)
