"""From a user's source to a pair set: pictures brought to one size, the unusable records beside it."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, Tally, note, unheard
from explorer.core.provenance import MANIFEST_NAME, check_files
from explorer.pairs.concept_list import ConceptList, read_utf8
from explorer.pairs.counts import PairCounts
from explorer.pairs.pair_set import PairSet, check_free, claim, write_files
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.quarantine import (
    QUARANTINE_NAME,
    QuarantinedRecord,
    Reason,
    UnusableError,
    count_reasons,
    read_quarantine,
    write_quarantine,
)
from explorer.pairs.sources.base import PairSource, Record
from explorer.pairs.sources.decoding import Limits, check_caption, decode_image, in_order, set_aside
from explorer.pairs.sources.picture_decoding import Decoded

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
    poison: PoisonFields | None = None,
    limits: Limits | None = None,
    workers: int = 2,
    on_progress: OnProgress = unheard,
) -> tuple[PairSet, list[QuarantinedRecord]]:
    """Write a source's usable pairs as a pair set; what is unusable goes to ``quarantine.parquet`` beside it.

    Pictures wait for each other on disk, where they take twice N * size * size * 3 bytes until all are written. The
    same import again opens what is finished.

    Args:
        folder: a new folder.
        size: pixels of the square pictures (see :func:`square_thumbnail`).
        concepts: nouns to look for in the captions (see :func:`mentioned_concepts`); none leaves the lists empty.
        split: the same for all pairs; None for each its own, and ``train`` where the source names none.
        poison: fields of the source that say which pairs are poison; without them it is recorded of none.
        on_progress: told about every record, or that the import was finished before.

    Raises:
        ValueError: on a bad size, or concepts that are not different, if ``folder`` holds something else or an import
            of something else, another process imports there, the source changes meanwhile, no record has a field that
            is named, or none is usable.
    """
    folder, limits, poison = Path(folder), limits or Limits(), poison or PoisonFields()
    if size < 8:
        raise ValueError(f"size is {size}: expected at least 8 pixels")
    mentioned = mentioned_concepts(concepts)
    finished = (folder / MANIFEST_NAME).is_file()
    if not finished:
        check_free(folder)
    config = {
        "source": source.kind,
        "fingerprint": source.fingerprint(),
        "settings": source.settings(),
        "size": size,
        "split": split,
        "limits": limits.as_dict(),
        "concepts": list(concepts),
        "poison_fields": poison.named(),
    }
    if finished:  # without the lock: it is only read, perhaps by several processes
        made = _finished(folder, config)
        on_progress(note(f"{folder} is finished: nothing is imported again"))
        return made, read_quarantine(folder / QUARANTINE_NAME)
    with locked(folder):
        return _import(source, folder, config, limits, mentioned, poison, workers, on_progress)


def _import(
    source: PairSource,
    folder: Path,
    config: dict[str, Any],
    limits: Limits,
    mentioned: Callable[[str], list[str]],
    poison: PoisonFields,
    workers: int,
    on_progress: OnProgress,
) -> tuple[PairSet, list[QuarantinedRecord]]:
    """The import that ``config`` describes, by whoever holds the folder's lock."""
    check_free(folder)
    size = config["size"]
    with tempfile.TemporaryFile(dir=folder) as pixels:  # without a name: nothing of it outlives this process
        records = Tally(on_progress, f"import of {folder.name}", None, "record")
        kept, quarantined, used = _collect(source, size, limits, poison, workers, pixels, records)
        counts = count_reasons(quarantined)
        if not kept:
            raise ValueError(_nothing_usable(quarantined, counts))
        poison.check_present(record.metadata for record in kept)
        if source.fingerprint() != config["fingerprint"]:
            raise ValueError(f"the source changed while it was read into {folder}: expected it to stay as it was")
        claim(folder)
        write_quarantine(folder / QUARANTINE_NAME, quarantined)
        counted = {
            "records": len(kept) + len(quarantined), "quarantined": counts, **used.as_dict(),
            "left_out": dict(source.left_out),
        }  # fmt: skip
        pixels.flush()
        images = np.memmap(pixels, np.uint8, "r", shape=(len(kept), size, size, 3))
        made = write_files(
            folder, _table(kept, mentioned, config["split"], poison), images, config={**config, **counted}, seed=None,
            beside=(QUARANTINE_NAME,),
        )  # fmt: skip
    return made, quarantined


def _finished(folder: Path, wanted: dict[str, Any]) -> PairSet:
    """The set in ``folder``, if the import that ``wanted`` describes made it.

    Raises:
        ValueError: naming what differs.
        ManifestError: if a file of it is not as it was written.
    """
    made, wanted = PairSet.load(folder), json.loads(json.dumps(wanted))
    # Earlier releases did not write these down.
    found = {"split": wanted["split"], "poison_fields": {}, **made.manifest["config"]}
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise ValueError(
            f"{folder} holds a pair set made with another {', '.join(differing)}: expected the same source and options "
            "as before, or a new folder"
        )
    check_files(folder, made.manifest)
    return made


def square_thumbnail(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 ``[H, W, 3]`` to ``[size, size, 3]``: the shorter side resized to ``size`` (bicubic), the middle cut out.

    To the pixel what the evaluation transform of CLIP (torchvision's ``Resize`` and ``CenterCrop``) makes of it.
    """
    sides = (image.shape[1], image.shape[0])
    scaled = tuple(size if side == min(sides) else int(size * side / min(sides)) for side in sides)
    left, top = (round((side - size) / 2) for side in scaled)
    resized = Image.fromarray(image).resize(scaled, Image.Resampling.BICUBIC)
    return np.array(resized.crop((left, top, left + size, top + size)))


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
    """Concepts from a text file: one a line; empty lines and lines that begin with ``#`` are passed over. Or from a
    study's concept list.

    Raises:
        ValueError: if there is none, the file is no UTF-8, or as :meth:`ConceptList.read` does.
    """
    if is_concept_list(path):
        return ConceptList.read(path).names
    lines = (line.strip() for line in read_utf8(path).splitlines())
    concepts = tuple(line for line in lines if line and not line.startswith("#"))
    if not concepts:
        raise ValueError(f"{path} names no concepts: expected one a line")
    return concepts


def is_concept_list(path: Path) -> bool:
    """Whether a text file is a study's concept list: it is called ``.csv``, or its first line has several columns, one
    of which is ``concept``."""
    heads = next(csv.reader(read_utf8(path).splitlines()), [])
    return path.suffix.casefold() == ".csv" or (len(heads) > 1 and "concept" in heads)


def _nothing_usable(quarantined: list[QuarantinedRecord], counts: dict[str, int]) -> str:
    if not quarantined:
        return "no usable pair among 0 records: the source is empty"
    first = quarantined[0]
    return (
        f"no usable pair among {len(quarantined)} records: {counts}; the first, {first.place}: {first.reason}: "
        f"{first.detail}"
    )


def _collect(
    source: PairSource,
    size: int,
    limits: Limits,
    poison: PoisonFields,
    workers: int,
    pixels: BinaryIO,
    records: Tally,
) -> tuple[list[Record], list[QuarantinedRecord], PairCounts]:
    """The usable records without pictures, whose pixels go to ``pixels`` one after the other, and the unusable ones."""

    def thumbnail(record: Record) -> Decoded | UnusableError:
        if record.problem is not None:
            return record.problem
        check_caption(record.caption, limits)
        poison.read(record.metadata)
        shown = decode_image(record.image, limits)
        return replace(shown, pixels=square_thumbnail(shown.pixels, size))

    kept, quarantined, used = [], [], PairCounts()
    seen: set[str] = set()
    for record, outcome in in_order(thumbnail, source.records(), workers=workers, ahead=AHEAD):
        records.add()
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


def _table(
    kept: list[Record], mentioned: Callable[[str], list[str]], split: str | None, poison: PoisonFields
) -> pandas.DataFrame:
    import pandas

    flags, concepts, targets = zip(*(poison.read(record.metadata) for record in kept), strict=True)
    return pandas.DataFrame(
        {
            "uid": [record.uid for record in kept],
            "caption": [record.caption for record in kept],
            "concepts": [mentioned(record.caption) for record in kept],
            "image_index": np.arange(len(kept)),
            "is_poison": pandas.array(flags, dtype="boolean"),
            "poisoned_concept": pandas.array(concepts, dtype="str"),
            "target_concept": pandas.array(targets, dtype="str"),
            "split": [split or record.split or "train" for record in kept],
            "place": [record.place for record in kept],
            "metadata": [json.dumps(record.metadata, sort_keys=True) for record in kept],
        }
    )
