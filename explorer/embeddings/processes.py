"""Several processes of one machine that make the partitions of one extraction.

Each makes every n-th partition as if no uid had been seen before it; the process that began accepts them in their
order, and makes those again that hold a uid of an earlier one. The files are thus those of one process, bit by bit.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.core.progress import OnProgress, Progress, Tally, note
from explorer.embeddings.partitions import finish_partition, pending_path
from explorer.embeddings.store import receipt_path

if TYPE_CHECKING:
    from explorer.embeddings.extraction_settings import ExtractionSettings
    from explorer.embeddings.partition_maker import PartitionMaker
    from explorer.embeddings.universal_extractor import UniversalExtractor
    from explorer.pairs.sources.base import PairSource


@dataclass(frozen=True, kw_only=True)
class Processes:
    """How many processes extract, and where each has its extractor from."""

    count: int
    """In all, this one included; each holds the extractor, and as many threads as this one."""
    load: Callable[[], UniversalExtractor]
    """Makes the extractor in another process; picklable."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"processes are {self.count}: expected at least 1")

    def make_partitions(
        self,
        source: PairSource,
        folder: Path,
        settings: ExtractionSettings,
        workers: int,
        maker: PartitionMaker,
        on_progress: OnProgress,
    ) -> None:
        """Make what is missing; returns when every process is done. What one that failed leaves out stays missing."""
        import torch

        # Forked processes could not use torch's threads, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        given = (source, folder, self.load, settings, workers, torch.get_num_threads(), self.count)
        others = [
            context.Process(target=_make_in_process, args=(*given, index), daemon=True)
            for index in range(1, self.count)
        ]
        for process in others:
            process.start()
        try:
            _make_share(folder, maker, first=0, step=self.count)
            for index, process in enumerate(others, start=1):
                process.join()
                if process.exitcode != 0:
                    told = f"process {index} ended with exit code {process.exitcode}: what it left is made here"
                    on_progress(note(told))
        finally:
            for process in others:
                process.terminate()


def _make_share(folder: Path, maker: PartitionMaker, *, first: int, step: int) -> None:
    """Every ``step``-th partition from ``first`` on that nobody made yet, up to the source's end."""
    for number in count(first, step):
        if receipt_path(folder, number).is_file() or pending_path(folder, number).is_file():
            continue
        partition = maker.make(number, set())
        if partition is None:
            return
        finish_partition(folder, number, partition, pending=True)


def _make_in_process(
    source: PairSource,
    folder: Path,
    load: Callable[[], Any],
    settings: ExtractionSettings,
    workers: int,
    threads: int,
    processes: int,
    index: int,
) -> None:
    """What another process does, for as long as the one that started it lives."""
    import torch

    from explorer.embeddings.partition_maker import PartitionMaker

    def end_with_parent(progress: Progress) -> None:
        if not multiprocessing.parent_process().is_alive():
            raise SystemExit("the process that began the extraction is gone")

    torch.set_num_threads(threads)
    with contextlib.redirect_stderr(io.StringIO()):  # what there is to say, the first process has said
        extractor = load()
    tally = Tally(end_with_parent, "", None, "record")
    _make_share(folder, PartitionMaker(source, extractor, settings, workers, tally), first=index, step=processes)
