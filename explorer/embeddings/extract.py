"""Embeddings of a user's pairs: resumable, decoding beside encoding, bit-identical however often it was stopped.

A partition is a fixed number of *source records*, so that where it begins does not depend on what was set aside
before it. What it leaves on disk is the business of :mod:`~explorer.embeddings.partitions`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, Tally, note, unheard
from explorer.core.provenance import MANIFEST_NAME
from explorer.embeddings.extraction_settings import ExtractionSettings
from explorer.embeddings.partition_maker import PartitionMaker
from explorer.embeddings.partitions import (
    accept_partition,
    begin_extraction,
    finish_extraction,
    finish_partition,
    finished_partitions,
)
from explorer.embeddings.processes import Processes
from explorer.embeddings.store import EmbeddingStore
from explorer.pairs.sources.base import PairSource

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor


def extract_embeddings(
    source: PairSource,
    folder: Path | str,
    extractor: UniversalExtractor,
    settings: ExtractionSettings | None = None,
    *,
    workers: int = 2,
    processes: Processes | None = None,
    on_progress: OnProgress = unheard,
) -> EmbeddingStore:
    """Write fp16 unit embeddings of every usable pair in clip-retrieval's layout; run it again to resume.

    On the same device and with the same number of threads the files are the same, bit by bit, whether the extraction
    ran through or was killed at any time. A caption that the extractor's tokenizer refuses as too long is set aside;
    open_clip's own tokenizers cut long captions instead. The uids of all kept pairs are held in memory, to find
    duplicates.

    Args:
        folder: a new folder, or one where the same extraction was begun.
        workers: threads of each process that decode; they change no bit of the result.
        processes: further processes that make partitions, too; they change no bit of the result. None is this alone.
        on_progress: told about each encoded batch and each finished partition.

    Raises:
        ValueError: if ``folder`` was begun with something else (what differs is named), another process writes there
            (it is named), the source is empty or changes meanwhile, or none of its first partition's pairs has a field
            that is to say which are poison.
    """
    folder, settings = Path(folder), (settings or ExtractionSettings()).squared_for(extractor)
    plan = _plan(source, extractor, settings)
    if (folder / MANIFEST_NAME).is_file() and not begin_extraction(folder, plan):
        return EmbeddingStore.open(folder)  # finished: nothing is written, and it may be read-only
    with locked(folder):
        if begin_extraction(folder, plan):
            tally = Tally(on_progress, f"embedding into {folder.name}", None, "record")
            maker = PartitionMaker(source, extractor, settings, workers, tally)
            if processes is not None:
                processes.make_partitions(source, folder, settings, workers, maker, on_progress)
            _extract(source, folder, plan, maker, on_progress)
    return EmbeddingStore.open(folder)


def _extract(
    source: PairSource,
    folder: Path,
    plan: dict[str, Any],
    maker: PartitionMaker,
    on_progress: OnProgress,
) -> None:
    """Accept partitions that other processes made, make those that are missing, and write the manifest."""
    receipts, seen = finished_partitions(folder)
    if receipts:
        on_progress(note(f"{len(receipts)} partitions are finished"))
    while True:
        number = len(receipts)
        receipt = accept_partition(folder, number, seen)
        if receipt is None:
            chunk = maker.make(number, seen)
            if chunk is None:
                break
            receipt = finish_partition(folder, number, chunk)
        receipts.append(receipt)
        aside = sum(receipt["quarantined"].values())
        on_progress(note(f"partition {number}: {receipt['pairs']} pairs, {aside} set aside"))
    if not receipts:
        raise ValueError(f"the source of kind {source.kind} holds no records: expected at least one")
    if source.fingerprint() != plan["source"]["fingerprint"]:
        raise ValueError(f"the source changed while it was read into {folder}: expected it to stay as it was")
    finish_extraction(folder, plan, receipts)


def _plan(source: PairSource, extractor: UniversalExtractor, settings: ExtractionSettings) -> dict[str, Any]:
    """Everything that decides the result, JSON-serialisable."""
    return {
        "extractor": {
            "name": extractor.name,
            "identity": extractor.identity,
            "preparation": extractor.preparation,
            "feature_range": None if extractor.feature_range is None else list(extractor.feature_range),
            "device": torch.device(extractor.device).type,
        },
        "source": {**source.settings(), "left_out": dict(source.left_out), "fingerprint": source.fingerprint()},
        "settings": settings.as_dict(),
    }
