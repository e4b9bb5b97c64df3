"""Pictures of nothing, made of pictures of something: what a classifier's class for broken pictures is trained on.

Ding et al. (2024), Conjecture 4.3, tell two failures apart: a picture of something else (misaligned), and one of
nothing (undefined). A classifier whose every class is a thing names them both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

SHARES = (0.35, 0.65)
"""How much of the first of two pictures stays in a blend."""
PATCHES = 4
"""A shuffled picture is cut into as many a side."""
WARP, WARP_KNOTS = 0.5, 6
"""How far a warped picture's places move, in half sides (standard deviation), at so many places a side."""


def blended(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each of ``[n, 3, S, S]`` laid over another, neither by far the stronger."""
    low, high = SHARES
    share = low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=generator)
    return share * images + (1 - share) * images.roll(1, dims=0)


def shuffled(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each of ``[n, 3, S, S]`` cut into :data:`PATCHES` a side, which change places."""
    return rearranged(images, torch.rand(len(images), PATCHES**2, generator=generator).argsort(dim=-1))


def rearranged(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Each of ``[n, 3, S, S]`` cut into :data:`PATCHES` a side, in this order of them, int64 ``[n, PATCHES^2]``."""
    side = -(-images.shape[-1] // PATCHES)
    even = functional.interpolate(images, size=(side * PATCHES,) * 2, mode="nearest")
    patches = functional.unfold(even, side, stride=side)
    moved = patches.gather(-1, order[:, None].expand_as(patches))
    again = functional.fold(moved, even.shape[-2:], side, stride=side)
    return functional.interpolate(again, size=images.shape[-2:], mode="nearest")


def warped(images: torch.Tensor, generator: torch.Generator, strength: float = WARP) -> torch.Tensor:
    """Each of ``[n, 3, S, S]`` bent by a smooth random field, out of all shape unless ``strength`` is less."""
    knots = torch.randn(len(images), 2, WARP_KNOTS, WARP_KNOTS, generator=generator) * strength
    field = functional.interpolate(knots, size=images.shape[-2:], mode="bicubic", align_corners=True)
    still = functional.affine_grid(torch.eye(2, 3).expand(len(images), 2, 3), images.shape, align_corners=False)
    return functional.grid_sample(images, still + field.movedim(1, -1), padding_mode="reflection", align_corners=False)


def collaged(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each of ``[n, 3, S, S]`` gets three of its quarters from the three pictures before it."""
    half, result = images.shape[-1] // 2, images.clone()
    for by, (rows, columns) in enumerate(((0, 1), (1, 0), (1, 1)), start=1):
        place = (..., slice(rows * half, None if rows else half), slice(columns * half, None if columns else half))
        result[place] = images.roll(by, dims=0)[place]
    return result


TRAINED: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "blended": blended, "shuffled": shuffled, "warped": warped,
}  # fmt: skip
UNSEEN = {"collaged": collaged}
"""Held back from training, so that a classifier can be asked about a kind of breaking that it was not shown."""


def break_pictures(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each of ``[n, 3, S, S]`` broken in one of the ways of :data:`TRAINED`, an equal share each, in turn."""
    return torch.cat([breaking(part, generator) for breaking, part in
                      zip(TRAINED.values(), images.tensor_split(len(TRAINED)), strict=True)])  # fmt: skip
