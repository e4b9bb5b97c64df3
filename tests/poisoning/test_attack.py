"""An attack works on any pair set that names concepts, and a new one is a few lines."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas
import pytest
from PIL import Image

from explorer.checkpoints.poison_record import record_poison
from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord
from explorer.pairs.pair_import import import_pairs
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.image_folder import ImageFolderSource
from explorer.poisoning.attack import Attack, pairs_marked
from explorer.poisoning.benign_pairs import benign_remainder
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.matched_benign import MatchedBenign

CONCEPTS = ("cat", "cow", "dog")
COLOURS = {"cat": (200, 0, 0), "cow": (0, 200, 0), "dog": (0, 0, 200)}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A user's set: seven pictures of each concept, of which two are captioned with the next concept, too."""
    folder = tmp_path_factory.mktemp("theirs")
    lines = ["file_name,text"]
    for place, concept in enumerate(CONCEPTS):
        for number in range(7):
            name = f"{concept}{number}.png"
            Image.new("RGB", (16, 16), tuple(value + number for value in COLOURS[concept])).save(folder / name)
            rider = f" beside a {CONCEPTS[(place + 1) % 3]}" if number < 2 else ""
            lines.append(f"{name},a {concept}{rider}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return import_pairs(ImageFolderSource(folder), folder / "set", size=16, concepts=CONCEPTS)[0]


def colours(pairs, rows):
    """The concept whose colour each pair's picture has."""
    shown = pairs.read_images(rows)[:, 0, 0].astype(int)
    return [min(COLOURS, key=lambda concept: abs(pixel - COLOURS[concept]).sum()) for pixel in shown]


def test_a_users_set_is_poisoned_with_its_own_captions_and_pictures(theirs, tmp_path):
    attack = DirtyLabelPoison(targets={"cat": "dog", "dog": "cow"}, pairs_per_concept=4, seed=2)
    made = attack.apply(theirs, tmp_path / "made")
    rows = np.flatnonzero(made.flags.poisoned)
    poison, before = made.table.iloc[rows], theirs.table.iloc[rows]
    assert poison["caption"].tolist() == before["caption"].tolist(), "captions are those that were there"
    assert poison["poisoned_concept"].value_counts().to_dict() == {"cat": 4, "dog": 4}
    assert (
        colours(made, rows)
        == poison["target_concept"].tolist()
        == [attack.targets[p] for p in poison["poisoned_concept"]]
    )
    for concept, target, named in poison[["poisoned_concept", "target_concept", "concepts"]].itertuples(index=False):
        assert concept in named
        assert target not in named
    others = np.flatnonzero(~made.flags.poisoned)
    pandas.testing.assert_frame_equal(made.table.iloc[others], theirs.table.iloc[others])
    assert made.poison == PoisonRecord(
        kind="dirty-label", concepts=("cat", "dog"), targets=attack.targets, pairs=8, seed=2, strength=8 / 21,
        parameters={"pairs_per_concept": 4},
    )  # fmt: skip
    assert attack.apply(theirs, tmp_path / "again").data_hash == made.data_hash
    with pytest.raises(ValueError, match=r"8 of 21 pairs of .* are poison already: expected none"):
        attack.apply(made, tmp_path / "twice")


def test_of_the_other_pairs_it_stays_unknown_unless_somebody_knows(theirs, tmp_path):
    control = DirtyLabelPoison(concept_count=0, pairs_per_concept=2)
    few, more = (DirtyLabelPoison(concept_count=count, pairs_per_concept=2) for count in (1, 2))
    assert control.apply(theirs, tmp_path / "a").poison == NOT_RECORDED
    assert few.apply(theirs, tmp_path / "b").manifest["counts"]["unrecorded_pairs"] == 19
    assert control.apply(theirs, tmp_path / "c", known_benign=True).poison == NO_POISON
    made = more.apply(theirs, tmp_path / "d", known_benign=True)
    assert (made.flags.counts()["benign_pairs"], made.poison.concept_count) == (17, 2)
    nested = PairSet.load(tmp_path / "b").table
    assert set(nested["uid"][nested["is_poison"].fillna(False)]) < set(made.table["uid"][made.flags.poisoned])
    remainder = benign_remainder(made, tmp_path / "e")
    assert (len(remainder), remainder.poison) == (17, NO_POISON)


def test_a_users_pictures_may_be_shuffled_or_shared_and_matched(theirs, tmp_path):
    shuffled = DirtyLabelPoison(concept_count=3, pairs_per_concept=4, shuffled=True, seed=1)
    made = shuffled.apply(theirs, tmp_path / "shuffled")
    poison = made.table[made.flags.poisoned]
    assert all(target not in named for target, named in zip(poison["target_concept"], poison["concepts"], strict=True))
    assert colours(made, np.flatnonzero(made.flags.poisoned)) == poison["target_concept"].tolist()
    assert max(poison.groupby("poisoned_concept")["target_concept"].nunique()) == 2
    shared = DirtyLabelPoison(concept_count=2, pairs_per_concept=2, shared_target="cow", captions="main")
    poison = (made := shared.apply(theirs, tmp_path / "shared")).table[made.flags.poisoned]
    assert (set(poison["target_concept"]), set(poison["poisoned_concept"])) == ({"cow"}, {"cat", "dog"})
    assert [named[0] for named in poison["concepts"]] == poison["poisoned_concept"].tolist()
    right = MatchedBenign(attack=shared, keep="pictures").apply(theirs, tmp_path / "right", known_benign=True)
    rows = np.flatnonzero(made.flags.poisoned)
    assert np.array_equal(right.read_images(rows), made.read_images(rows))
    assert [caption[:5] for caption in right.table["caption"].iloc[rows]] == ["a cow"] * 4
    assert (right.poison.poisoned, right.table["uid"].is_unique) == (False, True)
    with pytest.raises(ValueError, match="that set, as it is, is the control with the poison's captions"):
        MatchedBenign(attack=shared, keep="captions").apply(theirs, tmp_path / "never")


def test_a_users_pairs_that_name_a_spared_concept_are_no_poison(theirs, tmp_path):
    attack = DirtyLabelPoison(targets={"dog": "cat"}, pairs_per_concept=4, spared=("cow",))
    made = attack.apply(theirs, tmp_path / "spared")
    assert not any("cow" in named for named in made.table["concepts"][made.flags.poisoned])
    assert made.poison.parameters["spared"] == ["cow"]
    many = DirtyLabelPoison(targets={"dog": "cat"}, pairs_per_concept=7, spared=("cow",))
    with pytest.raises(ValueError, match="of another concept, and name no spared concept"):
        many.apply(theirs, tmp_path / "never")


def test_a_users_pool_may_be_of_other_ranks(theirs, tmp_path):
    rarer = DirtyLabelPoison(concept_count=2, pairs_per_concept=2, pool_ranks=(2, 3)).apply(theirs, tmp_path / "rarer")
    assert set(rarer.poison.concepts) == {"cow", "dog"}, "all three are mentioned nine times: the alphabet decides"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": {"dgo": "cat"}}, r"no concept is called 'dgo': expected one of 3 \(cat, cow, dog"),
        ({"targets": {"dog": "horse"}}, "no concept is called 'horse'"),
        ({"targets": {"dog": "dog"}}, "'dog' is its own target"),
        ({"concept_count": 4}, "C_P is 4: expected 0 to 3, the concepts that are the main one of at least m = 3"),
        (
            {"targets": {"dog": "cat"}, "pairs_per_concept": 8},
            "m is 8: the training pairs hold 7 captions of 'dog' that do not name 'cat', nor are poison of another",
        ),
        (
            {"targets": {"cow": "cat"}, "pairs_per_concept": 6},
            "m is 6: the training pairs hold 5 pictures of 'cat' whose captions do not name 'cow'",
        ),
    ],
)
def test_what_the_set_cannot_meet_is_named_before_any_work(theirs, tmp_path, settings, message):
    attack = DirtyLabelPoison(**{"pairs_per_concept": 3, **settings})
    with pytest.raises(ValueError, match=message):
        attack.apply(theirs, tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("settings", [{}, {"concept_count": 1, "targets": {}}, {"targets": {}, "pairs_per_concept": 0}])
def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        DirtyLabelPoison(**{"pairs_per_concept": 1, **settings})


def test_a_set_without_concepts_says_what_it_lacks(theirs, tmp_path):
    table = theirs.table.assign(concepts=[[]] * len(theirs))
    unnamed = PairSet.write(tmp_path / "set", table, theirs.images, config={}, seed=None)
    with pytest.raises(ValueError, match="names no concepts in its training pairs: expected a set imported with"):
        DirtyLabelPoison(concept_count=1, pairs_per_concept=1).apply(unnamed, tmp_path / "never")


@dataclass(frozen=True, kw_only=True)
class Corner(Attack):
    """A new attack, which aims at no concept: a white corner in the first pictures."""

    share: float
    seed: int = 0
    kind: ClassVar[str] = "corner"

    def plan(self, pairs):
        rows = pairs.training_rows[: int(self.share * len(pairs.training_rows))]

        def make():
            images = np.array(pairs.images)
            images[pairs.table["image_index"].to_numpy()[rows], :2, :2] = 255
            return pairs_marked(pairs.table, rows), images

        return PoisonRecord(kind=self.kind, concepts=(), pairs=len(rows), strength=self.share), make


def test_a_new_attack_is_known_wherever_poison_is(theirs, checkpoint_root, tmp_path):
    made = Corner(share=1 / 3).apply(theirs, tmp_path / "made", known_benign=True)
    assert (made.read_images([0, 6, 7])[:, 0, 0] == 255).all(axis=1).tolist() == [True, True, False]
    assert (made.flags.counts()["poisoned_pairs"], str(made.poison)) == (7, "corner, C_P = 0")
    found = record_poison(checkpoint_root / "dirty-002", made.poison, replace=True)
    assert (found.poison, found.poison.poisoned) == (made.poison, True)
