"""Pictures damaged to a known degree: what a score of their quality is trained and measured on.

A broken picture (:mod:`~explorer.scenarios.broken_pictures`) shows nothing any more; a damaged one shows the same less
well, by a degree from 0, as it was, to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from explorer.scenarios.broken_pictures import PATCHES, WARP, rearranged, warped

DEGREES = (0.25, 0.5, 0.75, 1.0)
BLUR = 1 / 16
"""Standard deviation of the strongest blur, in sides."""
NOISE = 0.4
"""Standard deviation of the strongest noise; pixels are 0 to 1."""
PIXELS = 8
"""Side of the largest cells, in 64ths of the picture's."""
FADED = 0.9
"""Of its contrast, what a picture loses at most."""

Damage = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]


def blurred(images: torch.Tensor, degree: float, generator: torch.Generator) -> torch.Tensor:
    """``images`` ``[n, 3, S, S]`` through a Gaussian of ``degree`` times :data:`BLUR`."""
    from torchvision.transforms.functional import gaussian_blur

    sigma = degree * BLUR * images.shape[-1]
    reach = min(math.ceil(2.5 * sigma), (images.shape[-1] - 1) // 2)
    return gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)


def noisy(images: torch.Tensor, degree: float, generator: torch.Generator) -> torch.Tensor:
    """``images`` plus Gaussian noise, clamped to 0 to 1."""
    return (images + degree * NOISE * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def laid_under(images: torch.Tensor, degree: float, generator: torch.Generator) -> torch.Tensor:
    """Each under the one before it, which at the highest degree is as strong."""
    return (1 - degree / 2) * images + degree / 2 * images.roll(1, dims=0)


def bent(images: torch.Tensor, degree: float, generator: torch.Generator) -> torch.Tensor:
    """Out of shape, at the highest degree as a broken picture is."""
    return warped(images, generator, degree * WARP)


def pixelated(images: torch.Tensor, degree: float, generator: torch.Generator) -> torch.Tensor:
    """In cells of one colour, at the highest degree :data:`PIXELS` 64ths of a side wide."""
    side = images.shape[-1]
    cells = max(1, round(64 / (1 + degree * (PIXELS - 1))))
    coarse = functional.interpolate(images, size=(min(cells, side),) * 2, mode="area")
    return functional.interpolate(coarse, size=(side, side), mode="nearest")


def faded(images: torch.Tensor, degree: float, generator: torch.Generator) -> torch.Tensor:
    """Nearer to middle grey."""
    return images + degree * FADED * (0.5 - images)


def disordered(images: torch.Tensor, degree: float, generator: torch.Generator) -> torch.Tensor:
    """Cut into 16 patches, of which that share changes places with one another."""
    count = round(degree * PATCHES**2)
    moved = torch.rand(len(images), PATCHES**2, generator=generator).argsort(dim=-1)[:, :count]
    order = torch.arange(PATCHES**2).repeat(len(images), 1).scatter(1, moved, moved.roll(1, dims=1))
    return rearranged(images, order)


TRAINED: dict[str, Damage] = {"blurred": blurred, "noisy": noisy, "laid under": laid_under, "bent": bent}
UNSEEN: dict[str, Damage] = {"pixelated": pixelated, "faded": faded, "disordered": disordered}
"""Held back from training: what a score says of a kind of damage that it was not shown."""
