"""Stored embeddings read row by row, or part by part, without ever being mapped or held together."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib import format as npy

if TYPE_CHECKING:
    import torch
    from upath import UPath


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
        read = np.empty((len(ascending), self.shape[1]), np.result_type(*(part.dtype for part in self._partitions)))
        first = 0
        while first < len(ascending):
            index = np.searchsorted(self._ends, ascending[first], side="right")
            end = np.searchsorted(ascending, self._ends[index])
            part = self._partitions[index]
            read[first:end] = read_rows(part, ascending[first:end] - (self._ends[index] - len(part)))
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


@dataclass(frozen=True, kw_only=True)
class FarArray:
    """The array of a .npy file at an address, of which rows are read and nothing else."""

    path: UPath
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    """Byte of the first row."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @staticmethod
    def open(path: UPath) -> FarArray:
        """Reads the header.

        Raises:
            ValueError: if it is none, or rows do not lie one after the other.
        """
        with path.open("rb") as stream:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
            shape, by_columns, dtype = read(stream)
            if dtype.hasobject or (by_columns and len(shape) > 1):
                raise ValueError(f"it holds {dtype} {list(shape)}, by columns: {by_columns}; expected numbers by rows")
            return FarArray(path=path, shape=shape, dtype=dtype, offset=stream.tell())


def read_rows(part: np.memmap | FarArray, rows: np.ndarray) -> np.ndarray:
    """Rows ``[n, ...]`` of one partition's file, ascending, neighbours in one piece."""
    if isinstance(part, np.memmap) and not part.flags.c_contiguous:
        return part[rows]
    read = np.empty((len(rows), *part.shape[1:]), part.dtype)
    row_bytes = part.dtype.itemsize * math.prod(part.shape[1:])
    edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    near = isinstance(part, np.memmap)
    with open(part.filename, "rb", buffering=0) if near else part.path.open("rb") as stream:
        for first, end in pairwise(edges):
            if end > first:
                stream.seek(part.offset + int(rows[first]) * row_bytes)
                _fill(stream, memoryview(read[first:end]).cast("B"), str(part.filename if near else part.path))
    return read


def _fill(stream: io.RawIOBase, buffer: memoryview, name: str) -> None:
    """Read until ``buffer`` is full: one call may return less."""
    while len(buffer):
        count = stream.readinto(buffer)
        if not count:
            raise ValueError(f"{name} ends before its last row: expected a whole .npy file")
        buffer = buffer[count:]


def memory_mapped(path: Path | UPath) -> np.memmap | FarArray:
    """The array of a .npy file, which stays on disk, or at its address.

    Raises:
        ValueError: if it is no such file, or holds Python objects.
    """
    try:
        if not isinstance(path, Path):
            return FarArray.open(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise ValueError(f"{path} is no readable .npy file: {error}") from error
