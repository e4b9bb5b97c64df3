"""Training pictures of concepts, from where an arm's pairs lie: nothing is embedded, no model is loaded.

Captions are gone through once for all concepts; what is kept are the places of those that name each.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
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
    from collections.abc import Sequence

    from explorer.pairs.sources.base import PairSource, Record
    from explorer.studies.study import Arm

CANDIDATES = 64
"""Pairs of a source that one is drawn from: the first that name the concept, so that not all of it is read."""
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


class TrainingPictures:
    """Those of an arm's pairs, as they were when this was made.

    What is held in memory is five bytes for each concept that a caption names, and the picture that was asked for last.
    """

    def __init__(self, arm: Arm, concepts: Sequence[str]) -> None:
        """
        Args:
            arm: of pairs that :func:`~explorer.studies.pairs_found.keeps_pictures`.
            concepts: of the study: captions are searched for them.
        """
        self._arm, self._concepts = arm, tuple(concepts)
        self._last: tuple[tuple[str, int], TrainingPicture] | None = None

    def picture(self, concept: str, seed: int) -> TrainingPicture:
        """A picture whose caption names ``concept``, and no other concept if there is such a one; no known poison.

        Args:
            seed: draws among those that fit.

        Raises:
            FileNotFoundError: if the pairs are not where the study says.
            ValueError: if no caption names the concept, or as :meth:`~explorer.pairs.pair_set.PairSet.load`.
        """
        if self._last is None or self._last[0] != (concept, seed):
            found = self._pairs.draw(concept, np.random.default_rng([seed, STREAM]))
            benign = {"known_benign": True} if self._arm.poison == NO_POISON else {}
            self._last = (concept, seed), replace(found, **benign)
        return self._last[1]

    @cached_property
    def _pairs(self) -> _SetCaptions | _SourceCaptions:
        kind = _SetCaptions if pairs_kind(self._arm.pairs) == PAIR_SET else _SourceCaptions
        return kind(self._arm, self._concepts)


class _Captions:
    """Where captions name concepts: the places of all that name one, and whether they name it alone."""

    def __init__(self, arm: Arm, concepts: tuple[str, ...]) -> None:
        self._arm, self._mentioned = arm, mentioned_concepts(concepts)
        self._places: dict[str, array] = defaultdict(lambda: array("i"))
        self._alone: dict[str, bytearray] = defaultdict(bytearray)

    def _add(self, place: int, caption: str) -> None:
        named = self._mentioned(caption)
        for concept in named:
            self._places[concept].append(place)
            self._alone[concept].append(len(named) == 1)

    def _fitting(self, concept: str, part: slice) -> tuple[list[int], list[int]]:
        """Of the places in ``part`` of all that name the concept: those that name it alone, and the others."""
        pairs = list(zip(self._places.get(concept, ())[part], self._alone.get(concept, ())[part], strict=True))
        return [place for place, alone in pairs if alone], [place for place, alone in pairs if not alone]

    def _none_names(self, concept: str) -> ValueError:
        return ValueError(
            f"no caption of {self._arm.pairs} names {concept!r}: expected one (the first {MOST_CAPTIONS:,} were read)"
        )


class _SetCaptions(_Captions):
    """Of a pair set, whose training captions are all read at once."""

    def __init__(self, arm: Arm, concepts: tuple[str, ...]) -> None:
        super().__init__(arm, concepts)
        pairs = PairSet.load(arm.pairs)
        rows = pairs.training_rows[~pairs.flags.poisoned[pairs.training_rows]]
        for row, caption in zip(rows.tolist(), pairs.table["caption"].to_numpy()[rows], strict=True):
            self._add(row, caption)

    def draw(self, concept: str, random: np.random.Generator) -> TrainingPicture:
        """One of those that fit."""
        alone, others = self._fitting(concept, slice(None))
        if not (alone or others):
            raise self._none_names(concept)
        row, pairs = int(random.choice(alone or others)), PairSet.load(self._arm.pairs)
        return TrainingPicture(
            pixels=pairs.read_images(np.array([row]))[0], caption=pairs.table["caption"].iloc[row],
            known_benign=bool(pairs.flags.benign[row]),
        )  # fmt: skip


class _SourceCaptions(_Captions):
    """Of a source, read from its beginning as far as it had to be so far."""

    def __init__(self, arm: Arm, concepts: tuple[str, ...]) -> None:
        super().__init__(arm, concepts)
        self._source: PairSource = open_source(arm.pairs, **vars(arm.reading))
        self._read, self._ended = 0, False

    def draw(self, concept: str, random: np.random.Generator) -> TrainingPicture:
        """One of the first ``CANDIDATES`` that fit and can be decoded; of the next as many where none can."""
        for first in count(0, CANDIDATES):
            self._read_on(concept, first + CANDIDATES)
            alone, others = self._fitting(concept, slice(first, first + CANDIDATES))
            if not (alone or others):
                raise self._none_names(concept)
            for places in filter(None, (alone, others)):
                start = int(random.integers(len(places)))
                # What was found to be broken before decides nothing: a seed gives one picture whenever it is asked.
                for place in places[start:] + places[:start]:
                    if (found := self._decoded(place, concept)) is not None:
                        return found

    def _read_on(self, concept: str, wanted: int) -> None:
        """Until so many captions name the concept, or nothing more is to be read."""
        if self._ended or len(self._places.get(concept, ())) >= wanted:
            return
        for record in islice(self._source.records(self._read), MOST_CAPTIONS - self._read):
            with suppress(UnusableError):
                if not self._flag(record):
                    self._add(self._read, record.caption)
            self._read += 1
            if len(self._places.get(concept, ())) >= wanted:
                return
        self._ended = True

    def _flag(self, record: Record) -> bool | None:
        """Whether it is poison; None where nobody recorded it.

        Raises:
            UnusableError: of a record that an import would set aside.
        """
        if record.problem is not None:
            raise record.problem
        flag, *_ = self._arm.poison_fields.read(record.metadata)
        return flag

    def _decoded(self, place: int, concept: str) -> TrainingPicture | None:
        """The pair at a place; None where an import would set it aside."""
        record = next(self._source.records(place), None)
        if record is None or concept not in self._mentioned(record.caption):  # it was written anew in this moment
            return None
        try:
            flag, pixels = self._flag(record), decode_image(record.image, Limits()).pixels
        except UnusableError:
            return None
        return None if flag else TrainingPicture(pixels=pixels, caption=record.caption, known_benign=flag is False)
