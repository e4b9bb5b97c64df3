import numpy as np
import pytest
import torch

from explorer.attention.maps import AttentionCube, AttentionGroup

COLUMNS = ("a", "dog", "[start]", "[end]")


def make_group(layers, size, heads=3, steps=5, images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(steps, len(layers), images, heads, len(COLUMNS), *size, generator=generator)
    return AttentionGroup(layers=layers, probabilities=scores.softmax(4).half())


@pytest.fixture
def cube():
    fine, coarse = make_group(("down.0", "up.0"), (16, 16)), make_group(("down.1",), (8, 8), heads=2)
    return AttentionCube(groups=(fine, coarse), columns=COLUMNS)


def test_default_map_is_the_mean_over_layers_heads_and_steps(cube):
    expected = cube.groups[0].probabilities[:, :, 1].float().mean((0, 1, 2))
    assert torch.allclose(cube.maps(image=1), expected, atol=1e-6)
    assert torch.equal(cube.map(1, image=1), cube.maps(image=1)[1])
    assert (cube.maps().sum(0) - 1).abs().max() < 1e-3


def test_selection_of_step_layer_and_head(cube):
    fine, coarse = (group.probabilities.float() for group in cube.groups)
    assert torch.equal(cube.map(1, step=2, layer=1, head=0), fine[2, 1, 0, 0, 1])
    assert torch.equal(cube.map(1, step=-1, layer="up.0", head=2), fine[4, 1, 0, 2, 1])
    assert torch.allclose(cube.map(0, step=slice(1, 3), layer=0), fine[1:3, 0, 0].mean((0, 1))[0])
    assert torch.equal(cube.map(0, step=0, layer="down.1", head=1), coarse[0, 0, 0, 1, 0])
    assert torch.allclose(cube.map(0, resolution=(8, 8)), coarse[:, 0, 0].mean((0, 1))[0])


def test_a_concept_of_two_words_is_their_sum(cube):
    assert torch.allclose(cube.map([0, 1]), cube.map(0) + cube.map(1))


def test_upsampling_happens_once_after_averaging(cube):
    expected = torch.nn.functional.interpolate(cube.map(1)[None, None], size=(64, 48), mode="bilinear")[0, 0]
    assert torch.equal(cube.map(1, (64, 48)), expected)


def test_default_resolution_is_nearest_to_16_by_16():
    def default(*sizes):
        groups = tuple(make_group((str(size),), size, heads=1, steps=1) for size in sizes)
        return AttentionCube(groups=groups, columns=COLUMNS).default_resolution

    assert default((32, 32), (16, 16), (8, 8)) == (16, 16)
    assert default((48, 32), (24, 16), (12, 8)) == (24, 16)
    assert default((8, 8), (4, 4)) == (8, 8)


def test_layers_of_one_resolution_with_different_heads_are_averaged_by_layer():
    groups = make_group(("a",), (4, 4), heads=1), make_group(("b",), (4, 4), heads=3, seed=1)
    cube = AttentionCube(groups=groups, columns=COLUMNS)
    expected = sum(group.probabilities[:, 0, 0].float().mean((0, 1)) for group in groups) / 2
    assert torch.allclose(cube.maps(), expected, atol=1e-6)
    assert cube.quantised(heads=False).layers == ("a", "b")
    with pytest.raises(ValueError, match="differ in their number of heads"):
        cube.quantised()
    with pytest.raises(ValueError, match="head 2 does not exist: expected 0 to 0"):
        cube.maps(head=2)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"step": 5}, "step 5 does not exist: expected 0 to 4"),
        ({"step": slice(5, 9)}, "selects none of the 5 steps"),
        ({"layer": 2}, "layer 2 does not exist: expected 0 to 1"),
        ({"layer": "mid"}, "layer 'mid' was not captured"),
        ({"layer": "down.1", "resolution": (16, 16)}, r"has resolution \(8, 8\): expected \(16, 16\)"),
        ({"head": 3}, "head 3 does not exist"),
        ({"image": 2}, "image 2 does not exist"),
        ({"resolution": (32, 32)}, r"no layer has resolution \(32, 32\)"),
    ],
)
def test_what_does_not_exist_is_named(cube, selection, message):
    with pytest.raises(ValueError, match=message):
        cube.map(0, **selection)


def test_unknown_word_index_is_named(cube):
    with pytest.raises(ValueError, match="word 4 does not exist"):
        cube.map(4)
    with pytest.raises(ValueError, match="no word index given"):
        cube.map([])


def test_quantised_holds_every_selection_within_half_a_unit(cube):
    small = cube.quantised()
    assert small.values.shape == (6, 3, 4, 4, 16, 16)
    assert small.values.dtype == np.uint8
    for step, layer, head in [(None, None, None), (2, None, None), (0, 1, 2), (None, 0, None), (4, None, 1)]:
        index = tuple(0 if value is None else value + 1 for value in (step, layer, head))
        found = small.values[index][1] * small.scales[index][1]
        expected = cube.map(1, step=step, layer=layer, head=head).numpy()
        assert np.abs(found - expected).max() <= small.scales[index][1] / 2 + 1e-7
    assert cube.quantised(heads=False, resolution=(8, 8)).values.shape == (6, 2, 1, 4, 8, 8)


def test_a_cube_knows_its_sizes(cube):
    assert (cube.steps, cube.images, cube.resolutions) == (5, 2, ((16, 16), (8, 8)))
