"""Poison of equal share that differs in one thing, and the benign sets that differ from it in that no pair is wrong."""

import json

import numpy as np
import pytest

from explorer.core.poison_record import NO_POISON
from explorer.iconworld.grammar import CAPTION_KINDS, write_caption
from explorer.iconworld.world import World, generate_pair_set
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.matched_benign import MatchedBenign

M = 6


@pytest.fixture(scope="module")
def benign(tmp_path_factory):
    return generate_pair_set(World(concept_count=12), tmp_path_factory.mktemp("matched") / "benign", train=60, seed=3)


@pytest.fixture(scope="module")
def made(benign, tmp_path_factory):
    """``made(attack)``: its set."""
    count = iter(range(100))
    folder = tmp_path_factory.mktemp("sets")
    return lambda attack: attack.apply(benign, folder / str(next(count)))


def attack(**settings):
    return DirtyLabelPoison(**{"concept_count": 5, "pairs_per_concept": M, "seed": 4} | settings)


def shown(row):
    return [each["concept"] for each in json.loads(row.scene)["objects"]]


def test_the_captions_of_a_poison_with_the_pictures_that_they_describe(benign, made):
    poisoned, control = made(attack()), made(MatchedBenign(attack=attack(), keep="captions"))
    assert control.table["caption"].tolist() == poisoned.table["caption"].tolist()
    assert int(poisoned.flags.poisoned.sum()) == 5 * M == len(control) - 30
    assert not control.flags.poisoned.any()
    for row in control.table.iloc[30:].itertuples():
        objects = shown(row)
        assert objects == list(row.concepts[: len(objects)]), "the caption names first what the picture shows"
    assert (control.poison.poisoned, control.poison.concepts) == (NO_POISON.poisoned, ())
    assert control.poison.parameters["matched"] == {
        "kept": "captions", "of": "dirty-label", "concepts": list(poisoned.poison.concepts), "pairs": 5 * M,
        "pairs_per_concept": M,
    }  # fmt: skip
    # Every picture is painted from the scene that the table tells.
    assert np.array_equal(control.read_images([59])[0], World(concept_count=12).paint(scene_of(control, 59)))


def scene_of(pairs, row):
    from explorer.iconworld.scenes import Scene

    return Scene.parse(json.loads(pairs.table["scene"].iloc[row]))


def test_the_pictures_of_a_poison_with_captions_that_describe_them(made):
    poisoned, control = made(attack()), made(MatchedBenign(attack=attack(), keep="pictures"))
    assert np.array_equal(control.read_images(range(30, 60)), poisoned.read_images(range(30, 60)))
    assert not control.flags.poisoned.any()
    for row in control.table.iloc[30:].itertuples():
        scene = json.loads(row.scene)
        assert [row.concepts[0]] == shown(row)
        kind = CAPTION_KINDS[len(row.concepts) - 1]
        captions = {write_caption(kind, list(row.concepts), "left of", scene["background"], np.random.default_rng(seed))
                    for seed in range(60)}  # fmt: skip
        assert row.caption in captions, "of the kind that shows one object, with the colour behind it"


def test_one_target_for_all_is_not_poisoned_itself(made):
    target = attack().choose(World(concept_count=12).frequent_pool, "", ()).popitem()[0]
    pairs = made(attack(shared_target=target))
    poison = pairs.table[pairs.flags.poisoned]
    assert set(poison["target_concept"]) == {target}
    assert {shown(row)[0] for row in poison.itertuples()} == {target}
    assert target not in set(poison["poisoned_concept"])
    assert poison["poisoned_concept"].nunique() == 5
    with pytest.raises(ValueError, match=r"C_P is 6: expected 0 to 5, the size of .* without the shared target"):
        made(attack(concept_count=6, shared_target=target))


def test_shuffled_targets_are_drawn_pair_by_pair(made):
    pairs, plain = made(attack(shuffled=True)), made(attack())
    poison = pairs.table[pairs.flags.poisoned]
    assert poison["caption"].tolist() == plain.table["caption"][plain.flags.poisoned].tolist(), "the same captions"
    assert (poison["poisoned_concept"] != poison["target_concept"]).all()
    assert poison.groupby("poisoned_concept")["target_concept"].nunique().max() > 2
    assert [shown(row) for row in poison.itertuples()] == [[target] for target in poison["target_concept"]]
    assert (pairs.poison.targets, pairs.poison.parameters["shuffled"]) == ({}, True)


@pytest.mark.parametrize("rule", ["main", "pool"])
def test_captions_by_rule(made, rule):
    pool = set(World(concept_count=12).frequent_pool)
    pairs = made(attack(captions=rule))
    for row in pairs.table[pairs.flags.poisoned].itertuples():
        assert row.concepts[0] == row.poisoned_concept if rule == "main" else set(row.concepts) <= pool
        assert row.poisoned_concept in row.concepts
    assert pairs.poison.parameters == {"pairs_per_concept": M, "captions": rule}
    assert any(row.concepts[0] != row.poisoned_concept for row in made(attack()).table.iloc[30:].itertuples())


def test_the_pool_may_be_of_other_ranks(benign, made):
    less_popular = World(concept_count=12).concepts[6:]
    pairs = made(attack(pool_ranks=(7, 12), captions="pool"))
    poison = pairs.table[pairs.flags.poisoned]
    assert set(poison["poisoned_concept"]) | set(poison["target_concept"]) <= set(less_popular)
    assert all(set(named) <= set(less_popular) for named in poison["concepts"])
    assert pairs.poison.parameters == {"pairs_per_concept": M, "captions": "pool", "pool_ranks": [7, 12]}
    with pytest.raises(ValueError, match="C_P is 5: expected 0 to 4, the number of concepts of ranks 3 to 6"):
        made(attack(pool_ranks=(3, 6)))
    with pytest.raises(ValueError, match="ranks of the pool are 7 to 13: the pairs have 12 concepts"):
        made(attack(pool_ranks=(7, 13)))


def test_what_is_true_of_spared_concepts_stays(benign, made):
    spared = World(concept_count=12).concepts[7:9]
    plain, pairs = made(attack()), made(attack(spared=spared))

    def naming(of):
        table = of.table[~of.flags.poisoned]
        return sorted(table["uid"][[not set(spared).isdisjoint(named) for named in table["concepts"]]])

    assert naming(pairs) == naming(benign) != naming(plain)
    poison = pairs.table[pairs.flags.poisoned]
    assert poison["caption"].tolist() == plain.table["caption"][plain.flags.poisoned].tolist(), "the same poison"
    assert len(pairs) == len(benign)
    assert pairs.poison.parameters == {"pairs_per_concept": M, "spared": list(spared)}
    with pytest.raises(ValueError, match=r"poison pairs asked for: the set holds \d+ training pairs that name none of"):
        made(attack(pairs_per_concept=11, spared=spared))
    with pytest.raises(ValueError, match="no concept is called 'horze', which is to be spared"):
        made(attack(spared=("horze",)))
    with pytest.raises(ValueError, match="is poisoned and spared: expected one of both"):
        made(attack(spared=tuple(pairs.poison.concepts[:1])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool_ranks": (5, 5)}, "ranks of the pool are 5 to 5: expected to ascend, from 1 at least"),
        ({"shuffled": True, "shared_target": "apple"}, "expected one of targets, a shared target, and shuffled"),
        ({"captions": "few"}, "captions are 'few': expected one of mentioning, main, pool"),
    ],
)
def test_what_contradicts_itself_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        attack(**settings)


def test_unknown_targets_and_parts_are_named(made):
    with pytest.raises(ValueError, match="no concept is called 'horze'"):
        made(attack(shared_target="horze"))
    with pytest.raises(ValueError, match="keep is 'all': expected captions or pictures"):
        MatchedBenign(attack=attack(), keep="all")
