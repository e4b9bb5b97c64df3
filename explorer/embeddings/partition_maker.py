"""Partitions of a source: its records decoded beside the encoder, judged, and encoded in batches."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from explorer.core.progress import Tally
from explorer.embeddings.caption_rows import CaptionRows, encode_units
from explorer.embeddings.extraction_settings import ExtractionSettings
from explorer.embeddings.partitions import Partition
from explorer.pairs.counts import PairCounts
from explorer.pairs.pair_import import square_thumbnail
from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import PairSource, Record
from explorer.pairs.sources.decoding import check_caption, decode_image, in_order, set_aside

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A decoded picture."""

    pixels: torch.Tensor
    """The image tower's input ``[3, H, W]``."""
    converted: tuple[str, ...]
    """How it was converted for that."""
    thumbnail: np.ndarray | None
    """uint8 ``[side, side, 3]``; None where none are kept."""


Outcome = tuple[Record, Prepared | UnusableError]
"""A record with its picture, or why it is unusable."""


class PartitionMaker:
    """Makes the partitions of one source, in any order; cheapest in ascending order."""

    def __init__(
        self,
        source: PairSource,
        extractor: UniversalExtractor,
        settings: ExtractionSettings,
        workers: int,
        tally: Tally,
    ) -> None:
        """``workers`` threads decode ahead of the encoder; ``tally`` counts records."""
        self._source, self._extractor, self._settings = source, extractor, settings
        self._workers, self._tally = workers, tally
        self._records: Iterator[Record] = iter(())
        self._next: int | None = None

    def make(self, number: int, seen: set[str]) -> Partition | None:
        """Partition ``number``; None where the source ends before it. Adds kept uids to ``seen``.

        Raises:
            ValueError: if no pair of the first partition has a field that is to say which are poison.
        """
        size = self._settings.partition_size
        if self._next is None or number < self._next:
            self._records = self._source.records(number * size)
        else:  # those of other processes are read over: their headers alone would have to be read from the first on
            skipped = (number - self._next) * size
            next(islice(self._records, skipped, skipped), None)
        self._next = number + 1
        outcomes = self._outcomes(islice(self._records, size))
        try:
            made = self._encoded(outcomes, seen)
        finally:
            outcomes.close()
        if number == 0 and made is not None and made.kept:
            self._settings.poison.check_present(record.metadata for record in made.kept)
        return made

    def _outcomes(self, records: Iterator[Record]) -> Generator[Outcome]:
        """Records decoded and preprocessed ahead of the encoder."""
        settings = self._settings

        def prepared(record: Record) -> Prepared | UnusableError:
            if record.problem is not None:
                return record.problem
            check_caption(record.caption, settings.limits)
            settings.poison.read(record.metadata)
            shown = decode_image(record.image, settings.limits)
            picture = shown.pixels if settings.size is None else square_thumbnail(shown.pixels, settings.size)
            return Prepared(
                pixels=self._extractor.preprocess(picture[None])[0],
                converted=shown.converted,
                thumbnail=None if settings.thumbnails is None else square_thumbnail(shown.pixels, settings.thumbnails),
            )

        return in_order(prepared, records, workers=self._workers, ahead=2 * settings.batch_size)

    def _encoded(self, outcomes: Iterator[Outcome], seen: set[str]) -> Partition | None:
        extractor, settings = self._extractor, self._settings
        records, kept, quarantined, used = 0, [], [], PairCounts()
        captions, images, thumbnails, caption_rows = CaptionRows(extractor), [], [], []
        # A batch is a fixed number of source records, too: the same records meet in it after every restart.
        while batch := list(islice(outcomes, settings.batch_size)):
            records += len(batch)
            self._tally.add(len(batch))
            captions.encode([record.caption for record, outcome in batch if not isinstance(outcome, UnusableError)])
            inputs = []
            for record, outcome in batch:
                usable = _judged(record, outcome, captions, seen)
                if isinstance(usable, UnusableError):
                    quarantined.append(set_aside(record, usable))
                    continue
                seen.add(record.uid)
                kept.append(replace(record, image=None))
                inputs.append(outcome.pixels)
                thumbnails.append(outcome.thumbnail)
                used.add(record, outcome.converted)
                caption_rows.append(usable)
            if inputs:
                images.append(encode_units(extractor, extractor.clip.encode_image, torch.stack(inputs)))
        if records == 0:
            return None
        # On a GPU the encoder runs on while the next batch is gathered; only here are its results waited for.
        text = captions.features()[caption_rows].cpu().numpy()
        return Partition(
            records=records,
            image=torch.cat(images).cpu().numpy() if images else np.empty_like(text),
            text=text,
            thumbnails=_stacked(thumbnails, settings.thumbnails),
            kept=kept,
            quarantined=quarantined,
            used=used,
            cut_captions=sum(captions.is_cut(record.caption) for record in kept),
        )


def _stacked(thumbnails: list[np.ndarray], side: int | None) -> np.ndarray | None:
    if side is None:
        return None
    return np.stack(thumbnails) if thumbnails else np.empty((0, side, side, 3), np.uint8)


def _judged(
    record: Record, outcome: Prepared | UnusableError, captions: CaptionRows, seen: set[str]
) -> int | UnusableError:
    """The row of the record's caption, or why the record is unusable."""
    if isinstance(outcome, UnusableError):
        return outcome
    if record.uid in seen:
        return UnusableError(Reason.DUPLICATE_UID, "an earlier pair has it")
    return captions.row(record.caption)
