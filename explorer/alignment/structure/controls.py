"""Which control variates lower the error of mean disparities to drawn samples, and by how much (see ``columns.py``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from explorer.alignment.structure.set_statistics import TwinProducts

PILOT_SAMPLES = 1000
"""Drawn samples whose disparities among themselves decide."""
WORTH_WHILE = 0.9
"""Share of the variance, times the cost, above which nothing is gained but the noise of the coefficients."""
LEAST_PILOT = 8
"""With fewer, coefficients would be fitted to noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlVariates:
    """Coefficients of the control variates, the same for all samples."""

    mean: float = 0.0
    """Of d(i, k)."""
    twin: float = 0.0
    """Of d(i, k)^2; 0 where the squared twin is not worth its cost."""
    variance_left: float = 1.0
    """Share that is left of the variance of |d(i, k)| over k or of its column means, whichever is larger, as the drawn
    samples among themselves tell it."""
    products: TwinProducts | None = None
    """Of the set; needed where ``twin`` is not 0."""

    def with_products(self, products: TwinProducts | None) -> ControlVariates:
        """The same with the set's products."""
        return replace(self, products=products)

    def residuals(self, signed: torch.Tensor, absolute: torch.Tensor) -> torch.Tensor:
        """``|d| - a d - b d^2``, entry by entry."""
        if not self.mean and not self.twin:
            return absolute
        left = torch.add(absolute, signed, alpha=-self.mean)
        return left.addcmul_(signed, signed, value=-self.twin) if self.twin else left

    def known(self, x: torch.Tensor, y: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """`[n]` fp64 exact mean over all k of what ``residuals`` takes away, of rows `[n, d]`."""
        known = self.mean * offsets
        return known + self.twin * self.products.means(x, y).double() if self.twin else known

    def bound(self, largest: float) -> float:
        """A bound on every residual of disparities up to ``largest``."""
        return largest * (1 + abs(self.mean) + abs(self.twin) * largest)

    def report(self) -> dict[str, Any]:
        """JSON-serialisable."""
        names = [name for name in ("mean", "twin") if getattr(self, name)]
        return {"control_variates": names, "variance_left": self.variance_left}


def twin_operations(n: int, image_width: int, text_width: int) -> int:
    """Multiplications and additions of the squared twin: in each of two passes, every row meets three products."""
    return 4 * n * (image_width**2 + text_width**2 + image_width * text_width)


def choose_controls(image: torch.Tensor, text: torch.Tensor, *, twin: bool = True) -> ControlVariates:
    """Least-squares coefficients within the samples' rows, of those variates that lower the error at the same cost.

    As many seconds as the twin takes would pay for more drawn samples, which lower the variance in proportion. The
    error meant is the larger of two: that of one sample's D_s, and that of structure AD, the mean over the columns.

    Args:
        image: `[m, d_image]` the drawn samples' unit rows.
        text: `[m, d_text]`.
        twin: False leaves the twin out whatever it is worth.
    """
    if len(image) < LEAST_PILOT:
        return ControlVariates()
    x, y = image[:PILOT_SAMPLES].double(), text[:PILOT_SAMPLES].double()
    signed = x @ x.T - y @ y.T
    values = torch.stack([signed.abs(), signed, signed.square()])
    values.diagonal(dim1=1, dim2=2).zero_()
    between = torch.cov(values.mean(dim=1)).cpu()
    values -= values.sum(dim=2, keepdim=True) / (len(x) - 1)
    values.diagonal(dim1=1, dim2=2).zero_()
    within = torch.einsum("aik,bik->ab", values, values).cpu()
    widths = (image.shape[1], text.shape[1])
    twin_cost = 1 + twin_operations(1, *widths) / (2 * len(image) * sum(widths))
    best, least = ControlVariates(), WORTH_WHILE
    for used in ([1], [2], [1, 2]) if twin else ([1],):
        fitted = _fitted(within, between, used)
        cost = fitted.variance_left * (twin_cost if fitted.twin else 1)
        if cost < least:
            best, least = fitted, cost
    return best


def _fitted(within: torch.Tensor, between: torch.Tensor, used: list[int]) -> ControlVariates:
    """Coefficients of the variates ``used``; moments `[3, 3]` of |d|, d, d^2 within rows and between columns."""
    if not min(within[0, 0], between[0, 0]) > 0:
        return ControlVariates()
    solved = torch.linalg.pinv(within[used][:, used], hermitian=True) @ within[used, 0]
    weights = torch.zeros(3, dtype=within.dtype)
    weights[0], weights[used] = 1.0, -solved
    left = max((weights @ moments @ weights / moments[0, 0]).item() for moments in (within, between))
    return ControlVariates(mean=-weights[1].item() + 0.0, twin=-weights[2].item() + 0.0, variance_left=max(left, 0.0))
