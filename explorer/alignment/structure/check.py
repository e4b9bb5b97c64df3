"""Check computed structure distances against the definition, in fp64, on a random sample of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from explorer.alignment.structure.distance import FeatureRows, check_same_rows, convention_scale, row_slices

TOLERANCES = {"fp64": 1e-11, "fp32": 2e-6, "fp16": 4e-4}
"""Largest deviation of a D_s that rounding at each precision explains; a lost tile is orders of magnitude off."""

CHECKED_ROWS = 8
_ENTRIES_AT_ONCE = 2**20


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """Computed D_s of some rows against the same rows from the definition."""

    rows: tuple[int, ...]
    """Rows that were checked."""
    largest_deviation: float
    """Largest absolute difference of a computed D_s from its fp64 value."""
    tolerance: float
    """What rounding explains."""

    @property
    def passed(self) -> bool:
        """Whether every checked row is within the tolerance."""
        return self.largest_deviation <= self.tolerance

    def report(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "self_check_rows": list(self.rows),
            "self_check_deviation": self.largest_deviation,
            "self_check_tolerance": self.tolerance,
        }


def check_against_fp64(
    image: FeatureRows,
    text: FeatureRows,
    rows: torch.Tensor,
    distances: torch.Tensor,
    *,
    precision: str,
    convention: str = "authors",
    seed: int = 0,
    count: int = CHECKED_ROWS,
) -> SelfCheck:
    """Recompute D_s of ``count`` of ``rows`` from its definition, unrounded rows and fp64 throughout.

    Args:
        image: `[N, d_image]` unit rows, as they were given.
        text: `[N, d_text]` unit rows.
        rows: `[m]` rows whose D_s was computed exactly: all of them, or those an estimator drew.
        distances: `[m]` their computed D_s.
        precision: what they were computed at; decides the tolerance.
        seed: decides which rows are checked.
    """
    check_same_rows(image, text)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(rows), generator=generator)[:count].sort().values
    numbers = rows[chosen].cpu()
    found = fp64_distances(image, text, numbers, convention=convention)
    deviation = (found - distances[chosen].cpu()).abs().max().item()
    return SelfCheck(rows=tuple(numbers.tolist()), largest_deviation=deviation, tolerance=TOLERANCES[precision])


def fp64_distances(
    image: FeatureRows, text: FeatureRows, rows: torch.Tensor, *, convention: str = "authors"
) -> torch.Tensor:
    """D_s of ``rows`` as Eq. 4 says: both cosines of every pair, their difference, its mean. `[m]` fp64 on the CPU."""
    rows = rows.to(image.device)
    sums = torch.zeros(len(rows), dtype=torch.float64, device=image.device)
    step = max(1, _ENTRIES_AT_ONCE // max(image.shape[1], text.shape[1]))
    own_image, own_text = image[rows].double(), text[rows].double()
    for others in row_slices(len(image), step):
        disparity = (own_image @ image[others].double().T - own_text @ text[others].double().T).abs_()
        inside = (rows >= others.start) & (rows < others.stop)
        disparity[inside, rows[inside] - others.start] = 0
        sums += disparity.sum(dim=1)
    return (convention_scale(convention) * sums / len(image)).cpu()
