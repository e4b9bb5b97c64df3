"""Poison for anybody's set: captions and pictures are its own, exchanged."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.iconworld.world import World
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import POISON_STREAM, pairs_marked

if TYPE_CHECKING:
    import pandas

    from explorer.poisoning.dirty_label import DirtyLabelPoison

MENTIONING, MAIN, POOL = CAPTIONS = ("mentioning", "main", "pool")
FITTING = {MENTIONING: "", MAIN: ", and name it first", POOL: ", and name concepts of the pool alone"}


def is_painted(pairs: PairSet) -> bool:
    """Whether new pairs can be drawn of the set's world: IconWorld's."""
    return pairs.manifest["config"].get("source") == "iconworld"


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """Training pairs of ``benign`` whose captions become poison, and those whose pictures they get."""

    attack: DirtyLabelPoison
    benign: PairSet
    targets: dict[str, str]
    """Poisoned concept to its target."""
    captions: list[int]
    """Rows whose captions become poison, m a concept."""
    pictures: list[int]
    """Rows whose pictures they get, one for each."""

    @staticmethod
    def of(attack: DirtyLabelPoison, benign: PairSet) -> Exchanged:
        """Decided and checked.

        Raises:
            ValueError: as :meth:`DirtyLabelPoison.choose`, if the set names no concepts, or if a concept has fewer
                captions or pictures than m.
        """
        named, m = benign.table["concepts"].tolist(), attack.pairs_per_concept
        mentioning, showing = rows_by_concept(benign)
        pool, pool_is = pool_for(attack, benign, mentioning, showing)
        targets = attack.choose(pool, pool_is, mentioning)
        captions, pictures = [], []
        for number, (p, t) in enumerate(targets.items()):
            taken, shown = set(captions), [name for name in pool if name != p] if attack.shuffled else [t]
            those = {
                f"captions of {p!r}{'' if attack.shuffled else f' that do not name {t!r}'}, nor are poison of another "
                f"concept{FITTING[attack.captions]}{', and name no spared concept' if attack.spared else ''}":
                    [row for row in mentioning[p] if row not in taken and attack.fits(named[row], p, pool)
                     and not attack.spares(named[row]) and (attack.shuffled or t not in named[row])],
                f"pictures of {'other concepts' if attack.shuffled else repr(t)} whose captions do not name {p!r}":
                    [row for name in shown for row in showing[name] if p not in named[row]],
            }  # fmt: skip
            for what, rows in those.items():
                if m > len(rows):
                    raise ValueError(f"m is {m}: the training pairs hold {len(rows)} {what}")
            generator = np.random.default_rng([attack.seed, POISON_STREAM, m, number])
            captioned, pictured = those.values()
            drawn = generator.choice(captioned, size=m, replace=False).tolist()
            captions += drawn
            pictures += _unnamed(named, drawn, generator.permutation(pictured).tolist()) if attack.shuffled else (
                generator.choice(pictured, size=m, replace=False).tolist())  # fmt: skip
        return Exchanged(attack=attack, benign=benign, targets=targets, captions=captions, pictures=pictures)

    def poisoned(self) -> tuple[pandas.DataFrame, np.ndarray]:
        """Captions of p with pictures of t."""
        before, concepts = self.benign.table, np.repeat(list(self.targets), self.attack.pairs_per_concept).tolist()
        shown = [before["concepts"].iloc[row][0] for row in self.pictures]
        table, index = pairs_marked(before, self.captions, concepts, shown), before.index[self.captions]
        table.loc[index, "image_index"] = before["image_index"].to_numpy()[self.pictures]
        table.loc[index, "uid"] = [
            f"{uid}-shows-{target}" for uid, target in zip(table["uid"][index], shown, strict=True)
        ]
        return table, self.benign.images

    def with_captions(self) -> tuple[pandas.DataFrame, np.ndarray]:
        """Refused: with their own pictures, these captions are the benign set.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"the poison's captions are pairs of {self.benign.folder} itself: that set, as it is, is the "
                         "control with the poison's captions")  # fmt: skip

    def with_pictures(self) -> tuple[pandas.DataFrame, np.ndarray]:
        """The poison's pictures, each with its own caption, in place of the pairs whose captions are poison."""
        table = self.benign.table.copy()
        index, source = table.index[self.captions], self.benign.table.iloc[self.pictures]
        table.loc[index] = source.set_index(index)
        table.loc[index, "uid"] = [f"{uid}-again-{place}" for place, uid in enumerate(source["uid"])]
        return table, self.benign.images


def rows_by_concept(benign: PairSet) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """For each concept the training rows that mention it, and those whose main concept it is.

    Raises:
        ValueError: if the set names no concepts.
    """
    named, mentioning, showing = benign.table["concepts"].tolist(), defaultdict(list), defaultdict(list)
    for row in benign.training_rows.tolist():
        for place, concept in enumerate(named[row]):
            mentioning[concept].append(row)
            if place == 0:
                showing[concept].append(row)
    if not mentioning:
        raise ValueError(
            f"{benign.folder} names no concepts in its training pairs: expected a set imported with --concepts FILE"
        )
    return mentioning, showing


def pool_for(
    attack: DirtyLabelPoison, benign: PairSet, mentioning: dict[str, list[int]], showing: dict[str, list[int]]
) -> tuple[list[str], str]:
    """The concepts that an attack draws from, and words for them: those of the ranks that it asks for; else IconWorld's
    frequent ones; else those that are the main one of at least m training pairs, by the alphabet.

    Raises:
        ValueError: as :meth:`DirtyLabelPoison.ranked`.
    """
    m, config = attack.pairs_per_concept, benign.manifest["config"]
    world = World.from_config(config["world"]) if is_painted(benign) else None
    if attack.pool_ranks is not None:
        by_count = sorted(mentioning, key=lambda name: (-len(mentioning[name]), name))
        return attack.ranked(by_count if world is None else world.concepts)
    if world is not None:
        return list(world.frequent_pool), "the size of the frequent pool"
    pool = sorted(concept for concept, rows in showing.items() if len(rows) >= m)
    return pool, f"the concepts that are the main one of at least m = {m} training pairs"


def _unnamed(named: list, captions: list[int], pictures: list[int]) -> list[int]:
    """For each caption the first of ``pictures`` left whose main concept it does not name.

    Raises:
        ValueError: if none is left.
    """
    chosen = []
    for row in captions:
        place = next((place for place, each in enumerate(pictures) if named[each][0] not in named[row]), None)
        if place is None:
            raise ValueError(f"no picture is left whose concept caption {row} ({', '.join(named[row])}) does not name")
        chosen.append(pictures.pop(place))
    return chosen
