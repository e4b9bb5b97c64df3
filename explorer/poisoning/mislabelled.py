"""Mislabelled pairs added to classes, as section 5.4 of Ding et al. (CCS 2024) poisons CIFAR-10.

Unlike dirty-label poison (``explorer/poisoning/dirty_label.py``) it takes no benign pair's place: the set grows, and
a poisoned class keeps all that is right about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.pairs.mislabelled import with_mislabelled_pairs
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import Attack

if TYPE_CHECKING:
    import pandas

KIND = "mislabelled"


@dataclass(frozen=True, kw_only=True)
class MislabelledPairs(Attack):
    """How many classes get mislabelled pairs, and how many each.

    A class is what captions of training pairs name first; with the set's own captions and pictures.

    Raises:
        ValueError: if m is below 1.
    """

    concept_count: int
    """C_P: classes drawn among all; 0 is the benign control."""
    pairs_per_concept: int
    """m: mislabelled pairs added to each of them; 3,000 in the paper."""
    seed: int = 0
    """Draws classes, targets, pictures and captions; a larger C_P poisons the same classes, and more."""

    def __post_init__(self) -> None:
        if self.pairs_per_concept < 1:
            raise ValueError(f"m is {self.pairs_per_concept}: expected at least 1 mislabelled pair for each class")

    def plan(self, pairs: PairSet) -> tuple[PoisonRecord, Callable[[], tuple[pandas.DataFrame, np.ndarray]]]:
        """As :meth:`Attack.plan`; refused are a C_P larger than the number of classes, and an m larger than what a
        target has."""
        training = pairs.table["concepts"].iloc[pairs.training_rows]
        classes = sorted({named[0] for named in training if len(named)})
        if not classes:
            raise ValueError(f"captions of {pairs.folder} name no concepts: expected a set of classes")
        table = with_mislabelled_pairs(
            pairs.table, classes, poisoned_classes=self.concept_count, poisons_per_class=self.pairs_per_concept,
            seed=self.seed,
        )  # fmt: skip
        added = table.iloc[len(pairs) :]
        targets = dict(zip(added["poisoned_concept"], added["target_concept"], strict=True))
        count = len(pairs.training_rows) + len(added)
        record = NO_POISON if not len(added) else PoisonRecord(
            kind=KIND, concepts=tuple(targets), targets=targets, pairs=len(added), seed=self.seed,
            strength=len(added) / count, parameters={"added_per_concept": self.pairs_per_concept},
        )  # fmt: skip
        return record, lambda: (table, pairs.images)
