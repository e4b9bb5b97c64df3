"""Structure AD of what a filter leaves, exact: of any kept set, and for every rank of many scores from one pass.

With S the sum of |D_img - D_txt| over all ordered pairs of samples and R the removed ones, what remains is ``S' = S - 2
sum_{i in R} rowsum_i + S_RR``, over N'^2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from explorer.alignment.structure.distance import convention_scale
from explorer.alignment.structure.tiles import (
    TorchTiles,
    choose_block,
    choose_precision,
    exact_products,
    structure_row_sums,
    upper_tiles,
)
from explorer.core.progress import OnProgress, counted, unheard


def kept_structure_ad(
    image: torch.Tensor, text: torch.Tensor, row_sums: torch.Tensor, kept: np.ndarray, convention: str = "authors"
) -> float:
    """Structure AD of the kept pairs among themselves; NaN where none is kept.

    Exact, through tiles over the smaller of what is kept and what is removed.

    Args:
        image: `[N, d]` unit image features of all pairs.
        text: `[N, d]` their text features.
        row_sums: fp64 `[N]`, N times every pair's structure distance D_s.
        kept: bool `[N]`.
        convention: of the structure distance, as ``row_sums`` has it.
    """
    left = int(kept.sum())
    if not left:
        return float("nan")
    chosen = torch.from_numpy(np.flatnonzero(kept if left <= len(kept) // 2 else ~kept))
    inner = 0.0
    if len(chosen):
        inner = structure_row_sums(image[chosen], text[chosen], convention=convention).sum().item()
    if left > len(kept) // 2:
        inner += row_sums.sum().item() - 2 * row_sums[chosen].sum().item()
    return inner / left**2


def kept_structure_curves(
    image: torch.Tensor,
    text: torch.Tensor,
    orders: Mapping[str, np.ndarray],
    *,
    convention: str = "authors",
    block: int | None = None,
    on_progress: OnProgress = unheard,
) -> dict[str, np.ndarray]:
    """Structure AD of what remains after the k first of every order, for each k.

    One pass over the N^2/2 tiles serves all orders: a disparity of two pairs counts until the first of them is removed,
    so that every pair gathers its disparities to those that are removed after it. Memory is one tile and a few numbers
    a pair and order.

    Args:
        image: `[N, d]` unit image features; the pass is made where they lie.
        text: `[N, d]` unit text features, on the same device.
        orders: name to places of pairs in the order of their removal, int `[n]` with n <= N: those that it leaves out
            are never removed.
        convention: of the structure distance.
        block: samples on a tile's side; None chooses one.
        on_progress: told of the tiles.

    Returns:
        Name to fp64 `[n + 1]`: at k what remains without the k first; NaN where nothing remains.
    """
    n, scale = len(image), convention_scale(convention)
    block = choose_block(image.device, n) if block is None else block
    # Whoever is not in an order stands behind it, at places of its own.
    places = [_places(order, n) for order in orders.values()]
    later = torch.zeros(len(orders), n, dtype=torch.float64, device=image.device)
    with exact_products(image.device):
        tiles = TorchTiles(image, text, precision=choose_precision(image, text, None), block=block)
        behind = torch.empty_like(tiles.buffers[0])
        # As numbers of the tiles' own type, beside the tiles: fp32 is exact up to 2^24 pairs.
        held = [torch.from_numpy(place).to(behind) for place in places]
        for rows, columns in counted(upper_tiles(n, block), on_progress, "alignment of what remains", "tile"):
            tile = tiles.product(rows, columns).abs_()
            if rows == columns:
                tile.fill_diagonal_(0)
            _add_tile(tile, behind[: tile.numel()].view(tile.shape), held, later, rows, columns)
    curves = {}
    for name, order, place, sums in zip(orders, orders.values(), places, later.cpu(), strict=True):
        curves[name] = _curve(sums.numpy()[np.argsort(place)], len(order)) * scale
    return curves


def _add_tile(
    tile: torch.Tensor,
    behind: torch.Tensor,
    places: list[torch.Tensor],
    later: torch.Tensor,
    rows: slice,
    columns: slice,
) -> None:
    """Give every pair its disparities to pairs of a later place, order by order; ``behind`` is written over."""
    ones = tile.new_ones(max(tile.shape))
    for place, sums in zip(places, later, strict=True):
        # Places into a buffer of the tile's own type, and sums as products: ten times as fast as a mask.
        torch.lt(place[rows, None], place[columns], out=behind)
        behind.mul_(tile)
        sums[rows] += behind @ ones[: tile.shape[1]]
        if rows != columns:
            # The others, and not the column's sum less these: what is left of nearly all is little.
            sums[columns] += ones[: tile.shape[0]] @ torch.sub(tile, behind, out=behind)


def _places(order: np.ndarray, n: int) -> np.ndarray:
    """Where each of N pairs stands in an order."""
    whole = np.concatenate([order, np.setdiff1d(np.arange(n), order)])
    places = np.empty(n, np.int64)
    places[whole] = np.arange(n)
    return places


def _curve(later: np.ndarray, removable: int) -> np.ndarray:
    """From each place's disparities to later places, fp64 `[N]`, to what remains at 0..removable."""
    n = len(later)
    remaining = 2 * np.append(np.cumsum(later[::-1])[::-1], 0.0)[: removable + 1]
    left = (n - np.arange(removable + 1)).astype(np.float64)
    return np.divide(remaining, left**2, out=np.full(removable + 1, np.nan), where=left > 0)
