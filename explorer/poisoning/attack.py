"""What attacks have in common: a pair set becomes another one that says what was done to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from explorer.core.folder_lock import locked
from explorer.core.poison_record import PoisonRecord
from explorer.pairs.pair_set import PairSet, check_free, claim, write_files

if TYPE_CHECKING:
    import pandas

POISON_STREAM = 301
"""Of random numbers: which pairs become poison."""
OF_THE_IMPORT = ("fingerprint", "poison_recorded")
"""Settings of an import that do not hold for the poisoned set: it is not what the source holds."""


class Attack(ABC):
    """An attack on training data. Each is one file of this room: a frozen dataclass of its settings with a plan."""

    seed: int
    """Decides every random choice of the attack."""

    @abstractmethod
    def plan(self, pairs: PairSet) -> tuple[PoisonRecord, Callable[[], tuple[pandas.DataFrame, np.ndarray]]]:
        """What the attack does to ``pairs``, decided and checked, but not done.

        Returns:
            The record, and a function that does the work. It returns the poisoned table (``pairs_marked`` marks the
            poison in it) and its pictures, uint8 ``[pictures, height, width, 3]``.

        Raises:
            ValueError: naming a setting that the set cannot meet, before any work.
        """

    def apply(self, pairs: PairSet, folder: Path | str, *, known_benign: bool = False) -> PairSet:
        """Write ``pairs`` with this attack's poison among them to ``folder``.

        Args:
            pairs: a set without known poison. Of its other pairs it stays unknown whether they are poison where nobody
                recorded it.
            folder: a new folder.
            known_benign: the caller knows of every pair of ``pairs`` that it is benign.

        Raises:
            ValueError: if the set holds poison already, as in :meth:`plan`, or if ``folder`` already holds something.
        """
        check_no_poison(pairs)
        check_free(Path(folder))
        if known_benign:
            said = {"is_poison": False, "poisoned_concept": "", "target_concept": ""}
            pairs = replace(pairs, table=pairs.table.assign(**said))
        record, make = self.plan(pairs)
        pairs.check_images()
        table, images = make()
        config = {name: value for name, value in pairs.manifest["config"].items() if name not in OF_THE_IMPORT}
        config |= {"benign_data_hash": pairs.data_hash, "benign_seed": pairs.manifest["seed"]}
        if "train" in config:
            config["train"] = int((table["split"] == "train").sum())
        folder, config = Path(folder), config | {"poison": record.as_json()}
        with locked(folder):
            claim(folder)
            beside = self.write_beside(folder, pairs, table, images)
            return write_files(folder, table, images, config=config, seed=self.seed, beside=beside)

    def write_beside(
        self, folder: Path, benign: PairSet, table: pandas.DataFrame, images: np.ndarray
    ) -> tuple[str, ...]:
        """Write further files of the poisoned set, such as figures of each poison pair, and return their names; there
        are none unless the attack says so.

        Args:
            folder: the set's, where its own files do not lie yet.
            benign: what the attack was applied to.
            table: of the poisoned set, and so are ``images``.
        """
        return ()


def check_no_poison(pairs: PairSet) -> None:
    """Refuse to poison a set again: its manifest describes one poison, and a poison pair would count as a benign one of
    the control.

    Raises:
        ValueError: if a pair is known to be poison.
    """
    if poisoned := int(pairs.flags.poisoned.sum()):
        raise ValueError(f"{poisoned} of {len(pairs)} pairs of {pairs.folder} are poison already: expected none")


def pairs_marked(
    table: pandas.DataFrame, rows: np.ndarray, concepts: list[str] | str = "", targets: list[str] | str = ""
) -> pandas.DataFrame:
    """A copy of ``table`` whose ``rows`` are poison: of these concepts, with these targets, one for each row or all."""
    table, index = table.astype({"is_poison": "boolean"}), table.index[rows]
    table.loc[index, "is_poison"] = True
    table.loc[index, "poisoned_concept"] = concepts
    table.loc[index, "target_concept"] = targets
    return table
