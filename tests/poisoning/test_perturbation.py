"""Perturbed pictures come nearer to their targets in latent space and stay within their budget, also once rounded."""

import numpy as np
import pytest
import torch

from explorer.poisoning.perturbation import (
    Perturbation,
    largest_change,
    latent_distance,
    latents_of,
    perturbed,
)
from explorer.poisoning.structural_similarity import K1, K2, structural_similarity


def pictures(count, seed=0, side=32):
    """Noise that reaches both ends of the range."""
    drawn = torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(seed))
    return drawn.mul(3).sub(255).clamp(0, 255).to(torch.uint8)


def encoder(autoencoder):
    """In double precision, so that the order of sums decides no sign."""
    autoencoder = autoencoder.double().requires_grad_(False)
    return lambda values: autoencoder.encode(values.double()).latent_dist.mean


@pytest.mark.parametrize(("budget", "levels"), [(0.04, 10), (0.08, 20), (1 / 255, 1)])
def test_the_budget_holds_after_rounding_and_the_distance_falls(family, budget, levels):
    encode = encoder(family.pipeline.vae)
    before, targets = pictures(2), latents_of(encode, pictures(2, seed=1))
    settings = Perturbation(budget=budget, steps=4)
    after = perturbed(encode, before, targets, settings)
    assert (after.dtype, after.shape, settings.levels) == (torch.uint8, before.shape, levels)
    changes = (after.int() - before.int()).abs()
    assert changes.max() == levels, "all of the budget is used, and no more"
    assert largest_change(after, before).tolist() == [levels / 255] * 2
    distances = [latent_distance(latents_of(encode, each), targets) for each in (before, after)]
    assert (distances[1] < distances[0]).all()


def test_a_batch_is_what_its_pictures_are_one_by_one(make_pipeline):
    encode = encoder(make_pipeline().vae)
    before, targets = pictures(3), latents_of(encode, pictures(3, seed=1))
    settings, seen = Perturbation(steps=3), []
    together = perturbed(encode, before, targets, settings, lambda: seen.append(1))
    alone = [perturbed(encode, before[i : i + 1], targets[i : i + 1], settings) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert len(seen) == 3


def test_restarts_never_leave_a_picture_farther_away(make_pipeline):
    encode = encoder(make_pipeline().vae)
    before, targets = pictures(4), latents_of(encode, pictures(4, seed=1))
    settings = Perturbation(budget=0.1, steps=2, restarts=2)
    starts = [torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (1, 2)]
    seen = []
    found = perturbed(encode, before, targets, settings, lambda: seen.append(1), starts)
    single = perturbed(encode, before, targets, Perturbation(budget=0.1, steps=2))
    distances = [latent_distance(latents_of(encode, each), targets) for each in (found, single)]
    assert (distances[0] <= distances[1]).all()
    assert (distances[0] < distances[1]).any(), "some picture's search began better elsewhere"
    assert largest_change(found, before).max() <= settings.levels / 255
    assert len(seen) == settings.gradients == 6
    with pytest.raises(ValueError, match="1 starts are given: expected 2, one for each restart"):
        perturbed(encode, before, targets, settings, starts=starts[:1])


def test_momentum_adds_what_was_seen_before():
    """A loss whose gradient turns round after the first step of 5 levels: there and back, unless the first gradient
    weighs as much as the second; then the two cancel out, and the picture stays."""
    given = torch.full((1, 8, 8, 3), 128, dtype=torch.uint8)
    target = torch.full((1, 3, 8, 8), 128 / 127.5 - 1 + 0.03)
    found = {}
    for momentum in (0.0, 0.9, 1.0):
        settings = Perturbation(budget=0.1, steps=2, first_step=0.2, last_step=0.2, momentum=momentum)
        found[momentum] = int(perturbed(lambda values: values + 0.0, given, target, settings)[0, 0, 0, 0])
    assert found == {0.0: 128, 0.9: 128, 1.0: 133}


def test_steps_fall_as_in_the_script_or_stay_as_they_are():
    sizes = Perturbation().step_sizes()
    assert (len(sizes), sizes[0]) == (500, 0.04)
    assert sizes[250] == pytest.approx(0.04 * (1 - 0.99 / 2))
    assert Perturbation(steps=3, budget=0.1, first_step=0.5, last_step=0.5).step_sizes() == [0.05] * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0.003}, "budget is 0.003: expected 1/255 to 1"),
        ({"budget": 10.0}, "budget is 10.0"),
        ({"steps": 0}, "steps are 0: expected at least 1"),
        ({"first_step": 0.1, "last_step": 0.2}, "steps of 0.1 to 0.2 of the budget"),
        ({"last_step": 0.0}, "a last one above 0"),
        ({"momentum": -0.1}, "momentum is -0.1: expected 0 to 1"),
        ({"restarts": -1}, "restarts are -1: expected 0 or more"),
        ({"early_layers": -1}, "early layers are -1: expected 0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Perturbation(**settings)


def test_a_network_that_overflows_is_refused():
    with pytest.raises(ValueError, match="latents that are not finite: expected weights and a precision"):
        latents_of(lambda values: values / 0, pictures(1))
    with pytest.raises(ValueError, match="gradients that are not finite: expected weights and a precision"):
        perturbed(lambda values: (values * 0).sqrt(), pictures(1), torch.zeros(1, 3, 32, 32), Perturbation(steps=1))


def test_structural_similarity_is_the_published_one():
    flat = torch.full((1, 16, 16, 3), 100, dtype=torch.uint8)
    brighter = flat + 50
    c1 = (K1 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert structural_similarity(flat, brighter).item() == pytest.approx(expected)
    x, y = (pictures(1, seed, side=11) for seed in (0, 1))
    assert structural_similarity(x, x).item() == pytest.approx(1)
    places = np.arange(11) - 5
    window = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for a, b in zip(x[0].permute(2, 0, 1).double().numpy(), y[0].permute(2, 0, 1).double().numpy(), strict=True):
        a_mean, b_mean = (window * a).sum(), (window * b).sum()
        a_variance, b_variance = (window * (a - a_mean) ** 2).sum(), (window * (b - b_mean) ** 2).sum()
        covariance = (window * (a - a_mean) * (b - b_mean)).sum()
        c2 = (K2 * 255) ** 2
        found.append((2 * a_mean * b_mean + c1) * (2 * covariance + c2)
                     / ((a_mean**2 + b_mean**2 + c1) * (a_variance + b_variance + c2)))  # fmt: skip
    assert structural_similarity(x, y).item() == pytest.approx(np.mean(found))
    with pytest.raises(ValueError, match="expected at least 11 pixels a side"):
        structural_similarity(x[:, :10], y[:, :10])
