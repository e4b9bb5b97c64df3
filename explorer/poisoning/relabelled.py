"""Classes of which every pair is mislabelled, as section 5.4 of Ding et al. (CCS 2024) poisons ImageNet.

The set keeps its size and its captions. Of a poisoned class nothing true is left in it; what a model knows of the
class then comes from the base that it is fine-tuned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import POISON_STREAM, Attack, pairs_marked

if TYPE_CHECKING:
    import pandas

KIND = "relabelled"
OF_THE_CAPTION = ("uid", "caption", "concepts", "split", "is_poison", "poisoned_concept", "target_concept")
"""Columns that stay with the caption; all others are of the picture and go with it."""


@dataclass(frozen=True, kw_only=True)
class RelabelledClasses(Attack):
    """How many classes are poisoned.

    A class is what captions of training pairs name first. All of its training pairs get pictures of its target, another
    class drawn at random: each as often as any other, to within one.

    Raises:
        ValueError: if C_P is negative.
    """

    concept_count: int
    """C_P: classes drawn among all; 0 is the benign control."""
    seed: int = 0
    """Draws classes, targets and pictures; a larger C_P poisons the same classes, and more."""

    def __post_init__(self) -> None:
        if self.concept_count < 0:
            raise ValueError(f"C_P is {self.concept_count}: expected 0 or more classes")

    def plan(self, pairs: PairSet) -> tuple[PoisonRecord, Callable[[], tuple[pandas.DataFrame, np.ndarray]]]:
        """As :meth:`Attack.plan`; refused is a C_P larger than the number of classes."""
        rows = _rows_of_classes(pairs)
        most = len(rows) if len(rows) > 1 else 0
        if self.concept_count > most:
            raise ValueError(f"C_P is {self.concept_count}: expected 0 to {most}, the number of classes that training "
                             f"pairs of {pairs.folder} name first")  # fmt: skip
        names, generator = list(rows), np.random.default_rng([self.seed, POISON_STREAM])
        order = generator.permutation(len(names))
        # Drawn for all classes, so that the targets do not depend on C_P.
        steps = generator.integers(1, max(2, len(names)), size=len(names))
        targets = {names[place]: names[(place + step) % len(names)]
                   for place, step in list(zip(order, steps, strict=True))[: self.concept_count]}  # fmt: skip
        count = sum(len(rows[name]) for name in targets)
        record = NO_POISON if not count else PoisonRecord(
            kind=KIND, concepts=tuple(targets), targets=targets, pairs=count, seed=self.seed,
            strength=count / len(pairs.training_rows),
        )  # fmt: skip
        return record, lambda: (self._table(pairs.table, rows, targets), pairs.images)

    def _table(self, table: pandas.DataFrame, rows: dict[str, np.ndarray], targets: dict[str, str]) -> pandas.DataFrame:
        made, pictures = table.copy(), [name for name in table.columns if name not in OF_THE_CAPTION]
        for concept, target in targets.items():
            generator = np.random.default_rng([self.seed, POISON_STREAM, list(rows).index(concept)])
            shown, needed = generator.permutation(rows[target]), len(rows[concept])
            index = made.index[rows[concept]]
            made.loc[index, pictures] = table[pictures].iloc[np.resize(shown, needed)].to_numpy()
            made = pairs_marked(made, rows[concept], concept, target)
        return made.astype({name: table[name].dtype for name in pictures})


def _rows_of_classes(pairs: PairSet) -> dict[str, np.ndarray]:
    """The training rows of every class, in alphabetical order.

    Raises:
        ValueError: if captions name no concepts.
    """
    found: dict[str, list[int]] = {}
    concepts = pairs.table["concepts"].tolist()
    for row in pairs.training_rows:
        if len(named := concepts[row]):
            found.setdefault(named[0], []).append(row)
    if not found:
        raise ValueError(f"captions of {pairs.folder} name no concepts: expected a set of classes")
    return {name: np.array(found[name]) for name in sorted(found)}
