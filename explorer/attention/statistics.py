"""Numbers beside a cross-attention map: how scattered it is, where its mass lies, how alike two words are.

Every function takes maps whose last two dimensions are space, with any number of leading dimensions, values
finite and >= 0, and works on whatever device and dtype they have (computed in fp32 at least).
The maps need not be normalised. Paper: on imploded models maps become "scattered random noise", and maps of
different words become alike; the first is ``scatter``, the second ``cosine_overlap``.
"""

from __future__ import annotations

import math

import torch


def scatter(maps: torch.Tensor) -> torch.Tensor:
    """Spatial entropy of each map divided by its maximum ``log(h w)``: 0 = one position, 1 = uniform.

    Args:
        maps: ``[..., h, w]``, more than one position each.

    Returns:
        ``[...]`` in ``[0, 1]``.

    Raises:
        ValueError: if a map has one position only, no mass, or a negative or non-finite value.
    """
    flat = _distributions(maps)
    if flat.shape[-1] < 2:
        raise ValueError(f"maps of shape {tuple(maps.shape)} have one position: expected at least two")
    return (torch.special.entr(flat).sum(-1) / math.log(flat.shape[-1])).clamp(0, 1)


def scatter_where_read(maps: torch.Tensor) -> list[float | None]:
    """``scatter`` of each map of ``[n, h, w]``; None for a word that no position reads (fp16 may round it away)."""
    return [float(scatter(each)) if bool(each.sum() > 0) else None for each in maps]


def gearys_c(maps: torch.Tensor) -> torch.Tensor:
    """Geary's C (Geary, 1954) of each map: near 0 for a smooth blob, 1 for scattered random noise, above 1 for a grid.

    The mean squared difference of positions that share an edge over twice the variance. It sees what entropy does not:
    the same values are noise in one order and a blob in another.

    Args:
        maps: ``[..., h, w]``, at least two positions a side.

    Returns:
        ``[...]``, at least 0; a constant map has no order and scores 1.

    Raises:
        ValueError: if a side has one position only, or a map has no mass, or a negative or non-finite value.
    """
    height, width = maps.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(f"maps of shape {tuple(maps.shape)} have one position a side: expected at least two")
    flat = _distributions(maps).double()
    deviations = (flat - flat.mean(-1, keepdim=True)).unflatten(-1, (height, width))
    squares = deviations.diff(dim=-1).square().sum((-2, -1)) + deviations.diff(dim=-2).square().sum((-2, -1))
    edges = height * (width - 1) + width * (height - 1)
    variance = deviations.square().sum((-2, -1)) / (height * width - 1)
    # Below this a map is constant to the rounding of its dtype.
    constant = variance <= (1e-6 / (height * width)) ** 2
    ratio = squares / (2 * edges * variance.clamp_min(torch.finfo(torch.float64).tiny))
    return torch.where(constant, 1.0, ratio).to(_float_type(maps))


def mass_in_mask(maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Fraction of each map's mass that lies within a mask.

    Args:
        maps: ``[..., h, w]``.
        mask: ``[..., h, w]`` in ``[0, 1]`` (bool, or coverage per position), broadcast over leading
            dimensions.

    Returns:
        ``[...]`` in ``[0, 1]``; a uniform map scores the mask's share of the area.
    """
    if mask.shape[-2:] != maps.shape[-2:]:
        raise ValueError(f"mask is {tuple(mask.shape[-2:])}: expected the maps' {tuple(maps.shape[-2:])}")
    weights = mask.flatten(-2).to(device=maps.device, dtype=_float_type(maps))
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        raise ValueError("mask holds values outside [0, 1]: expected coverage per position")
    return (_distributions(maps) * weights).sum(-1)


def overlap_with_mask(maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Intersection over union of a mask and as many of each map's highest positions: 1 is the object and no more.

    A position is the mask's where that covers at least half of it. Positions equal to the last one that counts all do,
    so that a uniform map has the whole picture, and scores the mask's share of the area.

    Args:
        maps: ``[..., h, w]``.
        mask: ``[..., h, w]`` in ``[0, 1]`` (bool, or coverage per position), each with at least one position,
            broadcast over leading dimensions.

    Returns:
        ``[...]`` in ``[0, 1]``.

    Raises:
        ValueError: if shapes differ, or a mask has no position.
    """
    if mask.shape[-2:] != maps.shape[-2:]:
        raise ValueError(f"mask is {tuple(mask.shape[-2:])}: expected the maps' {tuple(maps.shape[-2:])}")
    inside = mask.flatten(-2).to(maps.device, torch.float32) >= 0.5
    sizes = inside.sum(-1, keepdim=True)
    if bool((sizes == 0).any()):
        raise ValueError("the mask has no position: expected an object")
    flat = maps.flatten(-2)
    descending = flat.sort(dim=-1, descending=True).values
    last = descending.gather(-1, (sizes - 1).broadcast_to(*flat.shape[:-1], 1))
    highest = flat >= last
    return (highest & inside).sum(-1) / (highest | inside).sum(-1)


def cosine_overlap(maps: torch.Tensor) -> torch.Tensor:
    """Cosine between the maps of every two words: 1 = same shape, 0 = no position shared.

    Args:
        maps: ``[..., W, h, w]``.

    Returns:
        ``[..., W, W]`` in ``[0, 1]``, symmetric, ones on the diagonal.
    """
    unit = torch.nn.functional.normalize(_distributions(maps), dim=-1, eps=0)
    return (unit @ unit.mT).clamp(0, 1)


def column_mass(maps: torch.Tensor) -> torch.Tensor:
    """Attention each column (words, start, end with padding) receives, averaged over the positions.

    Args:
        maps: ``[..., W, h, w]`` attention probabilities.

    Returns:
        ``[..., W]``; sums to one where the maps' columns do.
    """
    return maps.to(_float_type(maps)).mean((-2, -1))


def _distributions(maps: torch.Tensor) -> torch.Tensor:
    """``[..., h, w]`` as distributions over positions ``[..., h * w]``."""
    if maps.ndim < 2:
        raise ValueError(f"maps have shape {tuple(maps.shape)}: expected [..., h, w]")
    flat = maps.flatten(-2).to(_float_type(maps))
    total = flat.sum(-1, keepdim=True)
    if not bool(torch.isfinite(total).all()) or bool((flat < 0).any()):
        raise ValueError("maps hold negative or non-finite values: expected attention probabilities")
    if bool((total == 0).any()):
        raise ValueError("a map has no mass: its shape is undefined")
    return flat / total


def _float_type(maps: torch.Tensor) -> torch.dtype:
    return torch.promote_types(maps.dtype, torch.float32)
