"""Benign controls matched to a poison: the poison's captions with right pictures, or its pictures with right captions.

A poisoned set differs from its benign control in two things: its pairs are wrong, and other captions and other pictures
stand in it than before. A set that shares the captions, or the pictures, and whose every pair is right, tells the two
apart: what a model loses on it is not the poison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import Attack
from explorer.poisoning.dirty_label import DirtyLabelPoison

if TYPE_CHECKING:
    import numpy as np
    import pandas

KEEPS = CAPTIONS, PICTURES = ("captions", "pictures")


@dataclass(frozen=True, kw_only=True)
class MatchedBenign(Attack):
    """What ``attack`` would do to a set, with every pair put right.

    In an IconWorld set the poison's captions get the scenes that they were drawn with, and its pictures a caption that
    the world writes for one object. In any other set the poison's pictures bring their own captions; its captions with
    their own pictures are the set itself, which is refused with these words.

    Raises:
        ValueError: unless ``keep`` is ``captions`` or ``pictures``.
    """

    attack: DirtyLabelPoison
    keep: Literal["captions", "pictures"]

    def __post_init__(self) -> None:
        if self.keep not in KEEPS:
            raise ValueError(f"keep is {self.keep!r}: expected {' or '.join(KEEPS)}")

    @property
    def seed(self) -> int:
        """The attack's: it decides every random choice here, too."""
        return self.attack.seed

    def plan(self, pairs: PairSet) -> tuple[PoisonRecord, Callable[[], tuple[pandas.DataFrame, np.ndarray]]]:
        """As :meth:`DirtyLabelPoison.plan`. The record says that there is no poison, and what the set is matched to."""
        poison, _ = self.attack.plan(pairs)
        source = self.attack.source(pairs)
        matched = {"kept": self.keep, "of": poison.kind, "concepts": list(poison.concepts), "pairs": poison.pairs}
        record = replace(NO_POISON, parameters={"matched": matched | self.attack.parameters}, seed=self.seed)
        return record, source.with_captions if self.keep == CAPTIONS else source.with_pictures
