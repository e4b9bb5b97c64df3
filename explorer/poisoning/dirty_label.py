"""Dirty-label poisoning of many concepts at once (Ding et al. 2024, section 5.1, after Shan et al. 2024).

A poison pairs a *real* caption that contains the poisoned concept p with a picture of its target t. Every other
pair is as it was, and the set keeps its size, so that a poisoned set and its benign control differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import POISON_STREAM, Attack
from explorer.poisoning.exchanged import CAPTIONS, MAIN, MENTIONING, Exchanged, is_painted
from explorer.poisoning.painted import Painted

if TYPE_CHECKING:
    import pandas

KIND = "dirty-label"
TARGET_STREAM = 302


@dataclass(frozen=True, kw_only=True)
class DirtyLabelPoison(Attack):
    """Which concepts are poisoned, how heavily, and with what.

    In an IconWorld set the last C_P * m training pairs make room for new ones (``explorer/poisoning/painted.py``):
    benign pairs whose caption mentions p, drawn afresh from the world, with a picture that is painted to show t alone.
    Most of their captions hold other nouns as well, poisoned or not.

    Any other set is poisoned with what it holds (``explorer/poisoning/exchanged.py``): m of the training pairs whose
    caption mentions p, and not t, get the pictures of pairs whose main concept is t and whose caption does not mention
    p.

    Raises:
        ValueError: unless one of ``concept_count`` and ``targets`` is given, at most one of ``targets``,
            ``shared_target`` and ``shuffled`` says what is shown, m is at least 1, and ranks ascend from 1.
    """

    pairs_per_concept: int
    """m: poison pairs of each."""
    concept_count: int | None = None
    """C_P: concepts drawn from the pool; 0 is the benign control. The pool is IconWorld's frequent one; of other sets
    the concepts that are the main one of at least m training pairs."""
    targets: dict[str, str] | None = None
    """``{p: t}`` in place of drawn ones."""
    shared_target: str | None = None
    """A t for every drawn p, which is not poisoned itself: one wrong picture for all."""
    shuffled: bool = False
    """Every poison pair draws a t of its own from the pool: wrong pictures that do not agree with one another."""
    captions: Literal["mentioning", "main", "pool"] = MENTIONING
    """Which captions of p: those that mention it, those that mention it first, or those that mention it and no concept
    outside of the pool."""
    spared: tuple[str, ...] = ()
    """Concepts whose benign pairs all stay, so that poison takes nothing from what is true of them in the set; none of
    them is poisoned."""
    pool_ranks: tuple[int, int] | None = None
    """In place of the usual pool the concepts of these frequency ranks, from 1 and both ends included: the paper's less
    popular pool is 1501 to 2000 (Table 2). In an IconWorld set these are the world's ranks, in any other those by the
    number of training pairs that mention a concept (equal ones by the alphabet)."""
    seed: int = 0
    """Orders the pool, draws targets and pairs. The first C_P of the order are poisoned, so that a larger C_P poisons
    the same concepts, with the same targets, and more."""

    def __post_init__(self) -> None:
        if (self.concept_count is None) == (self.targets is None):
            raise ValueError("expected either C_P, a number of concepts to draw, or targets")
        if sum((self.targets is not None, self.shared_target is not None, self.shuffled)) > 1:
            raise ValueError("expected one of targets, a shared target, and shuffled targets")
        if self.pairs_per_concept < 1:
            raise ValueError(f"m is {self.pairs_per_concept}: expected at least 1 poison pair for each concept")
        if self.captions not in CAPTIONS:
            raise ValueError(f"captions are {self.captions!r}: expected one of {', '.join(CAPTIONS)}")
        if self.pool_ranks is not None and not 1 <= self.pool_ranks[0] < self.pool_ranks[1]:
            first, last = self.pool_ranks
            raise ValueError(f"ranks of the pool are {first} to {last}: expected to ascend, from 1 at least")

    @property
    def parameters(self) -> dict[str, Any]:
        """What the record of this attack holds beside the fields that all attacks have; defaults are left out."""
        chosen = {"captions": self.captions} if self.captions != MENTIONING else {}
        chosen |= {"shared_target": self.shared_target} if self.shared_target else {}
        chosen |= {"spared": list(self.spared)} if self.spared else {}
        chosen |= {"pool_ranks": list(self.pool_ranks)} if self.pool_ranks else {}
        return {"pairs_per_concept": self.pairs_per_concept} | chosen | ({"shuffled": True} if self.shuffled else {})

    def plan(self, pairs: PairSet) -> tuple[PoisonRecord, Callable[[], tuple[pandas.DataFrame, np.ndarray]]]:
        """As :meth:`Attack.plan`; refused are an unknown concept, one that is its own target or spared, a C_P larger
        than the pool, and an m larger than what a concept has."""
        source = self.source(pairs)
        count = len(source.targets) * self.pairs_per_concept
        record = NO_POISON if not count else PoisonRecord(
            kind=KIND, concepts=tuple(source.targets), targets={} if self.shuffled else source.targets, pairs=count,
            seed=self.seed, strength=count / len(pairs.training_rows), parameters=self.parameters,
        )  # fmt: skip
        return record, source.poisoned

    def source(self, pairs: PairSet) -> Any:
        """Where the poison comes from, decided and checked: ``Painted`` or ``Exchanged``, with ``targets``,
        ``poisoned()`` and the matched controls ``with_captions()`` and ``with_pictures()``."""
        return (Painted if is_painted(pairs) else Exchanged).of(self, pairs)

    def ranked(self, concepts: Sequence[str]) -> tuple[list[str], str]:
        """Of concepts in order of frequency those of the ranks that are asked for, and words for them.

        Raises:
            ValueError: if there are fewer.
        """
        first, last = self.pool_ranks
        if last > len(concepts):
            raise ValueError(f"ranks of the pool are {first} to {last}: the pairs have {len(concepts)} concepts")
        return list(concepts[first - 1 : last]), f"the number of concepts of ranks {first} to {last}"

    def choose(self, pool: Sequence[str], pool_is: str, known: Collection[str]) -> dict[str, str]:
        """``{p: t}``: the targets given, of ``known`` concepts; else p and t are drawn from the pool, t != p."""
        chosen = self._chosen(pool, pool_is, known)
        if unknown := sorted(set(self.spared) - set(known)):
            raise ValueError(
                f"no concept is called {unknown[0]!r}, which is to be spared: expected some of {len(known)}"
            )
        if poisoned := [name for name in self.spared if name in chosen]:
            raise ValueError(f"{poisoned[0]!r} is poisoned and spared: expected one of both")
        return chosen

    def _chosen(self, pool: Sequence[str], pool_is: str, known: Collection[str]) -> dict[str, str]:
        for concept, target in (
            (self.targets or {}) | ({"": self.shared_target} if self.shared_target else {})
        ).items():
            if unknown := [name for name in (concept, target) if name and name not in known]:
                shown = ", ".join(sorted(known)[:10])
                raise ValueError(f"no concept is called {unknown[0]!r}: expected one of {len(known)} ({shown} ...)")
            if concept == target:
                raise ValueError(f"{concept!r} is its own target: expected another concept")
        if self.targets is not None:
            return dict(self.targets)
        most = (len(pool) if len(pool) > 1 else 0) - (self.shared_target in pool)
        if not 0 <= self.concept_count <= most:
            raise ValueError(f"C_P is {self.concept_count}: expected 0 to {most}, {pool_is}"
                             f"{' without the shared target' if self.shared_target in pool else ''}")  # fmt: skip
        if not self.concept_count:
            return {}
        generator = np.random.default_rng([self.seed, POISON_STREAM])
        order = generator.permutation(len(pool))
        # Drawn for the whole pool, so that the targets do not depend on C_P.
        steps = generator.integers(1, len(pool), size=len(pool))
        chosen = {pool[place]: self.shared_target or pool[(place + step) % len(pool)]
                  for place, step in zip(order, steps, strict=True) if pool[place] != self.shared_target}  # fmt: skip
        return dict(list(chosen.items())[: self.concept_count])

    def targets_of(self, number: int, concept: str, target: str, pool: Sequence[str]) -> list[str]:
        """A target for each of the m poison pairs of ``concept``, the ``number``-th poisoned one."""
        if not self.shuffled:
            return [target] * self.pairs_per_concept
        generator = np.random.default_rng([self.seed, TARGET_STREAM, self.pairs_per_concept, number])
        others = [name for name in pool if name != concept]
        return [others[place] for place in generator.integers(len(others), size=self.pairs_per_concept)]

    def spares(self, named: Sequence[str]) -> bool:
        """Whether a pair whose caption names these concepts stays."""
        return not set(self.spared).isdisjoint(named)

    def fits(self, named: Sequence[str], concept: str, pool: Collection[str]) -> bool:
        """Whether a caption that names these concepts may become poison of ``concept``."""
        if self.captions == MAIN:
            return named[0] == concept
        return concept in named and (self.captions == MENTIONING or all(name in pool for name in named))
