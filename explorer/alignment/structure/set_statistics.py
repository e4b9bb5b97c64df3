"""Mean rows and second moments of a set in one pass that workers share; of N numbers, none is held."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from explorer.alignment.structure.distance import (
    UNIT_TOLERANCE,
    FeatureRows,
    SetMeans,
    UnusableRowsError,
    check_same_rows,
    check_unit_rows,
    disparity_bound,
    row_slices,
)
from explorer.alignment.structure.fixed_point import FixedPointSums
from explorer.core.progress import counted
from explorer.core.share import Share

ROWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class TwinProducts:
    """X'X, Y'Y and X'Y of a whole set, over N: what the squared twin of every row follows from."""

    image: torch.Tensor
    """fp64 `[d_image, d_image]`."""
    text: torch.Tensor
    """fp64 `[d_text, d_text]`."""
    mixed: torch.Tensor
    """fp64 `[d_image, d_text]`."""

    def means(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """`[n]` mean over all k of (cos_img(i,k) - cos_txt(i,k))^2 of rows `[n, d]`, in their precision."""
        image, text, mixed = (part.to(x) for part in (self.image, self.text, self.mixed))
        return (x @ image * x).sum(1) + (y @ text * y).sum(1) - 2 * (x @ mixed * y).sum(1)


def set_statistics(
    image: FeatureRows, text: FeatureRows, share: Share, *, products: bool
) -> tuple[SetMeans, TwinProducts | None]:
    """Check N pairs of unit rows, each worker its part, and find the set's means and, where asked for, its products.

    Blocks are the same however many workers there are, and add up in fixed point: so are the bits.

    Args:
        image: `[N, d_image]` unit rows.
        text: `[N, d_text]` unit rows on the same device.

    Raises:
        ValueError: on what ``check_unit_rows`` or ``check_same_rows`` refuse.
    """
    check_same_rows(image, text)
    n, widths, device = len(image), (image.shape[1], text.shape[1]), image.device
    means = [FixedPointSums(width, 1.01 * n, device) for width in widths]
    shapes = [(widths[0], widths[0]), (widths[1], widths[1]), widths] if products else []
    moments = [FixedPointSums(height * width, 1.01 * n, device) for height, width in shapes]
    for rows in counted(share.part(list(row_slices(n, ROWS_AT_ONCE))), share.on_progress, "means of the set", "block"):
        x, y = image[rows], text[rows]
        for name, part, total in zip(("image", "text"), (x, y), means, strict=True):
            _check_block(name, part, rows)
            total.add(slice(None), part.sum(dim=0, dtype=torch.float64))
        for total, (left, right) in zip(moments, ((x, x), (y, y), (x, y)), strict=False):
            total.add(slice(None), (left.T @ right).flatten())
    image_mean, text_mean = ((total.value(share) / n).to(device) for total in means)
    largest = disparity_bound(1 + UNIT_TOLERANCE, 1 + UNIT_TOLERANCE)
    found = SetMeans(largest_disparity=largest, image_mean=image_mean, text_mean=text_mean)
    if not products:
        return found, None
    filled = [(total.value(share) / n).view(shape).to(device) for total, shape in zip(moments, shapes, strict=True)]
    return found, TwinProducts(image=filled[0], text=filled[1], mixed=filled[2])


def _check_block(name: str, part: torch.Tensor, rows: slice) -> None:
    try:
        check_unit_rows(name, part)
    except UnusableRowsError as error:
        raise error.named(range(rows.start, rows.stop)) from None
