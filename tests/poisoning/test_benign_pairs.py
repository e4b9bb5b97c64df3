"""A set cut from another keeps its poison, and the same benign pairs whatever else is poison."""

import numpy as np
import pandas
import pytest
from PIL import Image

from explorer.core.provenance import read_manifest
from explorer.pairs.pair_import import import_pairs
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.image_folder import ImageFolderSource
from explorer.poisoning.benign_pairs import benign_remainder, fewer_benign
from explorer.poisoning.dirty_label import DirtyLabelPoison

CONCEPTS = ("cat", "cow", "dog")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A user's set of which nobody recorded the poison: ten pictures of each concept, each of a colour of its own."""
    folder = tmp_path_factory.mktemp("theirs")
    lines = ["file_name,text"]
    for place, concept in enumerate(CONCEPTS):
        for number in range(10):
            Image.new("RGB", (16, 16), (80 * place, 20 * number, 0)).save(folder / f"{concept}{number}.png")
            lines.append(f"{concept}{number}.png,a {concept}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return import_pairs(ImageFolderSource(folder), folder / "set", size=16, concepts=CONCEPTS)[0]


@pytest.fixture(scope="module")
def sets(theirs, tmp_path_factory):
    """The control and two sets of one and of two poisoned concepts, whose poison is nested."""
    folder = tmp_path_factory.mktemp("sets")
    return {
        count: DirtyLabelPoison(concept_count=count, pairs_per_concept=4, seed=3).apply(
            theirs, folder / str(count), known_benign=True
        )
        for count in (0, 1, 2)
    }


def benign_uids(pairs):
    return set(pairs.table["uid"][pairs.flags.benign])


def test_the_poison_stays_and_its_share_is_said(sets, tmp_path):
    made = fewer_benign(sets[2], tmp_path / "made", benign_pairs=4, seed=7)
    assert made.flags.counts()["poisoned_pairs"] == 8
    assert (len(made), made.poison.pairs, made.poison.strength) == (12, 8, 8 / 12)
    assert (made.poison.kind, made.poison.targets) == ("dirty-label", sets[2].poison.targets)
    before = sets[2].table.set_index("uid")
    for uid, picture in zip(made.table["uid"], made.read_images(), strict=True):
        assert np.array_equal(picture, sets[2].images[before.loc[uid, "image_index"]]), "with the picture that it had"
    config = read_manifest(made.folder)["config"]
    assert config["fewer_benign"] == {"of": sets[2].data_hash, "benign_pairs": 4, "seed": 7}


def test_which_benign_pairs_stay_does_not_hang_on_what_else_is_poison(sets, tmp_path):
    control, one = (fewer_benign(sets[count], tmp_path / str(count), benign_pairs=12, seed=7) for count in (0, 1))
    assert (control.poison.poisoned, len(control)) == (False, 12)
    # What the control keeps and the poisoned set cannot, since it is poison there, others take the place of.
    assert benign_uids(control) & benign_uids(sets[1]) < benign_uids(one)
    other = fewer_benign(sets[0], tmp_path / "other", benign_pairs=12, seed=8)
    assert benign_uids(other) != benign_uids(control)
    again = fewer_benign(sets[0], tmp_path / "again", benign_pairs=12, seed=7)
    assert again.data_hash == control.data_hash


def test_pairs_that_no_model_is_trained_on_all_stay(sets, tmp_path):
    table = sets[1].table.copy()
    held_out = np.flatnonzero(sets[1].flags.benign)[:5]
    table.loc[table.index[held_out], "split"] = "test"
    split = PairSet.write(tmp_path / "split", table, sets[1].images, config=sets[1].manifest["config"], seed=3)
    made = fewer_benign(split, tmp_path / "made", benign_pairs=6, seed=0)
    assert made.table["split"].value_counts().to_dict() == {"train": 10, "test": 5}
    assert made.poison.strength == 4 / 10


def test_what_cannot_be_met_is_refused_and_writes_nothing(theirs, sets, tmp_path):
    with pytest.raises(ValueError, match=r"23 benign training pairs are to stay of 22 in"):
        fewer_benign(sets[2], tmp_path / "made", benign_pairs=23, seed=0)
    with pytest.raises(ValueError, match="0 benign training pairs are to stay"):
        fewer_benign(sets[2], tmp_path / "made", benign_pairs=0, seed=0)
    with pytest.raises(ValueError, match="of whose pairs 30 are not recorded"):
        fewer_benign(theirs, tmp_path / "made", benign_pairs=3, seed=0)
    assert not (tmp_path / "made").exists()


def test_the_remainder_is_the_benign_pairs_alone(sets, tmp_path):
    made = benign_remainder(sets[2], tmp_path / "made")
    assert benign_uids(made) == set(made.table["uid"]) == benign_uids(sets[2])
    pandas.testing.assert_series_equal(
        made.table["caption"], sets[2].table["caption"][sets[2].flags.benign].reset_index(drop=True)
    )
    with pytest.raises(ValueError, match=r"0 of 30 pairs of .* are poison, 0 not recorded"):
        benign_remainder(sets[0], tmp_path / "none")
