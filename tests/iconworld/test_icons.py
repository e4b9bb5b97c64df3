import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from explorer.iconworld.icons import ASSETS, STYLES, IconAtlas, atlas_path, index_path
from explorer.iconworld.world import World, generate_pair_set
from explorer.pairs.pair_set import PairSet


@pytest.fixture(scope="module")
def atlas():
    shipped = IconAtlas.load()
    pixels = {style: shipped.pixels[style][:4] for style in STYLES}
    return IconAtlas(concepts=shipped.concepts[:4], pixels=pixels)


def test_a_sprite_is_made_once_for_each_concept_style_size_and_side(atlas):
    choices = [(1, "noto", 24, False), (2, "noto", 24, False), (1, "fluent", 24, False), (1, "noto", 26, False)]
    colours = [atlas.sprite(*choice)[0] for choice in choices]
    for choice, colour in zip(choices, colours, strict=True):
        assert atlas.sprite(*choice)[0] is colour
        assert colour.shape == (choice[2], choice[2], 3)
    assert not any(np.array_equal(colours[0], other) for other in colours[1:])
    mirrored = atlas.sprite(1, "noto", 24, True)
    for flipped, plain in zip(mirrored, atlas.sprite(1, "noto", 24, False), strict=True):
        assert (flipped == plain[:, ::-1]).all()


def test_sprites_of_another_atlas_are_its_own(atlas):
    before = atlas.sprite(1, "noto", 24, False)[0]
    white = IconAtlas(
        concepts=atlas.concepts, pixels={style: np.full((4, 64, 64, 4), 255, np.uint8) for style in STYLES}
    )
    assert (white.sprite(1, "noto", 24, False)[0] == 1).all()
    assert atlas.sprite(1, "noto", 24, False)[0] is before


def test_a_world_is_drawn_with_an_atlas_of_its_own_and_remembers_which(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(atlas_path(ASSETS, "noto"), atlas_path(other, "line"))
    index = json.loads(index_path(ASSETS).read_text())
    index_path(other).write_text(json.dumps(index | {"sources": {"line": index["sources"]["noto"]}}))
    atlas = IconAtlas.load(other)
    world = replace(World(concept_count=12), atlas=atlas, styles=atlas.styles)
    made = generate_pair_set(world, tmp_path / "set", train=6, seed=3)
    assert set(made.table["style"]) == {"line"}
    same = generate_pair_set(World(concept_count=12, styles=("noto",)), tmp_path / "shipped", train=6, seed=3)
    assert (made.images[:] == same.images[:]).all(), "the same drawings under another name"
    config = PairSet.load(tmp_path / "set").manifest["config"]["world"]
    again = World.from_config(config)
    assert (again.atlas, again.styles, again.config()) == (atlas, ("line",), config)
    with pytest.raises(ValueError, match=r"styles are \('noto',\): expected some of \('line',\)"):
        replace(world, styles=("noto",))
    shutil.rmtree(other)
    IconAtlas.load.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"holds no icons\.json"):
        World.from_config(config)
