"""What is known of each pair of a set: that it is poison, that it is benign, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.poison_record import NO_POISON, NOT_RECORDED, UNNAMED, PoisonRecord
from explorer.pairs.quarantine import Reason, UnusableError

if TYPE_CHECKING:
    import pandas

TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")
"""How text fields write a flag, in any case."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PoisonFlags:
    """Of N pairs. One that is neither poisoned nor benign is one of which nobody recorded it."""

    poisoned: np.ndarray
    """bool `[N]` known to be poison."""
    benign: np.ndarray
    """bool `[N]` known to be none."""

    @staticmethod
    def of(table: pandas.DataFrame) -> PoisonFlags:
        """The column ``is_poison``; null is not recorded."""
        flags = table["is_poison"].astype("boolean")
        return PoisonFlags(
            poisoned=flags.fillna(False).to_numpy(dtype=bool), benign=(~flags).fillna(False).to_numpy(dtype=bool)
        )

    def __len__(self) -> int:
        return len(self.poisoned)

    def __getitem__(self, rows: Any) -> PoisonFlags:
        """Those of the pairs at ``rows`` (slice, integer or bool array)."""
        return PoisonFlags(poisoned=self.poisoned[rows], benign=self.benign[rows])

    @property
    def unrecorded(self) -> np.ndarray:
        """bool `[N]` of which nothing is known."""
        return ~(self.poisoned | self.benign)

    @property
    def recorded(self) -> bool:
        """Whether it is known of every pair."""
        return not self.unrecorded.any()

    @property
    def comparable(self) -> bool:
        """Whether some pairs are known to be poison and others not to be."""
        return bool(self.poisoned.any() and self.benign.any())

    def counts(self) -> dict[str, int | None]:
        """Pairs of each kind, JSON-serialisable; None for both known kinds where nothing is known of any pair."""
        unrecorded = int(self.unrecorded.sum())
        nothing = unrecorded == len(self) > 0
        return {
            "poisoned_pairs": None if nothing else int(self.poisoned.sum()),
            "benign_pairs": None if nothing else int(self.benign.sum()),
            "unrecorded_pairs": unrecorded,
        }

    def as_list(self) -> list[bool | None]:
        """True, False or None for every pair."""
        known = zip(self.poisoned.tolist(), self.benign.tolist(), strict=True)
        return [poisoned if poisoned or benign else None for poisoned, benign in known]


def recorded_by_flags(table: pandas.DataFrame) -> PoisonRecord:
    """What the flags of these pairs say of their poison: nothing, unless it is known of every pair."""
    flags = PoisonFlags.of(table)
    count = int(flags.poisoned.sum())
    if not flags.recorded or not count:
        return NO_POISON if flags.recorded else NOT_RECORDED
    named = table[flags.poisoned][["poisoned_concept", "target_concept"]].replace("", None).drop_duplicates()
    concepts, targets = named["poisoned_concept"], named.dropna()
    return PoisonRecord(
        kind=UNNAMED,
        concepts=None if concepts.isna().any() else tuple(sorted(set(concepts))),
        targets=dict(targets.itertuples(index=False)) if targets["poisoned_concept"].is_unique else {},
        pairs=count,
        strength=count / len(table),
    )


@dataclass(frozen=True, kw_only=True)
class PoisonFields:
    """Fields of a user's data that say which pairs are poison."""

    flag: str | None = None
    """Field that says which pairs are poison: true/false, 1/0, yes/no; null or empty: not recorded. Without it nobody
    said which are."""
    concept: str | None = None
    """Field of the concept p that a poison pair poisons."""
    target: str | None = None
    """Field of the concept t that a poison pair's picture shows."""

    def __post_init__(self) -> None:
        if self.flag is None and (self.concept or self.target):
            raise ValueError(
                f"the field {self.concept or self.target!r} is named for the concepts of poison pairs: expected a "
                "field that says which pairs are poison, too"
            )

    def named(self) -> dict[str, str]:
        """Those that are given, by what they are for."""
        fields = {"flag": self.flag, "concept": self.concept, "target": self.target}
        return {purpose: name for purpose, name in fields.items() if name is not None}

    def check_present(self, pairs: Iterable[dict[str, Any]]) -> None:
        """Refuse a field that none of these pairs' metadata has: a name misspelt would leave every pair unrecorded.

        Raises:
            ValueError: naming it and the fields that there are.
        """
        present = {name for metadata in pairs for name in metadata}
        missing = [name for name in self.named().values() if name not in present]
        if missing:
            found = ", ".join(sorted(present)) or "none"
            raise ValueError(f"no record has a field {missing[0]!r}: expected one of theirs ({found})")

    def read(self, metadata: dict[str, Any]) -> tuple[bool | None, str | None, str | None]:
        """Flag, poisoned concept and target of a pair; "" for the concepts of a benign one, None where not recorded.

        Raises:
            UnusableError: naming a flag or a concept that is neither.
        """
        flag = self._flag(metadata)
        if not flag:
            return flag, *(("", "") if flag is False else (None, None))
        return True, _concept(metadata, self.concept), _concept(metadata, self.target)

    def _flag(self, metadata: dict[str, Any]) -> bool | None:
        value = None if self.flag is None else metadata.get(self.flag)
        if value is None or value == "" or value != value:  # NaN is how tables of floats say null
            return None
        word = (str(int(value)) if isinstance(value, bool) or value in (0, 1) else str(value)).strip().casefold()
        if word not in TRUE + FALSE:
            expected = f"expected {', '.join(TRUE + FALSE)}, or null where it is not recorded"
            raise UnusableError(Reason.UNREADABLE_METADATA, f"poison field {self.flag!r} holds {value!r}: {expected}")
        return word in TRUE


def _concept(metadata: dict[str, Any], field: str | None) -> str | None:
    value = None if field is None else metadata.get(field)
    if value is None or value == "" or value != value:
        return None
    if not isinstance(value, str):
        kind = type(value).__name__
        raise UnusableError(Reason.UNREADABLE_METADATA, f"field {field!r} holds a {kind}: expected a concept's name")
    return value.strip() or None
