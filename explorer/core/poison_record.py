"""What is known of the poison in training data: one record for pair sets, checkpoints, evaluation and screens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from explorer.core.bounded_files import printable

VERSION = 1
"""Of the JSON. Records without a version are of before there was one: :func:`_from_before_versions`."""
MAX_CONCEPTS = 1_000_000
NO_ATTACK, UNNAMED = "none", "unnamed"
TRAININGS = "trainings"
"""Parameter of a model that was trained more than once: the records of each, in order."""
EXPECTED = {"kind": "a word", "targets": "an object", "parameters": "an object", "pairs": "a whole number from 0",
            "seed": "a whole number from 0", "strength": "a share from 0 to 1"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PoisonRecord:
    """What is known of the poison in training pairs, or in those that a model was trained on.

    That nobody recorded it (``NOT_RECORDED``) and that there is none (``NO_POISON``) are two states.

    Raises:
        ValueError: naming the field that is not what it should be.
    """

    kind: str | None
    """The attack, as ``dirty-label``; ``none`` where there is no poison, None where nobody recorded it."""
    concepts: tuple[str, ...] | int | None = None
    """The poisoned concepts; their number C_P where their names are not known; None where neither is. An attack that
    aims at no concept has none of them: ()."""
    targets: dict[str, str] = field(default_factory=dict)
    """Poisoned concept p to the concept t that its poison pairs show or say, where there is one."""
    pairs: int | None = None
    """Poison pairs among the training pairs."""
    seed: int | None = None
    """Seed of the attack."""
    strength: float | None = None
    """Share of the training pairs that are poison, in [0, 1]."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """What else decided the attack, under the attack's own names; JSON-serialisable."""

    def __post_init__(self) -> None:
        count = self.concept_count
        if count is not None and (type(count) is not int or not 0 <= count <= MAX_CONCEPTS):
            raise ValueError(f"{self.concepts!r} poisoned concepts: expected a count up to {MAX_CONCEPTS:,} or a list")
        if self.kind == NO_ATTACK and (count or self.pairs):
            raise ValueError(f"{count} poisoned concepts of kind none: expected 0, or another kind")
        sound = {
            "kind": self.kind is None or (isinstance(self.kind, str) and self.kind != ""),
            "targets": isinstance(self.targets, dict),
            "parameters": isinstance(self.parameters, dict),
            "pairs": self.pairs is None or (type(self.pairs) is int and self.pairs >= 0),
            "seed": self.seed is None or (type(self.seed) is int and self.seed >= 0),
            "strength": self.strength is None or (type(self.strength) in (int, float) and 0 <= self.strength <= 1),
        }
        if wrong := [name for name, is_sound in sound.items() if not is_sound]:
            value, expected = getattr(self, wrong[0]), EXPECTED[wrong[0]]
            raise ValueError(f"{value!r} as {wrong[0]} of the poison: expected {expected}")

    @property
    def recorded(self) -> bool:
        """Whether anybody said what poison there is, be it none."""
        return self.kind is not None

    @property
    def poisoned(self) -> bool | None:
        """Whether there is poison; None where nobody recorded it."""
        return None if self.kind is None else self.kind != NO_ATTACK

    @property
    def concept_count(self) -> int | None:
        """C_P, the number of poisoned concepts; None where it is not known."""
        return len(self.concepts) if isinstance(self.concepts, tuple) else self.concepts

    @property
    def names(self) -> tuple[str, ...]:
        """Those poisoned concepts whose names are known."""
        return self.concepts if isinstance(self.concepts, tuple) else tuple(self.targets)

    @property
    def order(self) -> int:
        """For sorting: C_P, or as many concepts as are known by name."""
        return len(self.names) if self.concept_count is None else self.concept_count

    def __str__(self) -> str:
        if not self.poisoned:
            return "poison not recorded" if self.poisoned is None else "no poison"
        return f"{self.kind}, C_P {'not recorded' if self.concept_count is None else f'= {self.concept_count}'}"

    def followed_by(self, later: PoisonRecord) -> PoisonRecord:
        """What is known of a model that was trained on pairs of this record, and then on those of ``later``: benign
        pairs may make poison less effective, and do not make it never to have been there.

        Where there is no earlier poison, or nobody recorded any, as of the models that others release, it is ``later``.
        Else pairs, seed and strength are no one number any more: ``parameters`` has the records of all trainings.
        """
        if not self.poisoned:
            return later
        words = "benign" if later.poisoned is False else later.kind or "not recorded"
        counted = isinstance(self.concepts, tuple) and isinstance(later.concepts, tuple)
        return PoisonRecord(
            kind=f"{self.kind}, then {words}",
            concepts=tuple(dict.fromkeys((*self.concepts, *later.concepts))) if counted else None,
            targets={**self.targets, **later.targets},
            parameters={TRAININGS: [*self.parameters.get(TRAININGS, [self.as_json()]), later.as_json()]},
        )

    def as_json(self) -> dict[str, Any] | None:
        """For a manifest, the inverse of :meth:`read`; None where nobody recorded it."""
        if not self.recorded:
            return None
        known = asdict(self) | ({"concepts": list(self.concepts)} if isinstance(self.concepts, tuple) else {})
        return {"version": VERSION} | {name: value for name, value in known.items() if value not in (None, {})}

    @staticmethod
    def read(found: Any) -> PoisonRecord:
        """The record in ``poison`` of a manifest's config, of this release or an earlier one.

        Raises:
            ValueError: saying what of it is no such record.
        """
        if found is None or found == {}:
            return NOT_RECORDED
        found = dict(found) if isinstance(found, dict) else {"concepts": found}
        version = found.pop("version", None)
        found = _from_before_versions(found) if version is None else found
        if version not in (None, VERSION) or found.keys() - _FIELDS:
            said = f"{sorted(found)} in version {version!r} of the poison"
            raise ValueError(f"{said}: expected version {VERSION} and some of {sorted(_FIELDS)}")
        found["kind"] = printable(kind) if isinstance(kind := found.get("kind") or UNNAMED, str) else kind
        if found["kind"] == NO_ATTACK:
            found.setdefault("concepts", ())
        if isinstance(concepts := found.get("concepts"), list):
            found["concepts"] = tuple(printable(str(name)) for name in concepts)
        if isinstance(targets := found.get("targets"), dict):
            found["targets"] = {printable(str(name)): printable(str(shown)) for name, shown in targets.items()}
        return PoisonRecord(**found)


_FIELDS = {each.name for each in fields(PoisonRecord)}
NOT_RECORDED = PoisonRecord(kind=None)
"""Nobody recorded whether there is poison."""
NO_POISON = PoisonRecord(kind=NO_ATTACK, concepts=())
"""It is known that there is none."""


def poisoned_from(records: Iterable[PoisonRecord]) -> dict[str, int]:
    """Concept to the smallest C_P among the records that poison it; a concept that none poisons is absent."""
    found: dict[str, int] = {}
    for record in sorted(records, key=lambda record: record.order):
        for concept in record.names:
            found.setdefault(concept, record.order)
    return found


def poison_share(counts: Mapping[str, Any], pairs: str = "n", *, poisoned: bool | None = None) -> float | None:
    """Share of a set's pairs that is poison; None where it is not known of each of them.

    Args:
        counts: ``poisoned_pairs``, None or absent where nobody recorded any, ``unrecorded_pairs``, which reports of
            before it was counted lack, and all pairs.
        pairs: how ``counts`` calls the latter.
        poisoned: whether the set as a whole is known to hold poison; False makes the share of pairs of which none is
            flagged 0. None where nobody recorded it.
    """
    flagged = counts.get("poisoned_pairs")
    if flagged is None:
        return 0.0 if poisoned is False and counts.get(pairs) else None
    return None if counts.get("unrecorded_pairs") else flagged / counts[pairs]


def _from_before_versions(found: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record that is ``{kind, concepts: a count or names, targets}`` and the attack's parameters.

    A count of 0 meant none, whatever the kind; names stood in ``targets`` where ``concepts`` is their count.
    """
    known = {name: value for name, value in found.items() if name in ("kind", "concepts", "targets")}
    concepts, targets = known.get("concepts"), known.get("targets", {})
    if isinstance(targets, list):
        known["targets"] = {}
    if concepts in (0, []) or (concepts is None and known.get("kind") == NO_ATTACK):
        return {"kind": NO_ATTACK, "concepts": ()}
    if type(concepts) is int and isinstance(targets, dict | list) and len(targets) == concepts:
        known["concepts"] = list(targets)
    return known | {"parameters": {name: value for name, value in found.items() if name not in known}}
