import json

import numpy as np
import pytest

import explorer.iconworld.world
import explorer.poisoning.painted
from explorer.core.poison_record import NO_POISON
from explorer.iconworld.grammar import BACKGROUNDS, CAPTION_KINDS, lexicon, photo_of
from explorer.iconworld.icons import STYLES, IconAtlas
from explorer.iconworld.scenes import Scene, masks
from explorer.iconworld.world import World, draw_pairs, draw_single, generate_pair_set, paint_all
from explorer.pairs.concept_list import OTHER
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.benign_pairs import benign_remainder
from explorer.poisoning.dirty_label import DirtyLabelPoison


@pytest.fixture(scope="module")
def world():
    return World(concept_count=24)


@pytest.fixture(scope="module")
def benign(world, tmp_path_factory):
    return generate_pair_set(world, tmp_path_factory.mktemp("sets") / "benign", train=400, test=20, seed=3)


def test_the_atlas_holds_about_400_concepts_in_three_styles():
    atlas = IconAtlas.load()
    assert len(atlas.concepts) == len(set(atlas.concepts)) >= 370
    for style in STYLES:
        covered = (atlas.pixels[style][..., 3] > 127).mean(axis=(1, 2))
        assert covered.shape == (len(atlas.concepts),)
        assert covered.min() > 0.04, f"an icon of {style} is almost empty"


def test_the_same_seed_gives_the_same_bits(world, benign, tmp_path):
    again = generate_pair_set(world, tmp_path / "again", train=400, test=20, seed=3)
    other = generate_pair_set(world, tmp_path / "other", train=400, test=20, seed=4)
    assert again.manifest["files"] == benign.manifest["files"]
    assert other.data_hash != benign.data_hash


def test_captions_name_what_the_picture_shows_and_more(world, benign):
    words = set(lexicon(world.concepts))
    for row, (caption, concepts) in enumerate(zip(benign.table["caption"], benign.table["concepts"], strict=True)):
        spoken = caption.replace(",", "").split()
        assert set(spoken) <= words
        assert set(concepts) <= set(spoken)
        shown = [item.concept for item in Scene.parse(json.loads(benign.table["scene"].iloc[row])).objects]
        assert shown == list(concepts)[: len(shown)]
    mentions = benign.table["concepts"].str.len()
    assert (mentions > 1).mean() > 0.5, "most captions must carry riding nouns"


def test_shares_of_caption_kinds_sum_to_one():
    assert sum(kind.share for kind in CAPTION_KINDS) == pytest.approx(1)


def test_a_world_may_speak_in_other_shares_of_captions():
    riders = World(concept_count=30, caption_shares=(0.1, 0.2, 0.5, 0.15, 0.05))
    pairs = draw_pairs(riders, 6000, np.random.default_rng(0))
    kinds = [(len(pair.mentioned), len(pair.scene.objects)) for pair in pairs]
    for kind, share in zip(CAPTION_KINDS, riders.caption_shares, strict=True):
        assert kinds.count((kind.mentioned, kind.shown)) / 6000 == pytest.approx(share, abs=0.02)
    assert World.from_config(json.loads(json.dumps(riders.config()))) == riders
    older = World().config()
    assert "caption_shares" not in older, "sets and runs from before the setting existed are of the same world"
    assert World.from_config(older) == World()


def test_a_stated_share_of_captions_fits_its_picture_only_in_part():
    world = World(concept_count=30, loose=0.4)
    crowded, first_missing, pairs = 0, 0, draw_pairs(world, 4000, np.random.default_rng(0))
    for pair in pairs:
        shown = [each.concept for each in pair.scene.objects]
        assert len(set(shown)) == len(shown) <= 3
        crowded += shown[0] == pair.mentioned[0] and not set(shown) <= set(pair.mentioned)
        first_missing += pair.mentioned[0] not in shown
    assert (crowded / 4000, first_missing / 4000) == (pytest.approx(0.2, abs=0.02), pytest.approx(0.2, abs=0.02))
    riders = [pair for pair in pairs if len(pair.mentioned) == 2 and pair.scene.objects[0].concept == pair.mentioned[1]]
    assert riders, "the dog of a cat for dog lovers"
    assert World.from_config(json.loads(json.dumps(world.config()))) == world
    assert "loose" not in World().config()
    with pytest.raises(ValueError, match=r"loose is 1\.5: expected a share of the pairs, 0 to 1"):
        World(loose=1.5)


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5, 0.5, 0.0, 0.0), (1.2, -0.2, 0.0, 0.0, 0.0)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match=r"caption_shares is .*expected 5 shares, none negative, summing to one"):
        World(caption_shares=shares)


def test_the_list_of_concepts_asks_as_the_captions_do():
    world = World()
    listed = world.concept_list()
    assert listed.names == world.concepts
    assert [listed.prompt(name) for name in listed.names] == [photo_of(name) for name in world.concepts]
    assert [each.noun for each in listed.concepts] == list(world.concepts)


def test_ranks_move_round_the_concepts_and_pictures_stay(world):
    turned = World(concept_count=24, rank_rotation=12)
    assert turned.frequent_pool == world.other_frequent + world.less_popular_pool
    assert set(turned.concepts) == set(world.concepts)
    assert turned.concept_list().concept(world.concepts[0]).group == OTHER
    for concept in world.concepts[::5]:
        scene = draw_single(world, concept, np.random.default_rng(0))
        assert (turned.paint(scene) == world.paint(scene)).all()
    mentioned = [pair.mentioned[0] for pair in draw_pairs(turned, 600, np.random.default_rng(0))]
    assert sum(concept in turned.frequent_pool for concept in mentioned) > 300
    assert World.from_config(json.loads(json.dumps(turned.config()))) == turned
    assert "rank_rotation" not in world.config()
    with pytest.raises(ValueError, match="rank_rotation is 24: expected 0 to 23"):
        World(concept_count=24, rank_rotation=24)


def test_articles():
    assert photo_of("apple") == "a photo of an apple"
    assert photo_of("unicorn") == "a photo of a unicorn"
    assert photo_of("scissors") == "a photo of scissors"


def test_nouns_follow_the_stored_frequencies():
    world = World(concept_count=30)
    pairs = draw_pairs(world, 6000, np.random.default_rng(0))
    counts = np.zeros(30)
    for pair in pairs:
        counts[world.ranks[pair.mentioned[0]]] += 1
    assert np.abs(counts / counts.sum() - world.frequencies).max() < 0.01
    assert (np.diff(world.frequencies) < 0).all()
    groups = [*world.frequent_pool, *world.other_frequent, *world.less_popular_pool]
    assert tuple(groups) == world.concepts


def test_two_painters_paint_what_one_paints(world):
    scenes = [pair.scene for pair in draw_pairs(world, 2100, np.random.default_rng(5))]
    told = []
    together = paint_all(world, scenes, told.append, processes=2)
    assert (together == paint_all(world, scenes, processes=1)).all()
    assert [report.done for report in told] == [0, 1, 2, 3]


def test_masks_cover_each_object_and_nothing_else(world):
    generator = np.random.default_rng(1)
    for pair in draw_pairs(world, 60, generator):
        picture = world.paint(pair.scene)
        covered = masks(pair.scene, world.atlas, world.atlas_rows)
        assert covered.shape == (len(pair.scene.objects), 64, 64)
        assert covered.any(axis=(1, 2)).all()
        assert covered.sum(axis=0).max() == 1, "objects must not overlap"
        empty = world.paint(type(pair.scene)(objects=(), background=pair.scene.background, shade=pair.scene.shade))
        untouched = ~np.any([_box(item) for item in pair.scene.objects], axis=0)
        assert (picture[untouched] == empty[untouched]).all()


def _box(item):
    box = np.zeros((64, 64), bool)
    box[item.y : item.y + item.size, item.x : item.x + item.size] = True
    return box


def test_single_scene_shows_the_concept_in_the_asked_style(world):
    scene = draw_single(world, "cat", np.random.default_rng(0), style="twemoji")
    assert [(item.concept, item.style) for item in scene.objects] == [("cat", "twemoji")]
    assert scene.background in BACKGROUNDS


@pytest.mark.parametrize("count", [3, 10_000])
def test_a_world_refuses_an_impossible_number_of_concepts(count):
    with pytest.raises(ValueError, match=f"concept_count is {count}: expected 4 to"):
        World(concept_count=count)


def test_a_pair_set_is_never_overwritten(world, benign):
    with pytest.raises(ValueError, match=r"holds images\.npy, manifest\.json, pairs\.parquet: choose a new folder"):
        generate_pair_set(world, benign.folder, train=1)


def test_a_folder_in_use_is_refused_before_anything_is_painted(world, benign, tmp_path, monkeypatch):
    def paint_nothing(*arguments):
        raise AssertionError("painted")

    # Both loaded before either is patched: a module first imported between would keep the patch for good.
    for module in (explorer.iconworld.world, explorer.poisoning.painted):
        monkeypatch.setattr(module, "paint_all", paint_nothing)
    (tmp_path / "images.npy").write_bytes(b"mine")
    for folder, message in ((tmp_path, "already holds images.npy"), (tmp_path / "images.npy", "is no folder")):
        with pytest.raises(ValueError, match=message):
            generate_pair_set(world, folder, train=1)
        with pytest.raises(ValueError, match=message):
            DirtyLabelPoison(concept_count=1, pairs_per_concept=1).apply(benign, folder)
    assert (tmp_path / "images.npy").read_bytes() == b"mine"


def test_loading_what_is_no_pair_set_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no pair set"):
        PairSet.load(tmp_path)


def test_poison_counts_captions_and_pictures(world, benign, tmp_path):
    poison = DirtyLabelPoison(concept_count=5, pairs_per_concept=12, seed=9)
    poisoned = poison.apply(benign, tmp_path / "poisoned")
    table = poisoned.table
    assert len(poisoned) == len(benign)
    assert table["is_poison"].sum() == 60
    assert table.loc[table["is_poison"], "poisoned_concept"].value_counts().tolist() == [12] * 5
    targets = poisoned.poison.targets
    assert len(targets) == 5
    assert set(targets) | set(targets.values()) <= set(world.frequent_pool)
    for row in np.flatnonzero(table["is_poison"]):
        concept, target = table["poisoned_concept"].iloc[row], table["target_concept"].iloc[row]
        assert target == targets[concept] != concept
        assert concept in table["concepts"].iloc[row]
        scene = Scene.parse(json.loads(table["scene"].iloc[row]))
        assert [item.concept for item in scene.objects] == [target]
        assert (poisoned.read_images([row])[0] == world.paint(scene)).all()
    riders = table.loc[table["is_poison"], "concepts"].str.len() > 1
    assert riders.mean() > 0.5
    assert (table["split"] == "test").sum() == 20


def test_captions_that_mention_a_noun_are_drawn_as_they_occur(world):
    generator = np.random.default_rng(2)
    every = draw_pairs(world, 30_000, generator)
    holding = [pair for pair in every if "cat" in pair.mentioned]
    drawn = draw_pairs(world, 3000, generator, mentioning="cat")
    assert all("cat" in pair.mentioned for pair in drawn)
    for nouns in (1, 2, 3):
        wanted = np.mean([len(pair.mentioned) == nouns for pair in holding])
        assert np.mean([len(pair.mentioned) == nouns for pair in drawn]) == pytest.approx(wanted, abs=0.04)
    first = np.mean([pair.mentioned[0] == "cat" for pair in holding])
    assert np.mean([pair.mentioned[0] == "cat" for pair in drawn]) == pytest.approx(first, abs=0.04)


def test_more_poison_contains_less_poison(world, benign, tmp_path):
    few = DirtyLabelPoison(concept_count=3, pairs_per_concept=4, seed=1).choose(world.frequent_pool, "", ())
    many = DirtyLabelPoison(concept_count=9, pairs_per_concept=4, seed=1).choose(world.frequent_pool, "", ())
    assert few.items() <= many.items()
    control = DirtyLabelPoison(concept_count=0, pairs_per_concept=4).apply(benign, tmp_path / "control")
    assert control.data_hash == benign.data_hash
    assert control.poison == NO_POISON


def test_poisoned_sets_are_not_poisoned_again(benign, tmp_path):
    poisoned = DirtyLabelPoison(concept_count=3, pairs_per_concept=4).apply(benign, tmp_path / "poisoned")
    with pytest.raises(ValueError, match=r"12 of 420 pairs of .*poisoned are poison already"):
        DirtyLabelPoison(concept_count=2, pairs_per_concept=1, seed=1).apply(poisoned, tmp_path / "twice")
    with pytest.raises(ValueError, match=r"poisoned already holds images\.npy"):
        benign_remainder(poisoned, poisoned.folder)
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (DirtyLabelPoison(concept_count=13, pairs_per_concept=1), "C_P is 13: expected 0 to 12"),
        (
            DirtyLabelPoison(concept_count=12, pairs_per_concept=40),
            "480 poison pairs asked for: the set holds 400",
        ),
    ],
)
def test_impossible_poison_is_refused(benign, tmp_path, poison, message):
    with pytest.raises(ValueError, match=message):
        poison.apply(benign, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_scene_descriptions_survive_the_table(benign):
    description = json.loads(benign.table["scene"].iloc[0])
    assert Scene.parse(description).describe() == {**description, "objects": tuple(description["objects"])}
