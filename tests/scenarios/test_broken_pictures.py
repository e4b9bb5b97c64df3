"""Pictures that show nothing any more, and that are made of nothing but what the others show."""

import pytest
import torch

from explorer.scenarios.broken_pictures import TRAINED, UNSEEN, break_pictures


@pytest.fixture
def images():
    """Six flat pictures of 10 x 10, each of its own grey."""
    return torch.arange(1.0, 7).view(6, 1, 1, 1).expand(6, 3, 10, 10).clone()


@pytest.mark.parametrize("way", [*TRAINED, *UNSEEN])
def test_broken_pictures_are_made_of_those_that_there_are(way, images):
    breaking = (TRAINED | UNSEEN)[way]
    broken, again = (breaking(images, torch.Generator().manual_seed(seed)) for seed in (1, 1))
    assert broken.shape == images.shape
    assert torch.equal(broken, again)
    assert broken.min() >= 1 - 1e-4
    assert broken.max() <= 6 + 1e-4
    assert torch.equal(images[:, 0, 0, 0], torch.arange(1.0, 7)), "what is given stays as it is"


def test_a_blend_is_between_two_pictures_and_a_collage_holds_four(images):
    blends = TRAINED["blended"](images, torch.Generator().manual_seed(0))
    for row in range(1, 6):
        assert images[row - 1, 0, 0, 0] + 0.3 < blends[row, 0, 0, 0] < images[row, 0, 0, 0] - 0.3
    corners = UNSEEN["collaged"](images, torch.Generator())[4, 0][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [5, 4, 3, 2]


def test_patches_change_places_and_none_is_lost():
    picture = torch.arange(64.0).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    found = TRAINED["shuffled"](picture, torch.Generator().manual_seed(0))
    assert not torch.equal(found, picture)
    assert torch.equal(found[0, 0].flatten().sort().values, torch.arange(64.0))
    assert torch.equal(found[0, 0], found[0, 2]), "the channels of a patch stay together"


def test_a_warp_bends_what_is_there(images):
    ramp = torch.linspace(0, 1, 32).expand(3, 3, 32, 32)
    found = TRAINED["warped"](ramp, torch.Generator().manual_seed(0))
    assert (found - ramp).abs().mean() > 0.1
    assert (found[:, :, 1:] - found[:, :, :-1]).abs().max() < 0.6, "smoothly"


def test_every_way_gets_its_share(images):
    broken = break_pictures(images, torch.Generator().manual_seed(0))
    assert broken.shape == images.shape
    assert torch.equal(broken[2:4], images[2:4]), "flat pictures: shuffled is the same"
    assert not torch.equal(broken[:2], images[:2])
