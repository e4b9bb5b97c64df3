"""Disparities of all samples to a few drawn columns, a block of rows at a time; of N numbers, none is held here.

Every sample's disparity to the columns is one product of N x m, and its column sums are the *exact* D_s of the m drawn
samples. Whoever asks is handed each block's estimates as they come, and keeps, adds up or writes them.

Two means over all k can be known exactly without all disparities, and serve as control variates: that of ``d(i, k) =
cos_img - cos_txt``, from the mean rows, and that of ``d(i, k)^2``, the squared twin, from three d x d products. With
``r = |d| - a d - b d^2`` over the columns, ``D_s(i) = mean r + a mean d + b mean d^2`` (Cochran, Sampling Techniques,
chapter 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from explorer.alignment.structure.controls import ControlVariates
from explorer.alignment.structure.distance import FeatureRows, SetMeans, check_same_rows, row_slices
from explorer.alignment.structure.fixed_point import FixedPointSums
from explorer.alignment.structure.tiles import OPERANDS, choose_kernel, choose_precision, exact_products, joined_rows
from explorer.core.sampling_design import Draw
from explorer.core.share import Share

ENTRIES_AT_ONCE = 2**20
"""Disparities to the drawn columns that are held at once; three such tiles."""
ROWS_AT_ONCE = 8192
"""Rows that are read at once, however few the drawn columns are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockEstimates:
    """What a block of rows yields; fp64 `[n]` each, cosines, without a convention's scale."""

    rows: slice
    image: torch.Tensor
    """`[n, d_image]` the rows themselves, as they were read."""
    text: torch.Tensor
    means: torch.Tensor
    """Estimated mean disparity to the population of the draw."""
    variances: torch.Tensor
    """Of that estimate, over draws."""
    centred: torch.Tensor
    """The same mean for mean-free features."""
    offsets: torch.Tensor
    """Exact signed mean disparity to all N."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnSums:
    """Of the drawn columns over all N rows: `[m]` fp64 on the CPU."""

    absolute: torch.Tensor
    """Sum of |d(i, k)|: N times the exact D_s of the drawn samples."""
    residuals: torch.Tensor
    """Sum of what the control variates leave of it; the same without them."""


def column_pass(
    image: FeatureRows,
    text: FeatureRows,
    draw: Draw,
    take: Callable[[BlockEstimates], None],
    *,
    precision: str | None,
    share: Share,
    statistics: SetMeans,
    controls: ControlVariates | None = None,
) -> ColumnSums:
    """One product of all rows with the drawn ones, in blocks; ``take`` is handed this worker's, in order."""
    check_same_rows(image, text)
    precision = choose_precision(image, text, precision)
    choose_kernel(image.device, precision, "torch")
    controls = ControlVariates() if controls is None else controls
    n, device, m = len(image), image.device, len(draw.rows)
    largest = statistics.largest_disparity
    sums, left = (FixedPointSums(m, n * bound, device) for bound in (largest, controls.bound(largest)))
    at = draw.rows.to(device)
    own_image, own_text = image[at], text[at]
    multiply = _Multiplication(own_image, own_text, precision)
    averages, weights, factors, column_weights, column_factors = draw.averaging(multiply.result_type, device)
    column_offsets = (statistics.offsets_of(own_image, own_text) - statistics.mean).to(multiply.result_type)
    with exact_products(device):
        for rows in share.each(list(row_slices(n, max(1, min(ROWS_AT_ONCE, ENTRIES_AT_ONCE // m))))):
            x, y = image[rows], text[rows]
            tile, offsets = multiply(x, y), statistics.offsets_of(x, y)
            first, end = (int(torch.searchsorted(draw.rows, edge)) for edge in (rows.start, rows.stop))
            tile[at[first:end] - rows.start, torch.arange(first, end, device=device)] = 0
            centred = (tile - offsets[:, None].to(tile.dtype)).sub_(column_offsets).abs_()
            absolute = tile.abs()
            sums.add(slice(0, m), absolute.sum(dim=0))
            residuals = controls.residuals(tile, absolute)
            left.add(slice(0, m), residuals.sum(dim=0))
            # A variance needs the square of every stratum's average; all else is linear in the columns.
            within = (residuals @ averages).double()
            take(BlockEstimates(
                rows=rows, image=x, text=y,
                means=within @ weights + controls.known(x, y, offsets),
                centred=(centred @ column_weights).double(),
                offsets=offsets,
                variances=(residuals.square_() @ column_factors).double() - within.square_() @ factors,
            ))  # fmt: skip
    return ColumnSums(absolute=sums.value(share), residuals=left.value(share))


class _Multiplication:
    """Signed disparities of blocks of rows to the drawn columns."""

    def __init__(self, image: torch.Tensor, text: torch.Tensor, precision: str) -> None:
        self.operand = OPERANDS[precision]
        self.result_type = torch.float32 if precision == "fp16" else self.operand
        self.on_tensor_cores = precision == "fp16" and image.device.type == "cuda"
        columns = joined_rows(image, -text, self.operand)
        self.columns = columns if self.on_tensor_cores else columns.to(self.result_type)

    def __call__(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        left = joined_rows(image, text, self.operand)
        if self.on_tensor_cores:
            return torch.mm(left, self.columns.T, out_dtype=torch.float32)
        return left.to(self.result_type) @ self.columns.T
