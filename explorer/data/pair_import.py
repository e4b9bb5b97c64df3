"""From a user's source to a pair set: pictures brought to one size, the unusable records beside it."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from explorer.data.pair_counts import PairCounts
from explorer.data.pair_decoding import Limits, check_caption, decode_image, in_order, set_aside
from explorer.data.pair_set import PairSet, check_free, claim
from explorer.data.pair_source import PairSource, Record
from explorer.data.picture_decoding import Decoded
from explorer.data.quarantine import (
    QUARANTINE_NAME,
    QuarantinedRecord,
    Reason,
    UnusableError,
    count_reasons,
    write_quarantine,
)

if TYPE_CHECKING:
    import pandas

AHEAD = 256
"""Pictures decoded ahead of their turn."""


def import_pairs(
    source: PairSource,
    folder: Path | str,
    *,
    size: int,
    concepts: tuple[str, ...] = (),
    split: str | None = None,
    limits: Limits | None = None,
    workers: int = 2,
) -> tuple[PairSet, list[QuarantinedRecord]]:
    """Write a source's usable pairs as a pair set; what is unusable goes to ``quarantine.parquet`` beside it.

    Pictures wait for each other on disk, where they take twice N * size * size * 3 bytes until all are written.

    Args:
        folder: a new folder.
        size: pixels of the square pictures; the shorter side is resized to it, the middle is cut out.
        concepts: nouns to look for in the captions (see :func:`mentioned_concepts`); none leaves the lists empty.
        split: the same for all pairs; None for each its own, and ``train`` where the source names none.

    Raises:
        ValueError: on a bad size, or concepts that are not different, if ``folder`` holds something, or
            if no record is usable.
    """
    folder = Path(folder)
    limits = limits or Limits()
    if size < 8:
        raise ValueError(f"size is {size}: expected at least 8 pixels")
    mentioned = mentioned_concepts(concepts)
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder.parent) as pixels:  # without a name: nothing of it outlives this process
        kept, quarantined, used = _collect(source, size, limits, workers, pixels)
        counts = count_reasons(quarantined)
        if not kept:
            raise ValueError(_nothing_usable(quarantined, counts))
        claim(folder)
        write_quarantine(folder / QUARANTINE_NAME, quarantined)
        config = {
            "source": source.kind,
            "fingerprint": source.fingerprint(),
            "settings": source.settings(),
            "size": size,
            "limits": limits.as_dict(),
            "concepts": list(concepts),
            "records": len(kept) + len(quarantined),
            "quarantined": counts,
            **used.as_dict(),
            "left_out": dict(source.left_out),
            "poison_recorded": False,
        }
        pixels.flush()
        images = np.memmap(pixels, np.uint8, "r", shape=(len(kept), size, size, 3))
        return PairSet.write(folder, _table(kept, mentioned, split), images, config=config, seed=None), quarantined


def square_thumbnail(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 ``[H, W, 3]`` to ``[size, size, 3]``: the largest square around the middle, resized (bicubic)."""
    from PIL import Image

    height, width = image.shape[:2]
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).crop(box).resize((size, size), Image.Resampling.BICUBIC))


def mentioned_concepts(concepts: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A function from a caption to the concepts it holds as whole words, in the order they are mentioned.

    Case is ignored, inflections are not ("dogs" is no "dog"); of two that overlap the longer is taken ("fire truck"
    before "truck"); a concept is listed once.

    Raises:
        ValueError: if two concepts differ only in case, or one is blank.
    """
    known = {concept.casefold(): concept for concept in concepts}
    if len(known) != len(concepts) or any(not concept.strip() for concept in concepts):
        raise ValueError(f"concepts are {list(concepts)[:10]}: expected different ones, none blank")
    if not known:
        return lambda caption: []
    longest_first = sorted(known, key=lambda name: (-len(name), name))
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    return lambda caption: list(dict.fromkeys(known[name] for name in pattern.findall(caption.casefold())))


def read_concepts(path: Path) -> tuple[str, ...]:
    """Concepts from a text file: one a line; empty lines and lines that begin with ``#`` are passed over.

    Raises:
        ValueError: if there is none.
    """
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    concepts = tuple(line for line in lines if line and not line.startswith("#"))
    if not concepts:
        raise ValueError(f"{path} names no concepts: expected one a line")
    return concepts


def _nothing_usable(quarantined: list[QuarantinedRecord], counts: dict[str, int]) -> str:
    if not quarantined:
        return "no usable pair among 0 records: the source is empty"
    first = quarantined[0]
    return (
        f"no usable pair among {len(quarantined)} records: {counts}; the first, {first.place}: {first.reason}: "
        f"{first.detail}"
    )


def _collect(
    source: PairSource, size: int, limits: Limits, workers: int, pixels: BinaryIO
) -> tuple[list[Record], list[QuarantinedRecord], PairCounts]:
    """The usable records without pictures, whose pixels go to ``pixels`` one after the other, and the unusable ones."""

    def thumbnail(record: Record) -> Decoded | UnusableError:
        if record.problem is not None:
            return record.problem
        check_caption(record.caption, limits)
        shown = decode_image(record.image, limits)
        return replace(shown, pixels=square_thumbnail(shown.pixels, size))

    kept, quarantined, used = [], [], PairCounts()
    seen: set[str] = set()
    for record, outcome in in_order(thumbnail, source.records(), workers=workers, ahead=AHEAD):
        if not isinstance(outcome, UnusableError) and record.uid in seen:
            outcome = UnusableError(Reason.DUPLICATE_UID, "an earlier pair has it")
        if isinstance(outcome, UnusableError):
            quarantined.append(set_aside(record, outcome))
            continue
        seen.add(record.uid)
        pixels.write(outcome.pixels.tobytes())
        used.add(record, outcome.converted)
        kept.append(replace(record, image=None))
    return kept, quarantined, used


def _table(kept: list[Record], mentioned: Callable[[str], list[str]], split: str | None) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(
        {
            "uid": [record.uid for record in kept],
            "caption": [record.caption for record in kept],
            "concepts": [mentioned(record.caption) for record in kept],
            "image_index": np.arange(len(kept)),
            "is_poison": False,
            "poisoned_concept": "",
            "target_concept": "",
            "split": [split or record.split or "train" for record in kept],
            "place": [record.place for record in kept],
            "metadata": [json.dumps(record.metadata, sort_keys=True) for record in kept],
        }
    )
