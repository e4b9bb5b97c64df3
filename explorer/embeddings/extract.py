"""Embeddings of a user's pairs: resumable, decoding beside encoding, bit-identical however often it was stopped.

A partition is a fixed number of *source records*, so that where it begins does not depend on what was set aside
before it. What it leaves on disk is the business of :mod:`~explorer.embeddings.partitions`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, Tally, note, unheard
from explorer.core.provenance import MANIFEST_NAME
from explorer.embeddings.caption_rows import CaptionRows, encode_units
from explorer.embeddings.extraction_settings import ExtractionSettings
from explorer.embeddings.partitions import (
    Partition,
    begin_extraction,
    finish_extraction,
    finish_partition,
    finished_partitions,
)
from explorer.embeddings.store import EmbeddingStore
from explorer.pairs.counts import PairCounts
from explorer.pairs.pair_import import square_thumbnail
from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import PairSource, Record
from explorer.pairs.sources.decoding import check_caption, decode_image, in_order, set_aside

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor

Prepared = tuple["torch.Tensor", tuple[str, ...]]
"""A picture as the image tower's input ``[3, H, W]``, and how it was converted for that."""
Outcome = tuple[Record, "Prepared | UnusableError"]
"""A record with its picture, or why it is unusable."""


def extract_embeddings(
    source: PairSource,
    folder: Path | str,
    extractor: UniversalExtractor,
    settings: ExtractionSettings | None = None,
    *,
    workers: int = 2,
    on_progress: OnProgress = unheard,
) -> EmbeddingStore:
    """Write fp16 unit embeddings of every usable pair in clip-retrieval's layout; run it again to resume.

    On the same device and with the same number of threads the files are the same, bit by bit, whether the extraction
    ran through or was killed at any time. A caption that the extractor's tokenizer refuses as too long is set aside;
    open_clip's own tokenizers cut long captions instead. The uids of all kept pairs are held in memory, to find
    duplicates.

    Args:
        folder: a new folder, or one where the same extraction was begun.
        workers: threads that decode; they change no bit of the result.
        on_progress: told about each encoded batch and each finished partition.

    Raises:
        ValueError: if ``folder`` was begun with something else (what differs is named), another process writes there
            (it is named), or the source is empty or changes meanwhile.
    """
    folder, settings = Path(folder), (settings or ExtractionSettings()).squared_for(extractor)
    plan = _plan(source, extractor, settings)
    if (folder / MANIFEST_NAME).is_file() and not begin_extraction(folder, plan):
        return EmbeddingStore.open(folder)  # finished: nothing is written, and it may be read-only
    with locked(folder):
        if begin_extraction(folder, plan):
            _extract(source, folder, extractor, settings, plan, workers, on_progress)
    return EmbeddingStore.open(folder)


def _extract(
    source: PairSource,
    folder: Path,
    extractor: UniversalExtractor,
    settings: ExtractionSettings,
    plan: dict[str, Any],
    workers: int,
    on_progress: OnProgress,
) -> None:
    """Write the partitions that are missing, and then the manifest."""
    receipts, seen = finished_partitions(folder)
    if receipts:
        on_progress(note(f"{len(receipts)} partitions are finished"))
    records = Tally(on_progress, f"embedding into {folder.name}", None, "record")
    outcomes = _outcomes(source, extractor, settings, len(receipts) * settings.partition_size, workers)
    try:
        while chunk := _next_partition(outcomes, extractor, settings, seen, records):
            receipts.append(finish_partition(folder, len(receipts), chunk))
            told = f"partition {len(receipts) - 1}: {len(chunk.kept)} pairs, {len(chunk.quarantined)} set aside"
            on_progress(note(told))
    finally:
        outcomes.close()
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


def _outcomes(
    source: PairSource, extractor: UniversalExtractor, settings: ExtractionSettings, start: int, workers: int
) -> Generator[Outcome]:
    """Records from number ``start`` on, decoded and preprocessed ahead of the encoder."""
    size = settings.size

    def prepared(record: Record) -> Prepared | UnusableError:
        if record.problem is not None:
            return record.problem
        check_caption(record.caption, settings.limits)
        shown = decode_image(record.image, settings.limits)
        picture = shown.pixels if size is None else square_thumbnail(shown.pixels, size)
        return extractor.preprocess(picture[None])[0], shown.converted

    return in_order(prepared, source.records(start), workers=workers, ahead=2 * settings.batch_size)


def _next_partition(
    outcomes: Iterator[Outcome],
    extractor: UniversalExtractor,
    settings: ExtractionSettings,
    seen: set[str],
    tally: Tally,
) -> Partition | None:
    """Encode the next ``partition_size`` records; None where the source is at its end. Adds kept uids to ``seen``."""
    records, kept, quarantined, used = 0, [], [], PairCounts()
    captions, images, caption_rows = CaptionRows(extractor), [], []
    of_partition = islice(outcomes, settings.partition_size)
    # A batch is a fixed number of source records, too: the same records meet in it after every restart.
    while batch := list(islice(of_partition, settings.batch_size)):
        records += len(batch)
        tally.add(len(batch))
        captions.encode([record.caption for record, outcome in batch if not isinstance(outcome, UnusableError)])
        inputs = []
        for record, outcome in batch:
            usable = _judged(record, outcome, captions, seen)
            if isinstance(usable, UnusableError):
                quarantined.append(set_aside(record, usable))
                continue
            seen.add(record.uid)
            kept.append(replace(record, image=None))
            inputs.append(outcome[0])
            used.add(record, outcome[1])
            caption_rows.append(usable)
        if inputs:
            images.append(encode_units(extractor, extractor.clip.encode_image, torch.stack(inputs)))
    if records == 0:
        return None
    # On a GPU the encoder runs on while the next batch is gathered; only here are its results waited for.
    text = captions.features()[caption_rows].cpu().numpy()
    image = torch.cat(images).cpu().numpy() if images else np.empty_like(text)
    cut = sum(captions.is_cut(record.caption) for record in kept)
    return Partition(
        records=records, image=image, text=text, kept=kept, quarantined=quarantined, used=used, cut_captions=cut
    )


def _judged(
    record: Record, outcome: Prepared | UnusableError, captions: CaptionRows, seen: set[str]
) -> int | UnusableError:
    """The row of the record's caption, or why the record is unusable."""
    if isinstance(outcome, UnusableError):
        return outcome
    if record.uid in seen:
        return UnusableError(Reason.DUPLICATE_UID, "an earlier pair has it")
    return captions.row(record.caption)
