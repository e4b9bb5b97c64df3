"""A user's source as the pair set that fine-tuning reads: imported once, beside the run that is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME
from explorer.pairs.counts import COUNTED
from explorer.pairs.pair_import import import_pairs
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.base import Fields, PairSource
from explorer.pairs.sources.detection import open_source

FOLDER_NAME = "pairs"
"""Of the imported pairs in the run's folder."""


def pair_set_or_source(location: Path | str, **options: Any) -> PairSet | PairSource:
    """The pair set at ``location``, or whatever else lies there as a source.

    Args:
        options: how the source is read (see :func:`~explorer.pairs.sources.detection.open_source`).

    Raises:
        FileNotFoundError: if nothing lies there.
        ValueError: if what lies there is neither, or an option is given for a pair set.
    """
    if not (Path(location) / MANIFEST_NAME).is_file():
        return open_source(location, **options)
    fields = options.pop("fields", None) or Fields()
    for name, value in {**options, **fields.as_dict()}.items():
        if value not in (None, "auto"):
            raise ValueError(f"{location} is a pair set and {name} is {value!r}: expected it for other sources only")
    return PairSet.load(location)


def imported_pairs(source: PairSource, run: Path, size: int, *, on_progress: OnProgress = unheard) -> PairSet:
    """The source's usable pairs as a pair set in ``run``; the same call again opens what was imported.

    Args:
        run: folder of the training state.
        size: pixels of the square pictures, as in :func:`~explorer.pairs.pair_import.import_pairs`; take what is
            trained on, since nothing finer is kept.
        on_progress: told how many pairs there are and why others were set aside.

    Raises:
        ValueError: if ``run`` holds pairs of another source or size, another process imports there, or no record is
            usable.
    """
    # Whichever split was asked for: it is what is trained on.
    pairs, _ = import_pairs(source, run / FOLDER_NAME, size=size, split="train", on_progress=on_progress)
    quarantined = pairs.manifest["config"]["quarantined"]
    reasons = "".join(f", {count} {reason}" for reason, count in quarantined.items())
    on_progress(note(f"{pairs.folder}: {len(pairs)} pairs, {sum(quarantined.values())} set aside{reasons}"))
    for name, counts in counted(pairs).items():
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        on_progress(note(f"{name.replace('_', ' ')}: {said or 'none'}"))
    return pairs


def counted(pairs: PairSet) -> dict[str, dict[str, int]]:
    """Where an imported set's captions came from and how its pictures were converted."""
    return {name: pairs.manifest["config"].get(name, {}) for name in COUNTED}
