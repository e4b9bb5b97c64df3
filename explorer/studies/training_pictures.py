"""One training picture of a concept, from where an arm's pairs lie: nothing is embedded, no model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from explorer.core.poison_record import NO_POISON
from explorer.pairs.pair_import import mentioned_concepts
from explorer.pairs.pair_set import PairSet
from explorer.pairs.quarantine import UnusableError
from explorer.pairs.sources.decoding import Limits, decode_image
from explorer.pairs.sources.detection import open_source
from explorer.studies.captions import MOST_CAPTIONS
from explorer.studies.pairs_found import PAIR_SET, pairs_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from explorer.studies.study import Arm

CANDIDATES = 64
"""Pictures of a source that one is drawn from: its first that fit, so that not all of it is read."""
STREAM = 403
"""Of random numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPicture:
    """Of one pair."""

    pixels: np.ndarray
    """uint8 ``[H, W, 3]``, as large as it is kept."""
    caption: str
    known_benign: bool
    """Whether somebody recorded that the pair, or all of the arm's, is no poison."""


def training_picture(arm: Arm, concept: str, concepts: Sequence[str], seed: int) -> TrainingPicture:
    """A picture whose caption names ``concept``, and no other of ``concepts`` if there is such a one; no known poison.

    Args:
        arm: of pairs that :func:`~explorer.studies.pairs_found.keeps_pictures`.
        concepts: of the study, among them ``concept``.
        seed: draws among those that fit.

    Raises:
        FileNotFoundError: if the pairs are not where the study says.
        ValueError: if no caption names the concept, or as :meth:`~explorer.pairs.pair_set.PairSet.load`.
    """
    mentioned, random = mentioned_concepts(tuple(concepts)), np.random.default_rng([seed, STREAM])
    found = (_of_pair_set if pairs_kind(arm.pairs) == PAIR_SET else _of_source)(arm, concept, mentioned, random)
    return replace(found, known_benign=True) if arm.poison == NO_POISON else found


def _of_pair_set(
    arm: Arm, concept: str, mentioned: Callable[[str], list[str]], random: np.random.Generator
) -> TrainingPicture:
    pairs = PairSet.load(arm.pairs)
    flags = pairs.flags
    rows = pairs.training_rows[~flags.poisoned[pairs.training_rows]]
    captions = pairs.table["caption"].to_numpy()[rows]
    named = [mentioned(caption) for caption in captions]
    chosen = int(random.choice(_fitting(named, concept, pairs.folder)))
    return TrainingPicture(
        pixels=pairs.read_images(rows[[chosen]])[0], caption=captions[chosen],
        known_benign=bool(flags.benign[rows[chosen]]),
    )  # fmt: skip


def _of_source(
    arm: Arm, concept: str, mentioned: Callable[[str], list[str]], random: np.random.Generator
) -> TrainingPicture:
    found = []
    for record in islice(open_source(arm.pairs, **vars(arm.reading)).records(), MOST_CAPTIONS):
        if record.problem is not None or concept not in mentioned(record.caption):
            continue
        try:
            flag, *_ = arm.poison_fields.read(record.metadata)
            if flag:
                continue
            pixels = decode_image(record.image, Limits()).pixels
        except UnusableError:  # an import would set it aside
            continue
        found.append(TrainingPicture(pixels=pixels, caption=record.caption, known_benign=flag is False))
        if len(found) == CANDIDATES:
            break
    named = [mentioned(each.caption) for each in found]
    return found[int(random.choice(_fitting(named, concept, arm.pairs)))]


def _fitting(named: list[list[str]], concept: str, place: Path | str) -> list[int]:
    """Positions of the captions that name the concept alone; of those that name it where none does."""
    naming = [at for at, names in enumerate(named) if concept in names]
    if not naming:
        raise ValueError(
            f"no caption of {place} names {concept!r}: expected one (the first {MOST_CAPTIONS:,} were read)"
        )
    return [at for at in naming if len(named[at]) == 1] or naming
