"""Pictures damaged to a known degree: none at 0, more at every further one, the same again by the same seed."""

import pytest
import torch

from explorer.scenarios.damaged_pictures import DEGREES, TRAINED, UNSEEN, Damage


@pytest.fixture(scope="module")
def images():
    """Six pictures of 64 x 64, smooth blots in each."""
    coarse = torch.rand(6, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear", align_corners=True)


def by(degree, images):
    return Damage(degree=degree, others=images.roll(1, dims=0), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("way", [*TRAINED, *UNSEEN])
def test_damage_grows_with_its_degree(way, images):
    damaging, before = (TRAINED | UNSEEN)[way], images.clone()
    changed = []
    for degree in DEGREES:
        found, again = (damaging(images, by(degree, images)) for _ in range(2))
        assert found.shape == images.shape
        assert torch.equal(found, again)
        assert found.min() >= -1e-5
        assert found.max() <= 1 + 1e-5
        changed.append((found - images).abs().mean().item())
    assert torch.equal(images, before), "what is given stays as it is"
    assert changed[0] > 1e-3
    assert changed == sorted(changed)


def test_the_strongest_damage_is_what_it_says(images):
    faded = UNSEEN["faded"](images, by(1.0, images))
    assert torch.allclose(faded - 0.5, 0.1 * (images - 0.5), atol=1e-6)
    cells = UNSEEN["pixelated"](images, by(1.0, images))
    assert torch.equal(cells[:, :, ::8, ::8].repeat_interleave(8, 2).repeat_interleave(8, 3), cells)
    under = TRAINED["laid under"](images, by(1.0, images))
    assert torch.allclose(under[2], (images[2] + images[1]) / 2)
    small = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    quarter = UNSEEN["disordered"](small, by(0.25, small))
    assert (quarter[0, 0].flatten() != torch.arange(16.0)).sum() == 4, "a quarter of the patches, and none stays"
