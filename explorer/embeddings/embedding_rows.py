"""Stored embeddings read row by row, or part by part, without ever being mapped or held together."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


class EmbeddingRows:
    """The partitions of one modality as one array ``[N, d]`` that stays on disk."""

    def __init__(self, partitions: list[np.ndarray]) -> None:
        """``partitions`` are memory-mapped arrays ``[n, d]`` of one width."""
        self._partitions = partitions
        self._ends = np.cumsum([len(part) for part in partitions])
        self.shape = (int(self._ends[-1]), partitions[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: slice | np.ndarray = slice(None)) -> torch.Tensor:
        """Rows as float32 ``[n, d]`` of unit length; stored lengths are off by fp16's rounding, or not 1 at all.

        A row of zeros stays one, and NaN stays NaN: ``alignment_difficulty`` refuses both by their row numbers.

        Raises:
            IndexError: on a row outside ``0..N-1``.
        """
        import torch
        from torch.nn import functional

        return functional.normalize(torch.from_numpy(self.stored(rows)).float(), dim=-1)

    def stored(self, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Rows as they are stored, ``[n, d]``, copied from disk; each partition is read once, in the order it lies in.

        They are read, not mapped: pages of a file that is mapped count as memory of the process.

        Raises:
            IndexError: on a row outside ``0..N-1``.
        """
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        order, ascending = None, np.asarray(rows, dtype=np.int64)
        if len(ascending) > 1 and (np.diff(ascending) < 0).any():
            order = np.argsort(ascending, kind="stable")
            ascending = ascending[order]
        outside = ascending[(ascending < 0) | (ascending >= len(self))]
        if len(outside):
            raise IndexError(f"row {outside[0]} is outside 0..{len(self) - 1}")
        read = np.empty((len(ascending), self.shape[1]), np.result_type(*self._partitions))
        first = 0
        while first < len(ascending):
            index = np.searchsorted(self._ends, ascending[first], side="right")
            end = np.searchsorted(ascending, self._ends[index])
            part = self._partitions[index]
            read[first:end] = _read_rows(part, ascending[first:end] - (self._ends[index] - len(part)))
            first = end
        if order is None:
            return read
        found = np.empty_like(read)
        found[order] = read
        return found

    def batches(self, size: int) -> Iterator[torch.Tensor]:
        """All rows in order, ``size`` at a time, as :meth:`read` gives them."""
        if size < 1:
            raise ValueError(f"size is {size}: expected at least 1")
        for first in range(0, len(self), size):
            yield self.read(slice(first, first + size))


def _read_rows(part: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows ``[n, d]`` of one partition's file, ascending, neighbours in one piece."""
    if not part.flags.c_contiguous:
        return part[rows]
    read = np.empty((len(rows), part.shape[1]), part.dtype)
    edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    with open(part.filename, "rb", buffering=0) as stream:
        for first, end in pairwise(edges):
            if end > first:
                stream.seek(part.offset + int(rows[first]) * part.shape[1] * part.itemsize)
                _fill(stream, memoryview(read[first:end]).cast("B"), part.filename)
    return read


def _fill(stream: io.RawIOBase, buffer: memoryview, name: str) -> None:
    """Read until ``buffer`` is full: one call may return less."""
    while len(buffer):
        count = stream.readinto(buffer)
        if not count:
            raise ValueError(f"{name} ends before its last row: expected a whole .npy file")
        buffer = buffer[count:]


def memory_mapped(path: Path) -> np.ndarray:
    """The array of a .npy file, which stays on disk.

    Raises:
        ValueError: if it is no such file, or holds Python objects.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no readable .npy file: {error}") from error
