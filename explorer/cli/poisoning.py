"""``explorer poison | matched-benign``: a poisoned pair set, and the benign sets that are matched to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.requests import command

if TYPE_CHECKING:
    from explorer.poisoning.attack import Attack
    from explorer.poisoning.dirty_label import DirtyLabelPoison


@dataclass(frozen=True, kw_only=True)
class DirtyLabelOptions:
    """How a user spells a dirty-label poison."""

    pairs_per_concept: int
    """m: poison pairs of each."""
    concepts: int | None = None
    """C_P: concepts to poison, drawn from the frequent ones."""
    target: Annotated[list[str] | None, typer.Option()] = None
    """P=T, a concept and its target, in place of --concepts."""
    shared_target: str | None = None
    """One target for every drawn concept."""
    shuffled: bool = False
    """Every poison pair draws a target of its own."""
    captions: Literal["mentioning", "main", "pool"] = "mentioning"
    """Which captions of p: that mention it, that mention it first, or that mention no concept outside of the pool."""
    seed: int = 0
    """Orders the pool, draws targets and pairs."""

    def attack(self) -> DirtyLabelPoison:
        """The attack.

        Raises:
            ValueError: naming what is not spelled as it should be.
        """
        from explorer.poisoning.dirty_label import DirtyLabelPoison

        if unclear := [pair for pair in self.target or () if pair.count("=") != 1]:
            raise ValueError(f"--target is {unclear[0]!r}: expected P=T, two concepts")
        return DirtyLabelPoison(
            concept_count=self.concepts, targets=dict(pair.split("=") for pair in self.target) if self.target else None,
            shared_target=self.shared_target, shuffled=self.shuffled, captions=self.captions,
            pairs_per_concept=self.pairs_per_concept, seed=self.seed,
        )  # fmt: skip


Benign = Annotated[Path, typer.Argument(help="Pair set: IconWorld's, or imported with --concepts.")]
KnownBenign = Annotated[
    bool, typer.Option("--known-benign", help="You know that BENIGN holds no poison, though nobody recorded it.")
]


@command("poison")
def poison(
    benign: Benign,
    folder: Annotated[Path, typer.Argument(help="New folder for the poisoned set.")],
    options: DirtyLabelOptions,
    known_benign: KnownBenign = False,
    as_json: AsJson = False,
) -> None:
    """Poison a pair set with dirty labels: real captions of p, pictures of t."""
    _apply(options.attack(), benign, folder, known_benign, as_json)


@command("matched-benign")
def matched_benign(
    benign: Benign,
    folder: Annotated[Path, typer.Argument(help="New folder for the matched set.")],
    keep: Annotated[Literal["captions", "pictures"], typer.Option(help="What of the poison stays.")],
    options: DirtyLabelOptions,
    known_benign: KnownBenign = False,
    as_json: AsJson = False,
) -> None:
    """A control for a poison: its captions with right pictures, or its pictures with right captions; else as poison."""
    from explorer.poisoning.matched_benign import MatchedBenign

    _apply(MatchedBenign(attack=options.attack(), keep=keep), benign, folder, known_benign, as_json)


def _apply(attack: Attack, benign: Path, folder: Path, known_benign: bool, as_json: bool) -> None:
    from explorer.pairs.pair_set import PairSet

    made = attack.apply(PairSet.load(benign), folder, known_benign=known_benign)
    poison = made.poison
    emit({"folder": str(folder), **made.manifest["counts"], "data_hash": made.data_hash, "targets": poison.targets,
          "parameters": poison.parameters}, as_json)  # fmt: skip
