"""Structure distances of all N^2 pairs of samples, summed tile by tile without ever holding them all.

With unit rows x_i (images) and y_i (texts) the structure disparity of two samples is
``|D_img(i,k) - D_txt(i,k)| = |<x_i,x_k> - <y_i,y_k>| = |<[x_i, y_i], [x_k, -y_k]>|``: one matrix product
whose inner size is the two widths together. The matrix is symmetric, so only tiles on and above the
diagonal are computed, and a tile off the diagonal gives its row sums to one block and its column sums to
the other. Tiles add up in 64-bit fixed point, which is exact: no order of adding, no number of workers and no
atomic addition on a GPU changes a bit of the result.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from explorer.alignment.structure.distance import (
    FeatureRows,
    FeatureStatistics,
    check_same_rows,
    convention_scale,
    disparity_bound,
    feature_statistics,
    finite_norms,
    row_slices,
)
from explorer.alignment.structure.fixed_point import FixedPointSums
from explorer.core.share import ALONE, Share

OPERANDS = {"fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}
"""Precision -> dtype the rows are rounded to. fp16 products accumulate in fp32; fp32 is never TF32 or bf16."""
KERNELS = ("auto", "torch", "triton")
"""``triton``: CUDA, fp16 or fp32; ``torch``: everything; ``auto`` is triton for fp16 on CUDA and torch elsewhere."""

_CPU_BLOCK = 1024
_LARGEST_TORCH_BLOCK = 16384
_TRITON_BLOCK = 16384


@dataclass(frozen=True, kw_only=True, eq=False)
class Centring:
    """What turns a tile of disparities into that of mean-free features."""

    offsets: torch.Tensor
    """`[N]` fp64: every sample's mean signed disparity."""
    mean: float
    """Their mean."""


class TorchTiles:
    """Tiles of structure disparities from one matrix product each, on any device torch knows, in reused buffers."""

    def __init__(
        self,
        image: FeatureRows,
        text: FeatureRows,
        *,
        precision: str,
        block: int,
        centring: Centring | None = None,
    ) -> None:
        self.image_width, self.centring = image.shape[1], centring
        self.joined = joined_rows(image, text, OPERANDS[precision])
        self.on_tensor_cores = precision == "fp16" and image.device.type == "cuda"
        product_type = torch.float32 if precision == "fp16" else self.joined.dtype
        operand_type = self.joined.dtype if self.on_tensor_cores else product_type
        self.left = self.joined.new_empty(min(block, len(image)), self.joined.shape[1], dtype=operand_type)
        self.right = torch.empty_like(self.left) if operand_type != self.joined.dtype else None
        buffers = 1 if centring is None else 2
        self.buffers = self.joined.new_empty(buffers, self.left.shape[0] ** 2, dtype=product_type)
        self.offsets = None if centring is None else centring.offsets.to(product_type)
        self.left_rows: slice | None = None

    def add(self, rows: slice, columns: slice, sums: FixedPointSums, centred: FixedPointSums | None) -> None:
        """Add a tile's disparities to its rows' sums and, off the diagonal, to its columns' sums."""
        tile = self.product(rows, columns)
        if rows == columns:
            tile.fill_diagonal_(0)
        if centred is not None:
            self._add_absolute(self._centred(tile, rows, columns), rows, columns, centred)
        self._add_absolute(tile, rows, columns, sums)

    def product(self, rows: slice, columns: slice) -> torch.Tensor:
        """Signed disparities `[rows, columns]`, valid until the next call."""
        if rows != self.left_rows:
            # Only a block of rows is ever held with its texts negated, not a second copy of all features.
            self._left(rows).copy_(self.joined[rows])[:, self.image_width :].neg_()
            self.left_rows = rows
        left, right = self._left(rows), self.joined[columns]
        if self.on_tensor_cores:
            return torch.mm(left, right.T, out_dtype=torch.float32)
        if self.right is not None:
            right = self.right[: len(right)].copy_(right)
        return torch.mm(left, right.T, out=self._buffer(0, rows, columns))

    def _left(self, rows: slice) -> torch.Tensor:
        return self.left[: rows.stop - rows.start]

    def _buffer(self, number: int, rows: slice, columns: slice) -> torch.Tensor:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return self.buffers[number, : height * width].view(height, width)

    def _centred(self, tile: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
        centred = torch.sub(tile, self.offsets[rows, None], out=self._buffer(1, rows, columns))
        return centred.sub_(self.offsets[columns] - self.centring.mean)

    @staticmethod
    def _add_absolute(tile: torch.Tensor, rows: slice, columns: slice, sums: FixedPointSums) -> None:
        tile.abs_()
        sums.add(rows, tile.sum(dim=1))
        if rows != columns:
            sums.add(columns, tile.sum(dim=0))


def structure_row_sums(
    image: FeatureRows,
    text: FeatureRows,
    *,
    convention: str = "authors",
    block: int | None = None,
    precision: str | None = None,
    kernel: str = "auto",
    share: Share = ALONE,
    largest: float | None = None,
) -> torch.Tensor:
    """Sum over k of ``|D_img(i,k) - D_txt(i,k)|`` for every sample i; with itself it is exactly 0.

    Exact, in O(N^2 (d_image + d_text)) operations and O(N) memory beyond one tile and one copy of the rows.

    Args:
        image: `[N, d_image]` unit rows; held as operands once, wherever they lie.
        text: `[N, d_text]` unit rows on the same device; the widths may differ (one-hot labels are rows too).
        convention: one of ``CONVENTIONS``.
        block: samples on a tile's side; None chooses one that fits memory.
        precision: one of ``OPERANDS``; None is fp64 for fp64 rows and fp32 for every other dtype.
        kernel: one of ``KERNELS``.
        share: this worker's part where several share the work.
        largest: a bound on every disparity of rows that were checked; None checks them and finds one.

    Returns:
        `[N]` fp64 on the CPU.

    Raises:
        ValueError: on lengths or devices that differ, rows with NaN (their numbers are named), or an unknown
            or impossible convention, block, precision or kernel.
    """
    sums, _ = _add_tiles(
        image, text, convention=convention, block=block, precision=precision, kernel=kernel, share=share,
        statistics=None, largest=largest,
    )  # fmt: skip
    return sums


def structure_and_centred_row_sums(
    image: FeatureRows,
    text: FeatureRows,
    *,
    convention: str = "authors",
    block: int | None = None,
    precision: str | None = None,
    kernel: str = "auto",
    share: Share = ALONE,
    statistics: FeatureStatistics | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``structure_row_sums`` of unit rows and of their mean-free features, from one pass over the tiles.

    Centring changes a product only by a number of its row and one of its column, so the second sum costs no
    second product. Its diagonal is not zero: a centred row is no unit row.

    Args:
        statistics: of these rows, where they are known; None finds them here. Others as in ``structure_row_sums``.

    Returns:
        Two `[N]` fp64 tensors on the CPU.

    Raises:
        ValueError: on rows that are no unit rows, and on what ``structure_row_sums`` refuses.
    """
    statistics = feature_statistics(image, text) if statistics is None else statistics
    return _add_tiles(
        image, text, convention=convention, block=block, precision=precision, kernel=kernel, share=share,
        statistics=statistics, largest=statistics.largest_disparity,
    )  # fmt: skip


def choose_precision(image: FeatureRows, text: FeatureRows, precision: str | None) -> str:
    """The precision meant: as given, or fp64 where the rows are fp64 and fp32 otherwise."""
    if precision is None:
        return "fp64" if torch.float64 in (image.dtype, text.dtype) else "fp32"
    if precision not in OPERANDS:
        raise ValueError(f"precision is {precision!r}: expected one of {', '.join(OPERANDS)}")
    return precision


def choose_kernel(device: torch.device, precision: str, kernel: str = "auto") -> str:
    """``torch`` or ``triton``.

    Raises:
        ValueError: on a device without 64-bit sums, an unknown kernel, or ``triton`` where it cannot run.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {kernel!r}: expected one of {', '.join(KERNELS)}")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device.type!r}: expected cpu or cuda, which have 64-bit sums")
    installed = importlib.util.find_spec("triton") is not None
    if kernel == "auto":
        # fp16 tiles cost torch more to write and read again than to multiply. fp32 products have no tensor cores, and
        # cuBLAS is better at them: with N = 50,000 and d = 768 an H200 took 0.107 s with torch, 0.185 s with Triton.
        return "triton" if device.type == "cuda" and precision == "fp16" and installed else "torch"
    if kernel == "triton" and (precision == "fp64" or not installed):
        reason = "it multiplies fp16 and fp32 only" if installed else "it is not installed"
        raise ValueError(f"kernel is 'triton' at precision {precision}: {reason}; expected torch")
    return kernel


def choose_block(device: torch.device, n: int, kernel: str = "torch") -> int:
    """Samples on a tile's side: on a CPU what a cache holds, on a GPU at most an eighth of free memory."""
    if kernel == "triton":
        return min(n, _TRITON_BLOCK)  # never materialised: many small tiles in one launch
    if device.type != "cuda":
        return min(n, _CPU_BLOCK)
    free_bytes = torch.cuda.mem_get_info(device)[0]
    side = min(math.isqrt(free_bytes // 8 // torch.float64.itemsize), _LARGEST_TORCH_BLOCK)
    return min(n, max(_CPU_BLOCK, side // 128 * 128))


def upper_tiles(n: int, block: int) -> list[tuple[slice, slice]]:
    """Rows and columns of all tiles on and above the diagonal, row by row."""
    sides = [slice(first, min(first + block, n)) for first in range(0, n, block)]
    return [(rows, columns) for index, rows in enumerate(sides) for columns in sides[index:]]


def joined_rows(image: FeatureRows, text: FeatureRows, dtype: torch.dtype) -> torch.Tensor:
    """``[x_i, y_i]`` as `[N, d_image + d_text]` of ``dtype``."""
    width = image.shape[1]
    joined = torch.empty(len(image), width + text.shape[1], dtype=dtype, device=image.device)
    for rows in row_slices(len(image)):
        joined[rows, :width].copy_(image[rows])
        joined[rows, width:].copy_(text[rows])
    return joined


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """fp32 products in fp32, whatever the process allows elsewhere (TF32, bf16, autocast)."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)


def largest_disparity(image: FeatureRows, text: FeatureRows) -> float:
    """A bound on every |<x_i,x_k> - <y_i,y_k>|, rounding included; rows with NaN are refused by their numbers."""
    return disparity_bound(finite_norms("image", image).max().item(), finite_norms("text", text).max().item())


def _add_tiles(
    image: FeatureRows,
    text: FeatureRows,
    *,
    convention: str,
    block: int | None,
    precision: str | None,
    kernel: str,
    share: Share,
    statistics: FeatureStatistics | None,
    largest: float | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Row sums and, where there are ``statistics``, those of mean-free features."""
    scale, n, device = convention_scale(convention), len(image), image.device
    check_same_rows(image, text)
    precision = choose_precision(image, text, precision)
    kernel = choose_kernel(device, precision, kernel)
    block = choose_block(device, n, kernel) if block is None else block
    if block < 1:
        raise ValueError(f"block is {block}: expected at least 1")
    centring = None if statistics is None else Centring(offsets=statistics.offsets, mean=statistics.mean)
    largest = n * (largest_disparity(image, text) if largest is None else largest)
    sums = FixedPointSums(n, largest, device)
    # |x_i - x_mean| is at most twice the largest |x_i|, and a disparity is made of squares.
    centred = None if centring is None else FixedPointSums(n, 4 * largest, device)
    with exact_products(device):
        tiles = tiles_class(kernel)(image, text, precision=precision, block=block, centring=centring)
        for rows, columns in share.each(upper_tiles(n, block)):
            tiles.add(rows, columns, sums, centred)
    return sums.value(share) * scale, None if centred is None else centred.value(share) * scale


def tiles_class(kernel: str) -> type:
    """``TorchTiles`` or, imported only now, ``TritonTiles``."""
    if kernel == "torch":
        return TorchTiles
    from explorer.alignment.structure.triton_kernel import TritonTiles

    return TritonTiles
