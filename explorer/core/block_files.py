"""Large arrays as files of a few hundred rows each: filled by several processes, resumable, read memory-mapped.

A block is written whole and then renamed, so a block that exists is finished, and a cut-off run goes on at the first
block that does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.progress import OnProgress, counted, unheard
from explorer.core.provenance import MANIFEST_NAME, hash_json, read_manifest, replacing, write_manifest
from explorer.core.workers import PATIENCE_HOURS

KIND = "encoded"
BLOCK_ROWS = 256
HELD_BYTES = 2 * 2**30
"""Up to which a whole array is held in memory."""
WAIT_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class BlockFiles:
    """Arrays ``names`` of ``rows`` rows each, made from what ``config`` says and kept under ``root``.

    Raises:
        ValueError: if there are no rows: of an empty array nobody knows the shape.
    """

    root: Path
    config: dict[str, Any]
    """Everything that decides the values; the folder is named by its hash."""
    names: tuple[str, ...]
    rows: int
    dtype: str = "float16"
    """What they are kept as."""
    block_rows: int = BLOCK_ROWS
    """Rows of every file but the last: what a killed run loses."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows of {', '.join(self.names)} are {self.rows}: expected 1 or more")

    @property
    def key(self) -> str:
        """Names the content: 16 hex digits."""
        kept_as = {} if self.dtype == "float16" else {"dtype": self.dtype}
        return hash_json({"config": self.config, "rows": self.rows, "block_rows": self.block_rows, **kept_as})[:16]

    @property
    def folder(self) -> Path:
        """Where the blocks lie."""
        return self.root / self.key

    def path(self, name: str, block: int) -> Path:
        """The file of one block of one array."""
        return self.folder / f"{name}-{block:05d}.npy"

    def blocks(self) -> range:
        """Numbers of all blocks."""
        return range(-(-self.rows // self.block_rows))

    def rows_of(self, block: int) -> range:
        """The rows that one block holds."""
        return range(block * self.block_rows, min(self.rows, (block + 1) * self.block_rows))

    def missing(self) -> list[int]:
        """Numbers of the blocks that are still to be made."""
        return [block for block in self.blocks() if not self._is_there(block)]

    def fill(
        self,
        encode: Callable[[range], dict[str, np.ndarray]],
        *,
        rank: int = 0,
        processes: int = 1,
        on_progress: OnProgress = unheard,
        task: str = "encoding",
    ) -> None:
        """Make what is missing; returns when everything is there, in every process.

        Args:
            encode: the arrays of a range of rows, by name.
            rank: this process makes the blocks ``rank, rank + processes, ...``; the first writes the manifest.
            on_progress: told about every block of this process, under the name ``task``.

        Raises:
            ValueError: naming an array with values that its type cannot hold, or if what other processes make does not
                appear within ``PATIENCE_HOURS``.
        """
        if (self.folder / MANIFEST_NAME).is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for block in counted(self.blocks()[rank::processes], on_progress, task, "block"):
            if not self._is_there(block):
                self._write(block, encode(self.rows_of(block)))
        # By files rather than by a barrier, whose time limit an hour of encoding would exceed.
        if rank == 0:
            self._wait(lambda: all(self._is_there(block) for block in self.blocks()))
            files = [self.path(name, block).name for name in self.names for block in self.blocks()]
            write_manifest(self.folder, kind=KIND, config=self.config, seed=None, files=files)
        self._wait((self.folder / MANIFEST_NAME).is_file)

    def open(self) -> dict[str, BlockArray]:
        """The filled arrays by name, memory-mapped.

        Raises:
            ManifestError: if they were never filled.
        """
        read_manifest(self.folder, kind=KIND)
        return {
            name: BlockArray([np.load(self.path(name, block), mmap_mode="r", allow_pickle=False)
                              for block in self.blocks()])
            for name in self.names
        }  # fmt: skip

    def _wait(self, finished: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_HOURS * 3600
        while not finished():
            if time.monotonic() > deadline:
                raise ValueError(
                    f"{self.folder} lacks files of other processes after {PATIENCE_HOURS} hours: expected a cache "
                    "folder on storage that all machines share"
                )
            time.sleep(WAIT_SECONDS)

    def _is_there(self, block: int) -> bool:
        return all(self.path(name, block).is_file() for name in self.names)

    def _write(self, block: int, arrays: dict[str, np.ndarray]) -> None:
        for name in self.names:
            with np.errstate(over="ignore"):  # reported below, by name
                stored = arrays[name].astype(self.dtype)
            if not np.isfinite(stored).all():
                first = self.rows_of(block).start
                raise ValueError(f"{name} has values beyond {self.dtype} or NaN in rows {first} and after")
            path = self.path(name, block)
            with replacing(path) as temporary, open(temporary, "wb") as stream:
                np.save(stream, stored, allow_pickle=False)


class BlockArray:
    """Rows of memory-mapped blocks, picked by number; a small array is held in memory, where picking takes no time."""

    def __init__(self, blocks: list[np.ndarray]) -> None:
        """Every block but the last has as many rows as the first."""
        self.blocks, self._block_rows = blocks, len(blocks[0])
        self.held = np.concatenate(blocks) if sum(block.nbytes for block in blocks) <= HELD_BYTES else None

    def __len__(self) -> int:
        return self._block_rows * (len(self.blocks) - 1) + len(self.blocks[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """``[n, ...]``, as they are kept, for int ``[n]``."""
        if self.held is not None:
            return self.held[rows]
        return np.stack([self.blocks[row // self._block_rows][row % self._block_rows] for row in rows.tolist()])
