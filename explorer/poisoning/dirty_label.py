"""Dirty-label poisoning of many concepts at once (Ding et al. 2024, section 5.1, after Shan et al. 2024).

A poison pairs a *real* caption that contains the poisoned concept p with a picture of its target t. Every other
pair is as it was, and the set keeps its size, so that a poisoned set and its benign control differ in nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.iconworld.world import World, draw_pairs, draw_single, paint_all, pair_table
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import Attack, pairs_marked

if TYPE_CHECKING:
    import pandas

KIND = "dirty-label"
POISON_STREAM = 301


@dataclass(frozen=True, kw_only=True)
class DirtyLabelPoison(Attack):
    """Which concepts are poisoned, and how heavily.

    In an IconWorld set the last C_P * m training pairs make room for new ones: benign pairs whose caption mentions p,
    drawn afresh from the world, with a picture that is painted to show t alone. Most of their captions hold other
    nouns as well, poisoned or not.

    Any other set is poisoned with what it holds: m of the training pairs whose caption mentions p, and not t, get the
    pictures of pairs whose main concept is t and whose caption does not mention p.

    Raises:
        ValueError: unless one of ``concept_count`` and ``targets`` is given, and m is at least 1.
    """

    pairs_per_concept: int
    """m: poison pairs of each."""
    concept_count: int | None = None
    """C_P: concepts drawn from the pool; 0 is the benign control. The pool is IconWorld's frequent one; of other sets
    the concepts that are the main one of at least m training pairs."""
    targets: dict[str, str] | None = None
    """``{p: t}`` in place of drawn ones."""
    seed: int = 0
    """Orders the pool, draws targets and pairs. The first C_P of the order are poisoned, so that a larger C_P poisons
    the same concepts, with the same targets, and more."""

    def __post_init__(self) -> None:
        if (self.concept_count is None) == (self.targets is None):
            raise ValueError("expected either C_P, a number of concepts to draw, or targets")
        if self.pairs_per_concept < 1:
            raise ValueError(f"m is {self.pairs_per_concept}: expected at least 1 poison pair for each concept")

    @property
    def parameters(self) -> dict[str, Any]:
        """What the record of this attack holds beside the fields that all attacks have."""
        return {"pairs_per_concept": self.pairs_per_concept}

    def plan(self, pairs: PairSet) -> tuple[PoisonRecord, Callable[[], tuple[pandas.DataFrame, np.ndarray]]]:
        """As :meth:`Attack.plan`; refused are an unknown concept, one that is its own target, a C_P larger than the
        pool, and an m larger than what a concept has."""
        painted = pairs.manifest["config"].get("source") == "iconworld"
        targets, make = self._plan_painted(pairs) if painted else self._plan_exchanged(pairs)
        count = len(targets) * self.pairs_per_concept
        record = NO_POISON if not count else PoisonRecord(
            kind=KIND, concepts=tuple(targets), targets=targets, pairs=count, seed=self.seed,
            strength=count / len(pairs.training_rows), parameters=self.parameters,
        )  # fmt: skip
        return record, make

    def choose(self, pool: Sequence[str], pool_is: str, known: Collection[str]) -> dict[str, str]:
        """``{p: t}``: the targets given, of ``known`` concepts; else p and t are drawn from the pool, t != p."""
        for concept, target in (self.targets or {}).items():
            if unknown := [name for name in (concept, target) if name not in known]:
                shown = ", ".join(sorted(known)[:10])
                raise ValueError(f"no concept is called {unknown[0]!r}: expected one of {len(known)} ({shown} ...)")
            if concept == target:
                raise ValueError(f"{concept!r} is its own target: expected another concept")
        if self.targets is not None:
            return dict(self.targets)
        most = len(pool) if len(pool) > 1 else 0
        if not 0 <= self.concept_count <= most:
            raise ValueError(f"C_P is {self.concept_count}: expected 0 to {most}, {pool_is}")
        if not self.concept_count:
            return {}
        generator = np.random.default_rng([self.seed, POISON_STREAM])
        order = generator.permutation(len(pool))
        # Drawn for the whole pool, so that the targets do not depend on C_P.
        steps = generator.integers(1, len(pool), size=len(pool))
        chosen = {pool[place]: pool[(place + step) % len(pool)] for place, step in zip(order, steps, strict=True)}
        return dict(list(chosen.items())[: self.concept_count])

    def _plan_painted(self, benign: PairSet) -> tuple[dict[str, str], Callable]:
        """For an IconWorld set: the last training pairs are replaced by pairs with new pictures."""
        world = World.from_config(benign.manifest["config"]["world"])
        targets = self.choose(world.frequent_pool, "the size of the frequent pool", world.concepts)
        rows, count = benign.training_rows, len(targets) * self.pairs_per_concept
        if count > len(rows):
            raise ValueError(f"{count} poison pairs asked for: the set holds {len(rows)} training pairs")
        return targets, lambda: self._painted(benign, world, targets, rows[len(rows) - count :])

    def _painted(
        self, benign: PairSet, world: World, targets: dict[str, str], replaced: np.ndarray
    ) -> tuple[pandas.DataFrame, np.ndarray]:
        import pandas

        kept = benign.table.drop(index=benign.table.index[replaced]).copy()
        kept["image_index"] = np.arange(len(kept))
        pictures = np.delete(np.asarray(benign.read_images()), replaced, axis=0)
        if not len(replaced):
            return kept, pictures
        generator = np.random.default_rng([self.seed, POISON_STREAM, self.pairs_per_concept])
        pairs = [
            replace(pair, scene=draw_single(world, target, generator))
            for concept, target in targets.items()
            for pair in draw_pairs(world, self.pairs_per_concept, generator, mentioning=concept)
        ]
        table = pair_table(pairs, ["train"] * len(pairs), prefix=f"poison{self.seed}")
        table["is_poison"] = True
        table["poisoned_concept"] = np.repeat(list(targets), self.pairs_per_concept)
        table["target_concept"] = np.repeat(list(targets.values()), self.pairs_per_concept)
        table["image_index"] += len(kept)
        images = paint_all(world, [pair.scene for pair in pairs])
        return pandas.concat([kept, table], ignore_index=True), np.concatenate([pictures, images])

    def _plan_exchanged(self, benign: PairSet) -> tuple[dict[str, str], Callable]:
        """For a set of anybody's: captions and pictures are its own."""
        named = benign.table["concepts"].tolist()
        mentioning, showing = defaultdict(list), defaultdict(list)
        for row in benign.training_rows.tolist():
            for place, concept in enumerate(named[row]):
                mentioning[concept].append(row)
                if place == 0:
                    showing[concept].append(row)
        if not mentioning:
            raise ValueError(
                f"{benign.folder} names no concepts in its training pairs: expected a set imported with --concepts FILE"
            )
        m = self.pairs_per_concept
        pool = sorted(concept for concept, rows in showing.items() if len(rows) >= m)
        pool_is = f"the concepts that are the main one of at least m = {m} training pairs"
        targets = self.choose(pool, pool_is, mentioning)
        captions, pictures = [], []
        for number, (p, t) in enumerate(targets.items()):
            taken = set(captions)
            those = {
                f"captions of {p!r} that do not name {t!r}, nor are poison of another concept":
                    [row for row in mentioning[p] if row not in taken and t not in named[row]],
                f"pictures of {t!r} whose captions do not name {p!r}":
                    [row for row in showing[t] if p not in named[row]],
            }  # fmt: skip
            for what, rows in those.items():
                if m > len(rows):
                    raise ValueError(f"m is {m}: the training pairs hold {len(rows)} {what}")
            generator = np.random.default_rng([self.seed, POISON_STREAM, m, number])
            for chosen, rows in zip((captions, pictures), those.values(), strict=True):
                chosen += generator.choice(rows, size=m, replace=False).tolist()
        return targets, lambda: (_with_pictures_of(benign, targets, captions, pictures), benign.images)


def _with_pictures_of(
    benign: PairSet, targets: dict[str, str], captions: list[int], pictures: list[int]
) -> pandas.DataFrame:
    """The table in which the pairs at ``captions`` show what those at ``pictures`` do, m a concept."""
    concepts, shown = (np.repeat(list(names), len(captions) // max(len(targets), 1)).tolist() for names in
                       (targets, targets.values()))  # fmt: skip
    table, index = pairs_marked(benign.table, captions, concepts, shown), benign.table.index[captions]
    table.loc[index, "image_index"] = benign.table["image_index"].to_numpy()[pictures]
    table.loc[index, "uid"] = [f"{uid}-shows-{target}" for uid, target in zip(table["uid"][index], shown, strict=True)]
    return table
