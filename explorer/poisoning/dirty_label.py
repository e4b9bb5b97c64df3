"""Dirty-label poisoning of many concepts at once (Ding et al. 2024, section 5.1, after Shan et al. 2024).

A poison pairs a *real* caption that contains the poisoned concept p with a picture of its target t. Every other
pair is benign, and the set keeps its size, so that a poisoned set and its benign control differ in nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from explorer.iconworld.scenes import Scene
from explorer.iconworld.world import World, draw_pairs, draw_single, paint_all, pair_table
from explorer.pairs.pair_set import PairSet, check_free

POISON_STREAM = 301


@dataclass(frozen=True, kw_only=True)
class DirtyLabelPoison:
    """Which concepts are poisoned, and how heavily."""

    concept_count: int
    """C_P: concepts drawn from the frequent pool; 0 is the benign control."""
    pairs_per_concept: int
    """m: poison pairs of each."""
    seed: int = 0
    """Orders the pool and draws the targets. The first C_P of the order are poisoned, so that a larger C_P
    poisons the same concepts, with the same targets, and more."""

    def targets(self, world: World) -> dict[str, str]:
        """``{p: t}`` with t drawn from the pool, t != p.

        Raises:
            ValueError: if C_P is larger than the pool.
        """
        pool = list(world.frequent_pool)
        if not 0 <= self.concept_count <= len(pool):
            raise ValueError(f"C_P is {self.concept_count}: expected 0 to {len(pool)}, the size of the frequent pool")
        generator = np.random.default_rng([self.seed, POISON_STREAM])
        order = generator.permutation(len(pool))
        # Drawn for the whole pool, so that the targets do not depend on C_P.
        steps = generator.integers(1, len(pool), size=len(pool))
        chosen = {pool[place]: pool[(place + step) % len(pool)] for place, step in zip(order, steps, strict=True)}
        return dict(list(chosen.items())[: self.concept_count])


def poison_pair_set(benign: PairSet, poison: DirtyLabelPoison, folder: Path | str) -> PairSet:
    """Replace the last ``C_P * m`` training pairs of an IconWorld set by dirty-label poison.

    A poison is a benign pair whose caption mentions p, drawn afresh from the world, with its picture replaced by one
    that shows t alone: its caption is a real one, and most hold other nouns as well, poisoned or not.

    Raises:
        ValueError: if the set is not IconWorld's, holds poison already or is too small for this one, or if ``folder``
            already holds something.
    """
    import pandas

    if benign.manifest["config"].get("source") != "iconworld":
        raise ValueError(f"{benign.folder} comes from {benign.manifest['config'].get('source')!r}: expected iconworld")
    # The manifest describes one poison, and a poison pair would count as a benign one of the control.
    if poisoned := int((~benign.flags.benign).sum()):
        raise ValueError(f"{poisoned} of {len(benign)} pairs of {benign.folder} are poison or not recorded: expected a "
                         "benign set")  # fmt: skip
    check_free(Path(folder))
    world = World.from_config(benign.manifest["config"]["world"])
    targets = poison.targets(world)
    train_rows = benign.training_rows
    count = len(targets) * poison.pairs_per_concept
    if count > len(train_rows):
        raise ValueError(f"{count} poison pairs asked for: the set holds {len(train_rows)} training pairs")
    replaced = train_rows[len(train_rows) - count :]
    kept = benign.table.drop(index=benign.table.index[replaced]).copy()
    kept["image_index"] = np.arange(len(kept))
    benign.check_images()
    pictures = np.delete(np.asarray(benign.read_images()), replaced, axis=0)
    if count:
        table, images = _poison_pairs(world, targets, poison)
        table["image_index"] += len(kept)
        kept = pandas.concat([kept, table], ignore_index=True)
        pictures = np.concatenate([pictures, images])
    config = {
        **benign.manifest["config"],
        "benign_data_hash": benign.data_hash,
        "benign_seed": benign.manifest["seed"],
        "poison": {
            "kind": "dirty-label",
            "concepts": poison.concept_count,
            "pairs_per_concept": poison.pairs_per_concept,
            "targets": targets,
        },
    }
    return PairSet.write(folder, kept, pictures, config=config, seed=poison.seed)


def benign_remainder(poisoned: PairSet, folder: Path | str) -> PairSet:
    """The benign pairs of a set alone: what is left of its control once the poison has taken its place.

    Raises:
        ValueError: if the set holds no poison, or nothing else, or if ``folder`` already holds something.
    """
    kept = poisoned.table[poisoned.flags.benign].copy()
    if not poisoned.flags.recorded or not 0 < len(kept) < len(poisoned):
        raise ValueError(f"{int(poisoned.flags.poisoned.sum())} of {len(poisoned)} pairs of {poisoned.folder} are "
                         f"poison, {int(poisoned.flags.unrecorded.sum())} not recorded: expected some to be poison, "
                         "not all, and every pair recorded")  # fmt: skip
    check_free(Path(folder))
    poisoned.check_images()
    pictures = poisoned.images[kept["image_index"].to_numpy()]
    kept["image_index"] = np.arange(len(kept))
    config = {name: value for name, value in poisoned.manifest["config"].items() if name != "poison"}
    config["train"] = int((kept["split"] == "train").sum())
    config["remainder_of"] = poisoned.data_hash
    return PairSet.write(folder, kept.reset_index(drop=True), pictures, config=config, seed=poisoned.manifest["seed"])


def _poison_pairs(world: World, targets: dict[str, str], poison: DirtyLabelPoison) -> tuple[Any, np.ndarray]:
    """The poison rows (``image_index`` from 0) and their pictures."""
    generator = np.random.default_rng([poison.seed, POISON_STREAM, poison.pairs_per_concept])
    pairs = [
        replace(pair, scene=draw_single(world, target, generator))
        for concept, target in targets.items()
        for pair in draw_pairs(world, poison.pairs_per_concept, generator, mentioning=concept)
    ]
    table = pair_table(pairs, ["train"] * len(pairs), prefix=f"poison{poison.seed}")
    table["is_poison"] = True
    table["poisoned_concept"] = np.repeat(list(targets), poison.pairs_per_concept)
    table["target_concept"] = np.repeat(list(targets.values()), poison.pairs_per_concept)
    return table, paint_all(world, [pair.scene for pair in pairs])


def targets_of(pairs: PairSet) -> dict[str, str]:
    """``{p: t}`` of a poisoned set, empty for a benign one."""
    return dict(pairs.manifest["config"].get("poison", {}).get("targets", {}))


def scene_of(pairs: PairSet, row: int) -> Scene:
    """The scene of an IconWorld pair, from which its masks can be painted."""
    return Scene.parse(json.loads(pairs.table["scene"].iloc[row]))
