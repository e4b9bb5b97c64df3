"""Poison for an IconWorld set: pairs drawn afresh from its world, with pictures painted for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.iconworld.scenes import Scene
from explorer.iconworld.world import ScenePair, World, caption_scene, draw_pairs, draw_single, paint_all, pair_table
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import POISON_STREAM
from explorer.poisoning.exchanged import pool_for

if TYPE_CHECKING:
    import pandas

    from explorer.poisoning.dirty_label import DirtyLabelPoison

CAPTION_STREAM = 303


@dataclass(frozen=True, kw_only=True)
class Painted:
    """The last training pairs of ``benign`` make room for C_P * m new ones."""

    attack: DirtyLabelPoison
    benign: PairSet
    world: World
    pool: tuple[str, ...]
    targets: dict[str, str]
    """Poisoned concept to its target."""

    @staticmethod
    def of(attack: DirtyLabelPoison, benign: PairSet) -> Painted:
        """Decided and checked.

        Raises:
            ValueError: as :meth:`DirtyLabelPoison.choose`, or if the set is smaller than its poison.
        """
        world = World.from_config(benign.manifest["config"]["world"])
        pool, pool_is = pool_for(attack, benign, {}, {})
        targets = attack.choose(pool, pool_is, world.concepts)
        count, room = len(targets) * attack.pairs_per_concept, len(_replaceable(attack, benign))
        if count > room:
            those = " that name none of the concepts spared" if attack.spared else ""
            raise ValueError(f"{count} poison pairs asked for: the set holds {room} training pairs{those}")
        return Painted(attack=attack, benign=benign, world=world, pool=tuple(pool), targets=targets)

    def poisoned(self) -> tuple[pandas.DataFrame, np.ndarray]:
        """Captions of p with pictures of t."""
        drawn = self._drawn()
        said = {
            "is_poison": True,
            "poisoned_concept": np.repeat(list(self.targets), self.attack.pairs_per_concept),
            "target_concept": [target for target, _, _ in drawn],
        }
        return self._with([replace(pair, scene=scene) for _, pair, scene in drawn], "poison", said)

    def with_captions(self) -> tuple[pandas.DataFrame, np.ndarray]:
        """The poison's captions, each with the picture that it describes."""
        return self._with([pair for _, pair, _ in self._drawn()], "captions", {})

    def with_pictures(self) -> tuple[pandas.DataFrame, np.ndarray]:
        """The poison's pictures, each with a caption that the world writes for one object."""
        drawn = self._drawn()
        generator = np.random.default_rng([self.attack.seed, CAPTION_STREAM, self.attack.pairs_per_concept])
        return self._with([caption_scene(self.world, scene, generator) for _, _, scene in drawn], "pictures", {})

    def _drawn(self) -> list[tuple[str, ScenePair, Scene]]:
        """For each poison pair its target, the benign pair whose caption it has, and the scene of the target alone."""
        attack, world, drawn = self.attack, self.world, []
        generator = np.random.default_rng([attack.seed, POISON_STREAM, attack.pairs_per_concept])
        for number, (concept, target) in enumerate(self.targets.items()):
            targets = attack.targets_of(number, concept, target, self.pool)
            pairs = self._captioned(concept, generator)
            drawn += [(target, pair, draw_single(world, target, generator))
                      for target, pair in zip(targets, pairs, strict=True)]  # fmt: skip
        return drawn

    def _captioned(self, concept: str, generator: np.random.Generator) -> list[ScenePair]:
        # Of a loose world, too, captions that a matched set shows with the right pictures.
        count, world, kept = self.attack.pairs_per_concept, replace(self.world, loose=0.0), []
        while len(kept) < count:
            pairs = draw_pairs(world, count, generator, mentioning=concept)
            kept += [pair for pair in pairs if self.attack.fits(pair.mentioned, concept, self.pool)]
        return kept[:count]

    def _with(self, pairs: list[ScenePair], prefix: str, said: dict[str, Any]) -> tuple[pandas.DataFrame, np.ndarray]:
        """``pairs`` in place of as many of the set's last training pairs; ``said`` are columns of theirs."""
        import pandas

        rows = _replaceable(self.attack, self.benign)
        replaced = rows[len(rows) - len(pairs) :]
        kept = self.benign.table.drop(index=self.benign.table.index[replaced]).copy()
        kept["image_index"] = np.arange(len(kept))
        pictures = np.delete(np.asarray(self.benign.read_images()), replaced, axis=0)
        if not pairs:
            return kept, pictures
        table = pair_table(pairs, ["train"] * len(pairs), prefix=f"{prefix}{self.attack.seed}").assign(**said)
        table["image_index"] += len(kept)
        images = paint_all(self.world, [pair.scene for pair in pairs])
        return pandas.concat([kept, table], ignore_index=True), np.concatenate([pictures, images])


def _replaceable(attack: DirtyLabelPoison, benign: PairSet) -> np.ndarray:
    """The training rows that poison may take the place of."""
    named, rows = benign.table["concepts"].tolist(), benign.training_rows
    return rows[[not attack.spares(named[row]) for row in rows]] if attack.spared else rows
