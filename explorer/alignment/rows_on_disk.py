"""Stored embeddings as the features that theory takes: on disk, of unit length wherever a part of them is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from explorer.alignment.structure.distance import held_rows

if TYPE_CHECKING:
    import numpy as np

    from explorer.embeddings.store import EmbeddingRows

HELD_SHARE = 0.25
"""Of the memory at hand that features may take; larger ones are read from disk part by part, several times over."""


class RowsOnDisk:
    """Some or all rows of an embedding store as ``[n, d]`` features (``FeatureRows`` of theory).

    Nothing is kept: a part is read, brought to fp32 and unit length, and put on the device each time it is asked for.
    """

    dtype = torch.float32
    ndim = 2

    def __init__(self, stored: EmbeddingRows, rows: np.ndarray | None = None, device: str = "cpu") -> None:
        """``rows`` are the measured rows int64 ``[n]``, ascending; None measures all."""
        self.device = torch.device(device)
        self.shape = (len(stored) if rows is None else len(rows), stored.shape[1])
        self._stored, self._rows = stored, rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """fp32 ``[n, d]`` of unit length on ``device``.

        Raises:
            IndexError: on a row outside ``0..n-1``.
        """
        wanted = rows if isinstance(rows, slice) else rows.cpu().numpy()
        return self._stored.read(wanted if self._rows is None else self._rows[wanted]).to(self.device)

    def to(self, device: str | torch.device) -> RowsOnDisk:
        """The same rows for another device."""
        return RowsOnDisk(self._stored, self._rows, str(device))


def held_within(rows: RowsOnDisk, budget: float) -> RowsOnDisk | torch.Tensor:
    """The rows, held on their device where they take at most ``budget`` bytes and on disk otherwise.

    Both give the same numbers: whoever reads features in parts reads the same parts of either.
    """
    return held_rows(rows, torch.float32) if 4 * rows.shape[0] * rows.shape[1] <= budget else rows
