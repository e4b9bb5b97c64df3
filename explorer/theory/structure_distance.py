"""Structure distances of all N^2 pairs of samples, summed tile by tile without ever holding them all.

With unit rows x_i (images) and y_i (texts) the structure disparity of two samples is
``|D_img(i,k) - D_txt(i,k)| = |<x_i,x_k> - <y_i,y_k>| = |<[x_i, y_i], [x_k, -y_k]>|``: one matrix product
whose inner size is the two widths together. The matrix is symmetric, so only tiles on and above the
diagonal are computed, and a tile off the diagonal gives its row sums to one block and its column sums to
the other.
"""

from __future__ import annotations

import math

import torch

CONVENTIONS = ("authors", "halved")
"""``authors``: cosine distance 1 - cos, in [0, 2]. ``halved``: (1 - cos) / 2, in [0, 1]. Never mix them."""

UNIT_TOLERANCE = 2e-3
"""How far a row's Euclidean norm may be from 1: rows stored in fp16 are off by at most 5e-4."""

_CPU_BLOCK = 1024
_LARGEST_GPU_BLOCK = 16384


def structure_row_sums(
    image: torch.Tensor,
    text: torch.Tensor,
    *,
    convention: str = "authors",
    zero_diagonal: bool = True,
    block: int | None = None,
) -> torch.Tensor:
    """Sum over k of ``|D_img(i,k) - D_txt(i,k)|`` for every sample i.

    Exact, in O(N^2 (d_image + d_text)) operations and O(N) memory beyond one tile. Partial sums of a tile are
    added up in fp64. fp64 rows are multiplied in fp64, every other dtype in fp32.

    Args:
        image: `[N, d_image]` rows.
        text: `[N, d_text]` rows on the same device; the widths may differ (one-hot labels are rows too).
        convention: one of ``CONVENTIONS``.
        zero_diagonal: count a sample's disparity with itself as exactly zero, as it is for unit rows; False
            for rows of other lengths.
        block: samples on a tile's side; None chooses one that fits memory.

    Returns:
        `[N]` fp64 on the CPU.
    """
    n = len(image)
    scale = convention_scale(convention)
    block = choose_block(image.device, n) if block is None else block
    if block < 1:
        raise ValueError(f"block is {block}: expected at least 1")
    sums = torch.zeros(n, dtype=torch.float64, device=image.device)
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        left = _joined(image[rows], text[rows])
        for second in range(first, n, block):
            columns = slice(second, min(second + block, n))
            tile = (left @ _joined(image[columns], -text[columns]).T).abs_()
            if second > first:
                sums[columns] += tile.sum(dim=0)
            elif zero_diagonal:
                tile.fill_diagonal_(0)
            sums[rows] += tile.sum(dim=1)
    return sums.cpu() * scale


def choose_block(device: torch.device, n: int) -> int:
    """Samples on a tile's side: on a CPU what a cache holds, on a GPU at most an eighth of free memory."""
    if device.type != "cuda":
        return min(n, _CPU_BLOCK)
    free_bytes = torch.cuda.mem_get_info(device)[0]
    side = min(math.isqrt(free_bytes // 8 // torch.float64.itemsize), _LARGEST_GPU_BLOCK)
    return min(n, max(_CPU_BLOCK, side // 128 * 128))


def convention_scale(convention: str) -> float:
    """Factor from ``1 - cos`` to the convention's structure distance: 1 for authors, 1/2 for halved."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    return 1.0 if convention == "authors" else 0.5


def check_unit_rows(name: str, rows: torch.Tensor) -> None:
    """Refuse features that are not `[N >= 1, d]` finite floating-point rows of unit norm.

    Raises:
        ValueError: naming the shape got, or the numbers of the first offending rows.
    """
    if rows.ndim != 2 or len(rows) == 0 or rows.shape[1] == 0:
        raise ValueError(f"{name} has shape {list(rows.shape)}: expected [N, d] with N >= 1 and d >= 1")
    if not rows.is_floating_point():
        raise ValueError(f"{name} has dtype {rows.dtype}: expected floating-point features")
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64 if _is_double(rows) else torch.float32)
    not_finite = ~torch.isfinite(norms)
    if not_finite.any():
        raise ValueError(f"{name} has NaN or infinite values in {_row_list(not_finite)}: expected finite rows")
    not_unit = (norms - 1).abs() > UNIT_TOLERANCE
    if not_unit.any():
        worst = norms[(norms - 1).abs().argmax()].item()
        raise ValueError(
            f"{name} is not L2-normalised in {_row_list(not_unit)} (a norm of {worst:.4g}): expected norm 1"
        )


def _joined(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    both = torch.cat([first, second], dim=1)
    return both if _is_double(both) else both.float()


def _is_double(rows: torch.Tensor) -> bool:
    return rows.dtype == torch.float64


def _row_list(mask: torch.Tensor, shown: int = 5) -> str:
    numbers = mask.nonzero().flatten().tolist()
    listed = ", ".join(str(number) for number in numbers[:shown])
    more = f" and {len(numbers) - shown} more" if len(numbers) > shown else ""
    return f"{'row' if len(numbers) == 1 else 'rows'} {listed}{more}"
