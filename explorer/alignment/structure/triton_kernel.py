"""Structure disparities on a GPU in one Triton kernel: product, absolute value, row and column sums; no tile in memory.

Import this module only where it runs: it needs Triton. Where Triton's interpreter is on (``TRITON_INTERPRET=1`` before
the import) the same kernel runs on CPU tensors, slowly: that is how it is tested without a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from explorer.alignment.structure.distance import FeatureRows, check_same_rows, row_slices

if TYPE_CHECKING:
    from explorer.alignment.structure.tiles import Centring, FixedPointSums

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
"""Precision -> dtype of the operands; products are summed in fp32."""


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """How the kernel divides its work; no result depends on it beyond the rounding of fp32 sums over a tile."""

    rows: int
    """Samples on the left of one program's tile; a power of two."""
    columns: int
    """Samples on its right; a power of two."""
    inner: int
    """Inner elements a step; a power of two. Widths are padded with zeros to a multiple of it."""
    warps: int
    stages: int
    """Steps whose operands are in shared memory or on their way there."""
    group: int = 8
    """Rows of tiles that share the L2 cache."""


CONFIGS = {
    "fp16": (
        (224, KernelConfig(rows=128, columns=256, inner=64, warps=8, stages=4)),
        (160, KernelConfig(rows=128, columns=256, inner=64, warps=8, stages=3)),
        (64, KernelConfig(rows=128, columns=128, inner=64, warps=8, stages=3)),
    ),
    "fp32": ((64, KernelConfig(rows=128, columns=128, inner=32, warps=8, stages=3)),),
}
"""Precision -> KiB of shared memory that one program can have, most first, and what is used from there on. Large tiles
read each row less often; every GPU since Turing has 64 KiB, an A100 163 and an H100 227."""


def kernel_config(precision: str, device: torch.device) -> KernelConfig:
    """What the device's shared memory has room for; the smallest where there is no GPU, in the interpreter."""
    size = 0
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(device).shared_memory_per_block_optin // 1024
    return next((config for least, config in CONFIGS[precision] if least <= size), CONFIGS[precision][-1][1])


class TritonTiles:
    """The interface of ``TorchTiles``; a tile is a grid of programs that keep their disparities in registers."""

    def __init__(
        self,
        image: FeatureRows,
        text: FeatureRows,
        *,
        precision: str,
        block: int,
        centring: Centring | None = None,
        config: KernelConfig | None = None,
    ) -> None:
        check_same_rows(image, text)
        if image.device.type != "cuda" and not triton.knobs.runtime.interpret:
            raise ValueError(f"kernel is 'triton' and the features are on {image.device}: expected cuda")
        self.config = kernel_config(precision, image.device) if config is None else config
        self.n, self.image_width = len(image), image.shape[1]
        self.joined = padded_rows(image, text, DTYPES[precision], self.config)
        # Only a block of rows is ever held with its texts negated, not a second copy of all features.
        height = triton.cdiv(block, self.config.rows) * self.config.rows
        self.left = self.joined.new_empty(height, self.joined.shape[1])
        self.left_rows: slice | None = None
        self.mean = 0.0 if centring is None else centring.mean
        # A launch needs a pointer even where the kernel never reads it.
        self.offsets = torch.zeros(1, device=image.device) if centring is None else centring.offsets.float()

    def add(self, rows: slice, columns: slice, sums: FixedPointSums, centred: FixedPointSums | None) -> None:
        """Add a tile's disparities to its rows' sums and, off the diagonal, to its columns' sums."""
        self._hold_left(rows)
        config, other = self.config, sums if centred is None else centred
        tiles = triton.cdiv(rows.stop - rows.start, config.rows) * triton.cdiv(
            columns.stop - columns.start, config.columns
        )
        _tile_sums[(tiles,)](
            self.left,
            self.joined,
            self.offsets,
            sums.units,
            other.units,
            self.joined.shape[1],
            rows.start,
            rows.stop,
            columns.start,
            columns.stop,
            self.mean,
            sums.scale,
            other.scale,
            DIAGONAL=rows == columns,
            # Behind the last sample there are zeros, behind any other the next block's samples.
            EDGES=columns.stop < self.n and (columns.stop - columns.start) % config.columns != 0,
            CENTRED=centred is not None,
            ROWS=config.rows,
            COLUMNS=config.columns,
            INNER=config.inner,
            GROUP=config.group,
            num_warps=config.warps,
            num_stages=config.stages,
        )

    def _hold_left(self, rows: slice) -> None:
        if rows != self.left_rows:
            height = rows.stop - rows.start
            self.left[:height].copy_(self.joined[rows])[:, self.image_width :].neg_()
            self.left[height:].zero_()
            self.left_rows = rows


def padded_rows(image: FeatureRows, text: FeatureRows, dtype: torch.dtype, config: KernelConfig) -> torch.Tensor:
    """``[x_i, y_i, 0]`` as `[N + columns of a tile, whole steps]` of ``dtype``, zero behind the last sample.

    The kernel's inner loop can then read whole tiles everywhere, without masks.
    """
    n, width, both = len(image), image.shape[1], image.shape[1] + text.shape[1]
    joined = torch.empty(
        n + config.columns, triton.cdiv(both, config.inner) * config.inner, dtype=dtype, device=image.device
    )
    joined[:, both:].zero_()
    joined[n:].zero_()
    # A tensor is copied without anything in between; other rows are read a part at a time.
    held = isinstance(image, torch.Tensor) and isinstance(text, torch.Tensor)
    for rows in [slice(0, n)] if held else row_slices(n):
        joined[rows, :width].copy_(image[rows])
        joined[rows, width:both].copy_(text[rows])
    return joined


@triton.jit
def _tile_sums(
    left, right, offsets, sums, centred_sums, width, first_row, end_row, first_column, end_column, mean, scale,
    centred_scale, DIAGONAL: tl.constexpr, EDGES: tl.constexpr, CENTRED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One program: a ``ROWS x COLUMNS`` tile of disparities of rows first_row..end_row and the columns likewise.

    ``left`` begins with row first_row, ``right`` with row 0. Both scales are powers of two, so that fp32, in which
    Triton passes a Python float, holds them exactly.
    """
    row, column = _place(tl.program_id(0), first_row, end_row, first_column, end_column, ROWS, COLUMNS, GROUP)
    # Below the diagonal of a tile on the diagonal there is nothing that is not above it.
    needed = True
    if DIAGONAL:
        needed = column + COLUMNS > row
    if needed:
        products = _products(left, right, row, first_column + column, width, ROWS, COLUMNS, INNER)
        _add_products(
            products, offsets, sums, centred_sums, first_row + row, end_row, first_column + column, end_column, mean,
            scale, centred_scale, DIAGONAL, EDGES, CENTRED, ROWS, COLUMNS,
        )  # fmt: skip


@triton.jit
def _place(
    tile, first_row, end_row, first_column, end_column,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """First row and column of a tile, from those of the block: GROUP rows of tiles, column by column.

    Programs that run together read few rows and columns.
    """
    row_tiles, column_tiles = tl.cdiv(end_row - first_row, ROWS), tl.cdiv(end_column - first_column, COLUMNS)
    first_in_group = tile // (GROUP * column_tiles) * GROUP
    in_group = tl.minimum(row_tiles - first_in_group, GROUP)
    row_tile = first_in_group + tile % (GROUP * column_tiles) % in_group
    column_tile = tile % (GROUP * column_tiles) // in_group
    return row_tile * ROWS, column_tile * COLUMNS


@triton.jit
def _products(
    left, right, row, column, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """Inner products `[ROWS, COLUMNS]` of rows from ``row`` of left and ``column`` of right; whole tiles exist."""
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    inner = tl.arange(0, INNER)
    at_rows = left + (row + tl.arange(0, ROWS)).to(tl.int64)[:, None] * width + inner[None, :]
    at_columns = right + (column + tl.arange(0, COLUMNS)).to(tl.int64)[None, :] * width + inner[:, None]
    for first in range(0, width, INNER):
        rows, columns = tl.load(at_rows + first), tl.load(at_columns + first)
        products = tl.dot(rows, columns, products, input_precision="ieee")
    return products


@triton.jit
def _add_products(
    products, offsets, sums, centred_sums, row, end_row, column, end_column, mean, scale, centred_scale,
    DIAGONAL: tl.constexpr, EDGES: tl.constexpr, CENTRED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Add a tile of signed disparities to the sums and, where CENTRED, what centring makes of it to those."""
    rows, columns = row + tl.arange(0, ROWS), column + tl.arange(0, COLUMNS)
    if DIAGONAL:
        products = tl.where(rows[:, None] == columns[None, :], 0.0, products)
    if EDGES:
        products = tl.where(columns[None, :] < end_column, products, 0.0)
    _add_sums(sums, tl.abs(products), rows, end_row, columns, end_column, scale, DIAGONAL)
    if CENTRED:
        of_rows = tl.load(offsets + rows, mask=rows < end_row, other=0.0)
        of_columns = tl.load(offsets + columns, mask=columns < end_column, other=0.0)
        centred = tl.abs(products - of_rows[:, None] - of_columns[None, :] + mean)
        inside = (rows[:, None] < end_row) & (columns[None, :] < end_column)
        centred = tl.where(inside, centred, 0.0)
        _add_sums(centred_sums, centred, rows, end_row, columns, end_column, centred_scale, DIAGONAL)


@triton.jit
def _add_sums(sums, tile, rows, end_row, columns, end_column, scale, DIAGONAL: tl.constexpr):
    """Add a tile of absolute values to its rows' and its columns' sums in 64-bit fixed point.

    On the diagonal a pair of samples counts above it only, once for each of the two, and a sample with itself once.
    """
    to_rows, to_columns = tile, tile
    if DIAGONAL:
        to_rows = tl.where(columns[None, :] >= rows[:, None], tile, 0.0)
        to_columns = tl.where(columns[None, :] > rows[:, None], tile, 0.0)
    of_rows = (tl.sum(to_rows, axis=1).to(tl.float64) * scale + 0.5).to(tl.int64)
    of_columns = (tl.sum(to_columns, axis=0).to(tl.float64) * scale + 0.5).to(tl.int64)
    # Nobody reads a sum before the kernel is through, so that no addition need wait for another ("relaxed").
    tl.atomic_add(sums + rows, of_rows, mask=rows < end_row, sem="relaxed")
    tl.atomic_add(sums + columns, of_columns, mask=columns < end_column, sem="relaxed")
