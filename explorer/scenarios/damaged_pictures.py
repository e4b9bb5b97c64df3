"""Pictures damaged to a known degree: what a score of their quality is trained and measured on.

A broken picture (:mod:`~explorer.scenarios.broken_pictures`) shows nothing any more; a damaged one shows the same less
well, by a degree from 0, as it was, to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from explorer.scenarios.broken_pictures import PATCHES, WARP, rearranged, warped

DEGREES = (0.25, 0.5, 0.75, 1.0)
BLUR = 1 / 16
"""Standard deviation of the strongest blur, in sides."""
NOISE = 0.4
"""Standard deviation of the strongest noise; pixels are 0 to 1."""
CELL = 8
"""Side of the largest cells, in pixels of a picture of 64."""
FADED = 0.9
"""Of its contrast, what a picture loses at most."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """To what degree pictures are damaged, and with what."""

    degree: float
    """From 0, as they were, to 1."""
    others: torch.Tensor
    """For every picture another, to lay over it: ``[n, 3, S, S]``."""
    generator: torch.Generator


Damaging = Callable[[torch.Tensor, Damage], torch.Tensor]
"""From pictures ``[n, 3, S, S]`` in 0 to 1 to damaged ones."""


def blurred(images: torch.Tensor, by: Damage) -> torch.Tensor:
    """Through a Gaussian of ``degree`` times :data:`BLUR`, in one direction after the other."""
    from torchvision.transforms.functional import gaussian_blur

    sigma = by.degree * BLUR * images.shape[-1]
    size = 2 * min(math.ceil(2.5 * sigma), (images.shape[-1] - 1) // 2) + 1
    return gaussian_blur(gaussian_blur(images, [size, 1], [sigma] * 2), [1, size], [sigma] * 2)


def noisy(images: torch.Tensor, by: Damage) -> torch.Tensor:
    """With Gaussian noise, clamped to 0 to 1."""
    return (images + by.degree * NOISE * torch.randn(images.shape, generator=by.generator)).clamp(0, 1)


def laid_under(images: torch.Tensor, by: Damage) -> torch.Tensor:
    """Under another, which at the highest degree is as strong."""
    return (1 - by.degree / 2) * images + by.degree / 2 * by.others


def bent(images: torch.Tensor, by: Damage) -> torch.Tensor:
    """Out of shape, at the highest degree as a broken picture is."""
    return warped(images, by.generator, by.degree * WARP)


def pixelated(images: torch.Tensor, by: Damage) -> torch.Tensor:
    """In cells of one colour, at the highest degree :data:`CELL` times as wide as a pixel of 64 a side."""
    side = images.shape[-1]
    cells = max(1, round(min(side, 64) / (1 + by.degree * (CELL - 1))))
    coarse = functional.interpolate(images, size=(cells, cells), mode="area")
    return functional.interpolate(coarse, size=(side, side), mode="nearest")


def faded(images: torch.Tensor, by: Damage) -> torch.Tensor:
    """Nearer to middle grey."""
    return images + by.degree * FADED * (0.5 - images)


def disordered(images: torch.Tensor, by: Damage) -> torch.Tensor:
    """Cut into 16 patches, of which that share changes places with one another."""
    count = round(by.degree * PATCHES**2)
    moved = torch.rand(len(images), PATCHES**2, generator=by.generator).argsort(dim=-1)[:, :count]
    order = torch.arange(PATCHES**2).repeat(len(images), 1).scatter(1, moved, moved.roll(1, dims=1))
    return rearranged(images, order)


TRAINED: dict[str, Damaging] = {"blurred": blurred, "noisy": noisy, "laid under": laid_under, "bent": bent}
UNSEEN: dict[str, Damaging] = {"pixelated": pixelated, "faded": faded, "disordered": disordered}
"""Held back from training: what a score says of a kind of damage that it was not shown."""
