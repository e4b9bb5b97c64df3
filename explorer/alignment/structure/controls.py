"""Which control variates lower the error of mean disparities to drawn samples, and by how much (see ``columns.py``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from explorer.alignment.structure.set_statistics import TwinProducts

PILOT_SAMPLES = 1000
"""Drawn samples whose disparities among themselves decide."""
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
    """Share of the variance of |d(i, k)| over k that is left, as the drawn samples among themselves tell it."""
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


def choose_controls(image: torch.Tensor, text: torch.Tensor) -> ControlVariates:
    """Least-squares coefficients within the samples' rows, with the twin where it lowers the error at the same cost.

    As many seconds as the twin takes would pay for more drawn samples, which lower the variance in proportion.

    Args:
        image: `[m, d_image]` the drawn samples' unit rows.
        text: `[m, d_text]`.
    """
    if len(image) < LEAST_PILOT:
        return ControlVariates()
    x, y = image[:PILOT_SAMPLES].double(), text[:PILOT_SAMPLES].double()
    signed = x @ x.T - y @ y.T
    values = torch.stack([signed.abs(), signed, signed.square()])
    values.diagonal(dim1=1, dim2=2).zero_()
    values -= values.sum(dim=2, keepdim=True) / (len(x) - 1)
    values.diagonal(dim1=1, dim2=2).zero_()
    products = torch.einsum("aik,bik->ab", values, values).cpu()
    variance, with_absolute, among = products[0, 0].item(), products[0, 1:], products[1:, 1:]
    if variance <= 0:
        return ControlVariates()
    fits = {}
    for used in (1, 2):
        coefficients = torch.linalg.pinv(among[:used, :used], hermitian=True) @ with_absolute[:used]
        left = 1 - (coefficients @ with_absolute[:used]).item() / variance
        fits[used] = ([*coefficients.tolist(), 0.0][:2], max(left, 0.0))
    widths = (image.shape[1], text.shape[1])
    twin_cost = 1 + twin_operations(1, *widths) / (2 * len(image) * sum(widths))
    (mean, twin), left = fits[2] if fits[2][1] * twin_cost < fits[1][1] else fits[1]
    return ControlVariates(mean=mean, twin=twin, variance_left=left)
