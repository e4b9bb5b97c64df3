"""Thumbnails of a store's pairs: one uint8 file a partition, row-aligned with the embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from explorer.embeddings.embedding_rows import memory_mapped, read_rows


class ThumbnailRows:
    """The thumbnails ``[N, side, side, 3]`` of all partitions, which stay on disk."""

    def __init__(self, paths: list[Path], pairs: list[int]) -> None:
        """``paths`` are the partitions' files, at least one; ``pairs`` says how many pairs each partition has.

        Raises:
            ValueError: naming the file that cannot be read or holds something else.
        """
        self._partitions = [_memory_mapped(path) for path in paths]
        self.side = self._partitions[0].shape[1]
        for path, part, expected in zip(paths, self._partitions, pairs, strict=True):
            if part.shape != (shape := (expected, self.side, self.side, 3)) or part.dtype != np.uint8:
                raise ValueError(f"{path} is {part.dtype} {list(part.shape)}: expected uint8 {list(shape)}")
        self._ends = np.cumsum(pairs)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Those of the pairs at ``rows``, int ``[n]`` in 0..N-1: uint8 ``[n, side, side, 3]``."""
        found = np.empty((len(rows), self.side, self.side, 3), np.uint8)
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(numbers).tolist():
            part, chosen = self._partitions[number], numbers == number
            wanted, places = np.unique(rows[chosen] - (self._ends[number] - len(part)), return_inverse=True)
            found[chosen] = read_rows(part, wanted)[places]
        return found


def _memory_mapped(path: Path) -> np.ndarray:
    array = memory_mapped(path)
    if array.ndim != 4:
        raise ValueError(f"{path} is {array.dtype} {list(array.shape)}: expected uint8 [n, side, side, 3]")
    return array
