"""Structure distances of pairs of samples: their conventions, the rows they take, and what the cones' means force.

Ding et al., CCS 2024, section 5.1. How all N^2 of them are summed is in ``tiles.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

CONVENTIONS = ("authors", "halved")
"""``authors``: cosine distance 1 - cos, in [0, 2]. ``halved``: (1 - cos) / 2, in [0, 1]. Never mix them."""

UNIT_TOLERANCE = 2e-3
"""How far a row's Euclidean norm may be from 1: rows stored in fp16 are off by at most 5e-4."""

_ROWS_AT_ONCE = {"cpu": 16384, "cuda": 65536}
"""By device: a GPU is through with few rows before the next launch."""
_SLACK = 1.01
_ROWS_NAMED = 5
"""Of those that cannot be measured."""


class FeatureRows(Protocol):
    """`[N, d]` features: a tensor, or rows that lie elsewhere and are handed over a part at a time."""

    dtype: torch.dtype
    device: torch.device
    """Where the parts are."""
    shape: tuple[int, int]
    ndim: int

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class SetMeans:
    """What the mean rows of a set say of all its pairs. Tensors are on the features' device."""

    largest_disparity: float
    """A bound on every |<x_i,x_k> - <y_i,y_k>|, rounding included."""
    image_mean: torch.Tensor
    """`[d_image]` fp64 mean image row."""
    text_mean: torch.Tensor
    """`[d_text]` fp64 mean text row."""

    @property
    def mean(self) -> float:
        """Mean over i of ``offsets_of`` all rows: |x_mean|^2 - |y_mean|^2."""
        return self.image_mean.square().sum().item() - self.text_mean.square().sum().item()

    def offsets_of(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """fp64 `[n]`, signed, of rows `[n, d]`: <x_i, x_mean> - <y_i, y_mean>, the mean over k of cos_img(i,k) -
        cos_txt(i,k)."""
        means = zip((image, text), (self.image_mean, self.text_mean), strict=True)
        own, other = ((rows.to(_precision(rows.dtype)) @ mean.to(_precision(rows.dtype))) for rows, mean in means)
        return own.double() - other.double()


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureStatistics(SetMeans):
    """The same with every sample's offset; handed on, so that features on disk are not read for it again.

    ``offsets`` and ``mean`` centre a tile that is computed anyway: ``<x_i - x_mean, x_k - x_mean> - <y_i - y_mean,
    y_k - y_mean>`` is the tile's entry less both samples' mean disparity plus their mean.
    """

    offsets: torch.Tensor
    """`[N]` fp64, signed: ``offsets_of`` every row."""


class UnusableRowsError(ValueError):
    """Features that cannot be measured, by the numbers of their rows among those that were given."""

    def __init__(self, sentence: str, rows: Sequence[Any]) -> None:
        """``sentence`` has ``{rows}`` where they are to be named."""
        self.sentence, self.rows = sentence, rows
        more = f" and {len(rows) - _ROWS_NAMED} more" if len(rows) > _ROWS_NAMED else ""
        listed = ", ".join(str(row) for row in rows[:_ROWS_NAMED])
        super().__init__(sentence.format(rows=f"{'row' if len(rows) == 1 else 'rows'} {listed}{more}"))

    def named(self, names: Sequence[Any]) -> UnusableRowsError:
        """The same, with ``names[row]`` for each row: what it is called where it came from."""
        return UnusableRowsError(self.sentence, [names[row] for row in self.rows])


def row_slices(n: int, size: int = _ROWS_AT_ONCE["cpu"]) -> Iterator[slice]:
    """0..n-1 in parts of ``size`` rows, so that features that are not held are read a part at a time."""
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))


def parts_of(rows: FeatureRows) -> Iterator[slice]:
    """``row_slices`` of rows where they are, as many at once as their device is kept busy with."""
    return row_slices(len(rows), _ROWS_AT_ONCE.get(rows.device.type, _ROWS_AT_ONCE["cpu"]))


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


def check_unit_rows(name: str, rows: FeatureRows) -> float:
    """Refuse features that are not `[N >= 1, d]` finite floating-point rows of unit norm; their largest norm.

    Raises:
        ValueError: naming the shape got, or the numbers of the first offending rows.
    """
    _check_layout(name, rows)
    return _largest_unit_norm(name, torch.cat([_norms(rows[part]) for part in parts_of(rows)]))


def finite_norms(name: str, rows: FeatureRows) -> torch.Tensor:
    """Euclidean norms `[N]` of `[N, d]` rows, fp64 for fp64 rows and fp32 otherwise.

    Raises:
        ValueError: naming the first rows with NaN or infinite values.
    """
    norms = torch.cat([_norms(rows[part]) for part in parts_of(rows)])
    _check_finite(name, norms)
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


def disparity_bound(image_norm: float, text_norm: float) -> float:
    """A bound on every |<x_i,x_k> - <y_i,y_k>| of rows with at most these norms, rounding included."""
    return _SLACK * (image_norm**2 + text_norm**2)


def feature_statistics(image: FeatureRows, text: FeatureRows) -> FeatureStatistics:
    """Check N pairs of unit rows and find their ``FeatureStatistics``, in two passes and O(N d).

    Args:
        image: `[N, d_image]` unit rows.
        text: `[N, d_text]` unit rows on the same device.

    Raises:
        ValueError: on what ``check_unit_rows`` or ``check_same_rows`` refuse.
    """
    check_same_rows(image, text)
    image_norm, image_mean = _norm_and_mean("image", image)
    text_norm, text_mean = _norm_and_mean("text", text)
    return FeatureStatistics(
        largest_disparity=disparity_bound(image_norm, text_norm),
        image_mean=image_mean,
        text_mean=text_mean,
        offsets=_projections(image, image_mean) - _projections(text, text_mean),
    )


def _norm_and_mean(name: str, rows: FeatureRows) -> tuple[float, torch.Tensor]:
    """Largest norm and fp64 mean row `[d]` of unit rows, which are checked, in one pass."""
    _check_layout(name, rows)
    norms, total = [], torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for part in row_slices(len(rows)):
        read = rows[part]
        norms.append(_norms(read))
        total += read.double().sum(dim=0)
    return _largest_unit_norm(name, torch.cat(norms)), total / len(rows)


def _projections(rows: FeatureRows, onto: torch.Tensor) -> torch.Tensor:
    """`[N]` fp64 inner products of the rows with ``onto`` `[d]`."""
    onto = onto.to(_precision(rows.dtype))
    return torch.cat([(rows[part].to(onto.dtype) @ onto).double() for part in row_slices(len(rows))])


def _norms(rows: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(rows, dim=1, dtype=_precision(rows.dtype))


def _precision(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _check_layout(name: str, rows: FeatureRows) -> None:
    if rows.ndim != 2 or len(rows) == 0 or rows.shape[1] == 0:
        raise ValueError(f"{name} has shape {list(rows.shape)}: expected [N, d] with N >= 1 and d >= 1")
    if not rows.dtype.is_floating_point:
        raise ValueError(f"{name} has dtype {rows.dtype}: expected floating-point features")


def _largest_unit_norm(name: str, norms: torch.Tensor) -> float:
    """The largest of `[N]` norms, which are checked; a GPU is waited for once where they are as they should be."""
    least, largest = torch.stack(torch.aminmax(norms)).tolist()
    if not max(largest - 1, 1 - least) <= UNIT_TOLERANCE:  # NaN is not
        _check_finite(name, norms)
        _check_unit(name, norms)
    return largest


def _check_finite(name: str, norms: torch.Tensor) -> None:
    not_finite = ~torch.isfinite(norms)
    if not_finite.any():
        raise UnusableRowsError(
            f"{name} has NaN or infinite values in {{rows}}: expected finite rows", _rows(not_finite)
        )


def _check_unit(name: str, norms: torch.Tensor) -> None:
    not_unit = (norms - 1).abs() > UNIT_TOLERANCE
    if not_unit.any():
        worst = norms[(norms - 1).abs().argmax()].item()
        raise UnusableRowsError(
            f"{name} is not L2-normalised in {{rows}} (a norm of {worst:.4g}): expected norm 1", _rows(not_unit)
        )


def _rows(mask: torch.Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()
