"""Structure disparities on a GPU in one Triton kernel: product, absolute value, row and column sums; no tile in memory.

Import this module only where it runs: it needs Triton. Where Triton's interpreter is on (``TRITON_INTERPRET=1`` before
the import) the same kernel runs on CPU tensors, slowly: that is how it is tested without a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from explorer.alignment.structure.distance import FeatureRows, check_same_rows, held_rows

if TYPE_CHECKING:
    from explorer.alignment.structure.tiles import Centring, FixedPointSums

SIDE, GROUP = 128, 8
"""Samples on the side of one program's tile, and rows of tiles that share the L2 cache."""
INNER = {"fp16": 64, "fp32": 32}
"""Inner elements a step, by precision. Two steps of rows and columns then fill 64 KiB of shared memory, which every GPU
since Turing has for one program."""
WARPS, STAGES = 8, 3


class TritonTiles:
    """The interface of ``TorchTiles``; a tile is a grid of programs that keep their disparities in registers."""

    def __init__(
        self,
        image: FeatureRows,
        text: FeatureRows,
        *,
        precision: str,
        block: int,
        zero_diagonal: bool = True,
        centring: Centring | None = None,
        side: int = SIDE,
        inner: int | None = None,
    ) -> None:
        check_same_rows(image, text)
        if image.device.type != "cuda" and not triton.knobs.runtime.interpret:
            raise ValueError(f"kernel is 'triton' and the features are on {image.device}: expected cuda")
        dtype = {"fp16": torch.float16, "fp32": torch.float32}[precision]
        self.image, self.text = held_rows(image, dtype), held_rows(text, dtype)
        self.zero_diagonal, self.side = zero_diagonal, side
        self.inner = INNER[precision] if inner is None else inner
        self.mean = 0.0 if centring is None else centring.mean
        # A launch needs a pointer even where the kernel never reads it.
        self.offsets = torch.zeros(1, device=image.device) if centring is None else centring.offsets.float()

    def add(self, rows: slice, columns: slice, sums: FixedPointSums, centred: FixedPointSums | None) -> None:
        """Add a tile's disparities to its rows' sums and, off the diagonal, to its columns' sums."""
        row_tiles, column_tiles = (triton.cdiv(part.stop - part.start, self.side) for part in (rows, columns))
        other = sums if centred is None else centred
        _tile_sums[(row_tiles * column_tiles,)](
            self.image,
            self.text,
            self.offsets,
            sums.units,
            other.units,
            self.image.shape[1],
            self.text.shape[1],
            rows.start,
            rows.stop,
            columns.start,
            columns.stop,
            self.mean,
            sums.scale,
            other.scale,
            ZERO_DIAGONAL=self.zero_diagonal,
            CENTRED=centred is not None,
            SIDE=self.side,
            INNER=self.inner,
            GROUP=GROUP,
            num_warps=WARPS,
            num_stages=STAGES,
        )


@triton.jit
def _tile_sums(
    image,
    text,
    offsets,
    sums,
    centred_sums,
    image_width,
    text_width,
    first_row,
    end_row,
    first_column,
    end_column,
    mean,
    scale,
    centred_scale,
    ZERO_DIAGONAL: tl.constexpr,
    CENTRED: tl.constexpr,
    SIDE: tl.constexpr,
    INNER: tl.constexpr,
    GROUP: tl.constexpr,
):
    """One program: a ``SIDE x SIDE`` tile of disparities of rows first_row..end_row and the columns likewise.

    Both scales are powers of two, so that fp32, in which Triton passes a Python float, holds them exactly.
    """
    # Programs that run together read few rows and columns: GROUP rows of tiles, column by column.
    row_tiles, column_tiles = tl.cdiv(end_row - first_row, SIDE), tl.cdiv(end_column - first_column, SIDE)
    program = tl.program_id(0)
    first_in_group = program // (GROUP * column_tiles) * GROUP
    in_group = tl.minimum(row_tiles - first_in_group, GROUP)
    row_tile = first_in_group + program % (GROUP * column_tiles) % in_group
    column_tile = program % (GROUP * column_tiles) // in_group
    rows = first_row + row_tile * SIDE + tl.arange(0, SIDE)
    columns = first_column + column_tile * SIDE + tl.arange(0, SIDE)
    off_diagonal = (first_row != first_column) | (row_tile != column_tile)
    # Below the diagonal of a tile on the diagonal there is nothing that is not above it.
    if (first_row != first_column) | (column_tile >= row_tile):
        products = tl.zeros((SIDE, SIDE), tl.float32)
        products = -_add_products(products, text, text_width, rows, end_row, columns, end_column, SIDE, INNER)
        products = _add_products(products, image, image_width, rows, end_row, columns, end_column, SIDE, INNER)
        if ZERO_DIAGONAL:
            products = tl.where(rows[:, None] == columns[None, :], 0.0, products)
        _add_sums(sums, tl.abs(products), rows, end_row, columns, end_column, scale, off_diagonal)
        if CENTRED:
            of_rows = tl.load(offsets + rows, mask=rows < end_row, other=0.0)
            of_columns = tl.load(offsets + columns, mask=columns < end_column, other=0.0)
            centred = tl.abs(products - of_rows[:, None] - of_columns[None, :] + mean)
            inside = (rows[:, None] < end_row) & (columns[None, :] < end_column)
            centred = tl.where(inside, centred, 0.0)
            _add_sums(centred_sums, centred, rows, end_row, columns, end_column, centred_scale, off_diagonal)


@triton.jit
def _add_products(
    products, features, width, rows, end_row, columns, end_column, SIDE: tl.constexpr, INNER: tl.constexpr
):
    """``products`` plus the inner products of the rows and columns; what is out of range counts as zero."""
    at_rows = features + rows.to(tl.int64)[:, None] * width
    at_columns = features + columns.to(tl.int64)[None, :] * width
    for first in range(0, width, INNER):
        inner = first + tl.arange(0, INNER)
        left_mask = (rows[:, None] < end_row) & (inner[None, :] < width)
        right_mask = (inner[:, None] < width) & (columns[None, :] < end_column)
        left = tl.load(at_rows + inner[None, :], mask=left_mask, other=0.0)
        right = tl.load(at_columns + inner[:, None], mask=right_mask, other=0.0)
        products = tl.dot(left, right, products, input_precision="ieee")
    return products


@triton.jit
def _add_sums(sums, tile, rows, end_row, columns, end_column, scale, off_diagonal):
    """Add a tile of absolute values to its rows' and, off the diagonal, its columns' sums in 64-bit fixed point."""
    of_rows = (tl.sum(tile, axis=1).to(tl.float64) * scale + 0.5).to(tl.int64)
    tl.atomic_add(sums + rows, of_rows, mask=rows < end_row)
    if off_diagonal:
        of_columns = (tl.sum(tile, axis=0).to(tl.float64) * scale + 0.5).to(tl.int64)
        tl.atomic_add(sums + columns, of_columns, mask=columns < end_column)
