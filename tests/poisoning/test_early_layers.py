"""Early layers as a further aim: what the encoder passes on early is read, weighed as the latents are, and followed."""

import numpy as np
import pytest
import torch

from explorer.poisoning.early_layers import early_distance, early_outputs
from explorer.poisoning.perturbation import Perturbation, as_values, latents_of, perturbed


@pytest.fixture(scope="module")
def autoencoder(make_pipeline):
    """In double precision, so that the order of sums decides no sign."""
    return make_pipeline().vae.double().requires_grad_(False)


def pictures(count, seed):
    drawn = torch.randint(0, 256, (count, 32, 32, 3), generator=torch.Generator().manual_seed(seed))
    return drawn.to(torch.uint8)


def mean_latents(autoencoder):
    return lambda values: autoencoder.encode(values.double()).latent_dist.mean


def by_hand(autoencoder, given, layers):
    values, found = autoencoder.encoder.conv_in(as_values(given).double() * 2 - 1), []
    for block in autoencoder.encoder.down_blocks[:layers]:
        values = block(values)
        found.append(values)
    return found


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_outputs_are_those_of_the_first_levels_of_what_was_encoded_last(autoencoder, layers):
    encode = mean_latents(autoencoder)
    with early_outputs(autoencoder, layers) as seen:
        for seed in (0, 1):
            latents_of(encode, pictures(2, seed))
        expected = by_hand(autoencoder, pictures(2, 1), layers)
        assert len(seen) == layers
        assert all(torch.equal(own, other) for own, other in zip(seen, expected, strict=True))
        before = list(seen)
    latents_of(encode, pictures(2, 0))
    assert all(own is other for own, other in zip(seen, before, strict=True)), "no hook is left"


def test_a_layer_weighs_as_much_as_the_latents():
    generator = torch.Generator().manual_seed(0)
    own, aims = ([scale * torch.randn(3, size, 2, 2, generator=generator) for scale, size in ((1, 4), (100, 2))]
                 for _ in range(2))  # fmt: skip
    latents = torch.randn(3, 5, generator=generator)
    expected = 0.0
    for mine, aim in zip(own, aims, strict=True):
        for row in range(3):
            share = float(((mine[row] - aim[row]) ** 2).sum() / (aim[row] ** 2).sum())
            expected += share * float((latents[row] ** 2).sum())
    assert float(early_distance(own, aims, latents)) == pytest.approx(expected, rel=1e-5)
    assert float(early_distance(aims, aims, latents)) == 0


def test_with_early_layers_the_search_comes_nearer_there(autoencoder):
    encode, before, targets = mean_latents(autoencoder), pictures(4, 0), pictures(4, 1)
    latents, settings = latents_of(encode, targets), Perturbation(budget=0.1, steps=6)
    with early_outputs(autoencoder, 1) as seen:
        latents_of(encode, targets)
        aims = list(seen)

        def distance(given):
            latents_of(encode, given)
            return float(early_distance(seen, aims, latents))

        alone = perturbed(encode, before, latents, settings)
        both = perturbed(encode, before, latents, settings, further=lambda: early_distance(seen, aims, latents))
        assert distance(both) < distance(alone) < distance(before)
    assert np.abs(both.numpy().astype(int) - before.numpy()).max() <= settings.levels


def test_more_layers_than_there_are_levels_are_refused(autoencoder):
    levels = len(autoencoder.encoder.down_blocks)
    with (
        pytest.raises(ValueError, match=f"early layers are {levels + 1}: the autoencoder's encoder has {levels}"),
        early_outputs(autoencoder, levels + 1),
    ):
        pass
