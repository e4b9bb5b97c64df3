"""Check computed structure distances against the definition, in fp64, on a random sample of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from explorer.alignment.structure.distance import FeatureRows, check_same_rows, convention_scale, row_slices
from explorer.alignment.structure.fixed_point import FixedPointSums
from explorer.core.share import ALONE, Share

if TYPE_CHECKING:
    from explorer.alignment.structure.plan import StructurePlan

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

    def refuse_failed(self, plan: StructurePlan) -> None:
        """Refuse a check that was not passed by what ``plan`` computed.

        Raises:
            ArithmeticError: naming rows, deviation, tolerance and what was computed with.
        """
        if not self.passed:
            raise ArithmeticError(
                f"D_s of rows {list(self.rows)} is off by {self.largest_deviation:.3g} at precision {plan.precision} "
                f"on {plan.device} with kernel {plan.kernel}: rounding explains {self.tolerance:.3g}"
            )

    def report(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "self_check_rows": list(self.rows),
            "self_check_deviation": self.largest_deviation,
            "self_check_tolerance": self.tolerance,
        }


class RowCheck:
    """D_s of a few rows from its definition, unrounded rows and fp64 throughout, as all rows come by in blocks."""

    def __init__(self, image: FeatureRows, text: FeatureRows, rows: torch.Tensor) -> None:
        """``rows`` are int64 `[c]`, different ones in 0..N-1."""
        self.n, self.rows = len(image), rows.to(image.device)
        self.own_image, self.own_text = image[self.rows].double(), text[self.rows].double()
        self.sums = FixedPointSums(len(rows), 4.1 * self.n, image.device)

    def add(self, others: slice, image: torch.Tensor, text: torch.Tensor) -> None:
        """Count the disparities to the rows ``others``, which are `image` and `text`."""
        disparity = (self.own_image @ image.double().T - self.own_text @ text.double().T).abs_()
        inside = (self.rows >= others.start) & (self.rows < others.stop)
        disparity[inside, self.rows[inside] - others.start] = 0
        self.sums.add(slice(None), disparity.sum(dim=1))

    def distances(self, convention: str, share: Share = ALONE) -> torch.Tensor:
        """`[c]` fp64 on the CPU, once all rows were counted by all workers."""
        return convention_scale(convention) * self.sums.value(share) / self.n


def checked_positions(rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Positions in ``rows`` `[m]` of those to check, at most ``CHECKED_ROWS``, ascending; ``seed`` decides which."""
    return torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:CHECKED_ROWS].sort().values


def check_against_fp64(
    image: FeatureRows,
    text: FeatureRows,
    rows: torch.Tensor,
    distances: torch.Tensor,
    *,
    precision: str,
    convention: str = "authors",
    seed: int = 0,
) -> SelfCheck:
    """Recompute D_s of ``CHECKED_ROWS`` of ``rows`` from its definition, unrounded rows and fp64 throughout.

    Args:
        image: `[N, d_image]` unit rows, as they were given.
        text: `[N, d_text]` unit rows.
        rows: `[m]` rows whose D_s was computed exactly: all of them, or those an estimator drew.
        distances: `[m]` their computed D_s.
        precision: what they were computed at; decides the tolerance.
        seed: decides which rows are checked.
    """
    check_same_rows(image, text)
    chosen = checked_positions(rows, seed)
    numbers = rows[chosen].cpu()
    found = fp64_distances(image, text, numbers, convention=convention)
    deviation = (found - distances[chosen].cpu()).abs().max().item()
    return SelfCheck(rows=tuple(numbers.tolist()), largest_deviation=deviation, tolerance=TOLERANCES[precision])


def fp64_distances(
    image: FeatureRows, text: FeatureRows, rows: torch.Tensor, *, convention: str = "authors"
) -> torch.Tensor:
    """D_s of ``rows`` as Eq. 4 says: both cosines of every pair, their difference, its mean. `[m]` fp64 on the CPU."""
    check = RowCheck(image, text, rows)
    for others in row_slices(len(image), max(1, _ENTRIES_AT_ONCE // max(image.shape[1], text.shape[1]))):
        check.add(others, image[others], text[others])
    return check.distances(convention)
