import numpy as np
import pytest

from explorer.iconworld.icons import STYLES, IconAtlas


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
