"""Sums in 64-bit fixed point: no order of adding, and no number of workers, changes a bit of them."""

from __future__ import annotations

import math

import torch

from explorer.core.share import ALONE, Share


class FixedPointSums:
    """`[n]` running sums in 64-bit fixed point: exact to add, in any order.

    The unit is 2^-62 of the largest magnitude that a sum can have, finer than what fp64 resolves of such a sum.
    """

    def __init__(self, n: int, largest: float, device: torch.device) -> None:
        self.units = torch.zeros(n, dtype=torch.int64, device=device)
        self.scale = 2.0 ** (62 - math.ceil(math.log2(max(largest, 1.0))))

    def add(self, rows: slice, terms: torch.Tensor) -> None:
        """Add ``terms``, one for each of ``rows``."""
        self.units[rows] += (terms.double() * self.scale).round_().long()

    def value(self, share: Share = ALONE) -> torch.Tensor:
        """`[n]` fp64 on the CPU, over all workers."""
        return (share.total(self.units).double() / self.scale).cpu()
