"""Structure distances of pairs of samples: their conventions, the rows they take, and what the cones' means force.

Ding et al., CCS 2024, section 5.1. How all N^2 of them are summed is in ``structure_kernels.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

CONVENTIONS = ("authors", "halved")
"""``authors``: cosine distance 1 - cos, in [0, 2]. ``halved``: (1 - cos) / 2, in [0, 1]. Never mix them."""

UNIT_TOLERANCE = 2e-3
"""How far a row's Euclidean norm may be from 1: rows stored in fp16 are off by at most 5e-4."""

_ROWS_AT_ONCE = 16384


class FeatureRows(Protocol):
    """`[N, d]` features: a tensor, or rows that lie elsewhere and are handed over a part at a time."""

    dtype: torch.dtype
    device: torch.device
    """Where the parts are."""
    shape: tuple[int, int]
    ndim: int

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | torch.Tensor) -> torch.Tensor: ...


def row_slices(n: int, size: int = _ROWS_AT_ONCE) -> Iterator[slice]:
    """0..n-1 in parts of ``size`` rows, so that features that are not held are read a part at a time."""
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))


def held_rows(rows: FeatureRows, dtype: torch.dtype) -> torch.Tensor:
    """All rows as one contiguous tensor of ``dtype``; a tensor that is one already is not copied."""
    if isinstance(rows, torch.Tensor):
        return rows.to(dtype).contiguous()
    held = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    for part in row_slices(len(rows)):
        held[part] = rows[part]
    return held


def convention_scale(convention: str) -> float:
    """Factor from ``1 - cos`` to the convention's structure distance: 1 for authors, 1/2 for halved."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    return 1.0 if convention == "authors" else 0.5


def check_unit_rows(name: str, rows: FeatureRows) -> None:
    """Refuse features that are not `[N >= 1, d]` finite floating-point rows of unit norm.

    Raises:
        ValueError: naming the shape got, or the numbers of the first offending rows.
    """
    if rows.ndim != 2 or len(rows) == 0 or rows.shape[1] == 0:
        raise ValueError(f"{name} has shape {list(rows.shape)}: expected [N, d] with N >= 1 and d >= 1")
    if not rows.dtype.is_floating_point:
        raise ValueError(f"{name} has dtype {rows.dtype}: expected floating-point features")
    norms = finite_norms(name, rows)
    not_unit = (norms - 1).abs() > UNIT_TOLERANCE
    if not_unit.any():
        worst = norms[(norms - 1).abs().argmax()].item()
        raise ValueError(
            f"{name} is not L2-normalised in {_row_list(not_unit)} (a norm of {worst:.4g}): expected norm 1"
        )


def finite_norms(name: str, rows: FeatureRows) -> torch.Tensor:
    """Euclidean norms `[N]` of `[N, d]` rows, fp64 for fp64 rows and fp32 otherwise.

    Raises:
        ValueError: naming the first rows with NaN or infinite values.
    """
    precision = torch.float64 if _is_double(rows) else torch.float32
    norms = torch.empty(len(rows), dtype=precision, device=rows.device)
    for part in row_slices(len(rows)):
        norms[part] = torch.linalg.vector_norm(rows[part], dim=1, dtype=precision)
    not_finite = ~torch.isfinite(norms)
    if not_finite.any():
        raise ValueError(f"{name} has NaN or infinite values in {_row_list(not_finite)}: expected finite rows")
    return norms


def check_same_rows(image: FeatureRows, text: FeatureRows) -> None:
    """Refuse image and text features of different lengths or devices.

    Raises:
        ValueError: naming both.
    """
    if len(image) != len(text):
        raise ValueError(f"image has {len(image)} rows and text {len(text)}: expected the same number")
    if image.device != text.device:
        raise ValueError(f"image is on {image.device} and text on {text.device}: expected one device")


def mean_disparity(image: FeatureRows, text: FeatureRows) -> tuple[torch.Tensor, float]:
    """Mean over k of cos_img(i,k) - cos_txt(i,k) for every sample i, signed, and its mean; in O(N d).

    ``<x_i, x_mean> - <y_i, y_mean>``, `[N]` fp64 on the features' device, and ``|x_mean|^2 - |y_mean|^2``.
    These two centre a tile that is computed anyway: ``<x_i - x_mean, x_k - x_mean> - <y_i - y_mean, y_k - y_mean>``
    is the tile's entry less both samples' mean disparity plus their mean.
    """
    parts = []
    for rows in (image, text):
        mean = mean_row(rows)
        precision = torch.float64 if _is_double(rows) else torch.float32
        projected = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        for part in row_slices(len(rows)):
            projected[part] = (rows[part].to(precision) @ mean.to(precision)).double()
        parts.append((projected, mean.square().sum().item()))
    (image_part, image_square), (text_part, text_square) = parts
    return image_part - text_part, image_square - text_square


def mean_row(rows: FeatureRows) -> torch.Tensor:
    """Mean `[d]` (fp64) of `[N, d]` rows, without an fp64 copy of all of them."""
    return sum(rows[part].double().sum(dim=0) for part in row_slices(len(rows))) / len(rows)


def _is_double(rows: FeatureRows) -> bool:
    return rows.dtype == torch.float64


def _row_list(mask: torch.Tensor, shown: int = 5) -> str:
    numbers = mask.nonzero().flatten().tolist()
    listed = ", ".join(str(number) for number in numbers[:shown])
    more = f" and {len(numbers) - shown} more" if len(numbers) > shown else ""
    return f"{'row' if len(numbers) == 1 else 'rows'} {listed}{more}"
