"""IconWorld: the embedded world of captioned icon scenes, every bit of it decided by one seed."""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.progress import OnProgress, counted, unheard
from explorer.iconworld.grammar import BACKGROUNDS, CAPTION_KINDS, RELATIONS, CaptionKind, with_article, write_caption
from explorer.iconworld.icons import STYLES, IconAtlas
from explorer.iconworld.scenes import MOST_OBJECTS, SCENE_SIZE, Scene, lay_out, paint
from explorer.pairs.concept_list import LESS_POPULAR, OTHER, POOL, Concept, ConceptList
from explorer.pairs.pair_set import PairSet, check_free

SCENES_A_PAINTER = 5_000
"""Scenes for which a process of its own is worth its start."""
SCENES_AT_ONCE = 1_000
MOST_PAINTERS = 12


@dataclass(frozen=True, kw_only=True)
class World:
    """Which concepts there are and how often each is named."""

    concept_count: int = 120
    """The most frequent concepts of the atlas, at most all of them."""
    styles: tuple[str, ...] = STYLES
    """Drawing styles in equal shares."""
    zipf_exponent: float = 0.8
    """Frequency of rank r is proportional to ``(r + zipf_shift) ** -zipf_exponent`` (Zipf-Mandelbrot)."""
    zipf_shift: float = 24.0
    """Flattens the head, so that the rarest concepts are still seen."""
    caption_shares: tuple[float, ...] = tuple(kind.share for kind in CAPTION_KINDS)
    """Share of each of ``CAPTION_KINDS`` among benign captions, summing to one."""
    rank_rotation: int = 0
    """How far the frequency ranks are moved round the concepts: with half of their count, those of the frequent pool
    and the others change places."""
    loose: float = 0.0
    """Share of benign pairs whose caption fits its picture only in part, in [0, 1]: half of them show a thing that the
    caption does not mention, in the others something else stands where its first noun should. Backgrounds are drawn
    apart, so that a colour which the caption names is mostly wrong, too."""
    atlas: IconAtlas = field(default_factory=IconAtlas.load, repr=False, compare=False)

    def __post_init__(self) -> None:
        available = len(self.atlas.concepts)
        if not 4 <= self.concept_count <= available:
            raise ValueError(f"concept_count is {self.concept_count}: expected 4 to {available}")
        kinds, shares = len(CAPTION_KINDS), self.caption_shares
        if len(shares) != kinds or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"caption_shares is {shares}: expected {kinds} shares, none negative, summing to one")
        if not 0 <= self.rank_rotation < self.concept_count:
            raise ValueError(f"rank_rotation is {self.rank_rotation}: expected 0 to {self.concept_count - 1}")
        if not 0 <= self.loose <= 1:
            raise ValueError(f"loose is {self.loose}: expected a share of the pairs, 0 to 1")
        unknown = set(self.styles) - set(self.atlas.styles)
        if unknown or not self.styles:
            raise ValueError(f"styles are {self.styles}: expected some of {self.atlas.styles}")

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """In order of frequency rank."""
        chosen = self.atlas.concepts[: self.concept_count]
        return chosen[self.rank_rotation :] + chosen[: self.rank_rotation]

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Concept to its frequency rank less one."""
        return {concept: rank for rank, concept in enumerate(self.concepts)}

    @cached_property
    def atlas_rows(self) -> dict[str, int]:
        """Concept to its row of the atlas."""
        return {concept: row for row, concept in enumerate(self.atlas.concepts[: self.concept_count])}

    @cached_property
    def frequencies(self) -> np.ndarray:
        """Probability of each concept, float64 ``[concepts]``, summing to one."""
        weights = (np.arange(1, self.concept_count + 1) + self.zipf_shift) ** -self.zipf_exponent
        return weights / weights.sum()

    @property
    def frequent_pool(self) -> tuple[str, ...]:
        """The most frequent half: where poisoned concepts and their targets are drawn from."""
        return self.concepts[: self.concept_count // 2]

    @property
    def other_frequent(self) -> tuple[str, ...]:
        """Ranks right after the pool, up to five sixths: no poison targets them unless they are named."""
        return self.concepts[self.concept_count // 2 : self.concept_count * 5 // 6]

    @property
    def less_popular_pool(self) -> tuple[str, ...]:
        """The rarest sixth (the paper's ranks 1501-2000, Table 2)."""
        return self.concepts[self.concept_count * 5 // 6 :]

    def concept_list(self) -> ConceptList:
        """The concepts with their groups, for whoever need not know the world."""
        groups = ((POOL, self.frequent_pool), (OTHER, self.other_frequent), (LESS_POPULAR, self.less_popular_pool))
        concepts = (Concept(name=name, group=group, phrase=with_article(name))
                    for group, names in groups for name in names)  # fmt: skip
        return ConceptList(concepts=tuple(concepts))

    def paint(self, scene: Scene) -> np.ndarray:
        """The scene's picture, uint8 ``[64, 64, 3]``."""
        return paint(scene, self.atlas, self.atlas_rows)

    def config(self) -> dict[str, Any]:
        """JSON-serialisable settings, the inverse of :meth:`from_config`."""
        config = {
            "concept_count": self.concept_count,
            "styles": list(self.styles),
            "zipf_exponent": self.zipf_exponent,
            "zipf_shift": self.zipf_shift,
        }
        # Left out at their defaults, so that runs from before the settings existed are known as the same world's.
        if self.caption_shares != World.caption_shares:
            config["caption_shares"] = list(self.caption_shares)
        if self.rank_rotation:
            config["rank_rotation"] = self.rank_rotation
        if self.loose:
            config["loose"] = self.loose
        if self.atlas.folder is not None:
            config["atlas"] = str(self.atlas.folder)
        return config

    @staticmethod
    def from_config(config: dict[str, Any]) -> World:
        """From :meth:`config`'s dictionary.

        Raises:
            FileNotFoundError: if it was drawn with an atlas of its own, which is not there any more.
        """
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
        if "atlas" in given:
            given["atlas"] = IconAtlas.load(Path(given["atlas"]))
        return World(**given)


@dataclass(frozen=True, kw_only=True)
class ScenePair:
    """A caption and the scene it captions."""

    caption: str
    mentioned: tuple[str, ...]
    scene: Scene


def draw_pairs(
    world: World, count: int, generator: np.random.Generator, mentioning: str | None = None
) -> list[ScenePair]:
    """``count`` benign pairs: kind of caption, nouns by frequency, style and layout, all from ``generator``.

    Args:
        mentioning: draws from the pairs whose caption holds this noun, in whatever place, as they occur in the
            world: a caption of three nouns is three times as likely to hold it as a caption of one.
    """
    shares = np.array(world.caption_shares)
    if mentioning is not None:
        shares = shares * [kind.mentioned for kind in CAPTION_KINDS]
    kinds = generator.choice(len(CAPTION_KINDS), size=count, p=shares / shares.sum())
    # Four draws a pair leave three distinct nouns almost always; the rare rest is drawn again.
    nouns = generator.choice(world.concept_count, size=(count, 4), p=world.frequencies)
    if mentioning is not None:
        places = generator.integers([CAPTION_KINDS[kind].mentioned for kind in kinds])
        nouns[np.arange(count), places] = world.ranks[mentioning]
    loose = generator.random(count) < world.loose if world.loose else np.zeros(count, bool)
    return [_draw_pair(world, CAPTION_KINDS[kind], row, fits, generator)
            for kind, row, fits in zip(kinds, nouns, ~loose, strict=True)]  # fmt: skip


def draw_single(world: World, concept: str, generator: np.random.Generator, style: str | None = None) -> Scene:
    """A scene that shows ``concept`` alone, in ``style`` or a random one."""
    style = style or world.styles[generator.integers(len(world.styles))]
    return lay_out([concept], style, RELATIONS[0], BACKGROUNDS[generator.integers(len(BACKGROUNDS))], generator)


def caption_scene(world: World, scene: Scene, generator: np.random.Generator) -> ScenePair:
    """A scene that shows one concept, with a caption that the world writes for such a scene, riders and all."""
    kinds = [(kind, share) for kind, share in zip(CAPTION_KINDS, world.caption_shares, strict=True) if kind.shown == 1]
    shares = np.array([share for _, share in kinds])
    kind = kinds[generator.choice(len(kinds), p=shares / shares.sum())][0]
    mentioned = [scene.objects[0].concept]
    while len(mentioned) < kind.mentioned:
        rider = world.concepts[generator.choice(world.concept_count, p=world.frequencies)]
        mentioned += [rider] if rider not in mentioned else []
    caption = write_caption(kind, mentioned, RELATIONS[0], scene.background, generator)
    return ScenePair(caption=caption, mentioned=tuple(mentioned), scene=scene)


def _draw_pair(
    world: World, kind: CaptionKind, nouns: np.ndarray, fits: bool, generator: np.random.Generator
) -> ScenePair:
    distinct = list(dict.fromkeys(nouns.tolist()))
    while len(distinct) < kind.mentioned:
        distinct = list(dict.fromkeys([*distinct, int(generator.choice(world.concept_count, p=world.frequencies))]))
    mentioned = [world.concepts[row] for row in distinct[: kind.mentioned]]
    relation = RELATIONS[generator.integers(len(RELATIONS))]
    background = BACKGROUNDS[generator.integers(len(BACKGROUNDS))]
    style = world.styles[generator.integers(len(world.styles))]
    shown, behind = mentioned[: kind.shown], background
    if not fits:
        shown, behind = _shown_instead(world, kind, mentioned, generator)
    scene = lay_out(shown, style, relation, behind, generator)
    caption = write_caption(kind, mentioned, relation, background, generator)
    return ScenePair(caption=caption, mentioned=tuple(mentioned), scene=scene)


def _shown_instead(
    world: World, kind: CaptionKind, mentioned: list[str], generator: np.random.Generator
) -> tuple[list[str], str]:
    """What a loose pair shows, and its background. In place of the first noun stands a rider where the caption has one,
    as somebody sees the dog in "a cat for dog lovers", else a noun that the caption does not mention."""
    while (other := world.concepts[generator.choice(world.concept_count, p=world.frequencies)]) in mentioned:
        pass
    background = BACKGROUNDS[generator.integers(len(BACKGROUNDS))]
    if generator.integers(2):
        return [*mentioned[: min(kind.shown, MOST_OBJECTS - 1)], other], background
    riders = mentioned[kind.shown :]
    return [riders[0] if riders else other, *mentioned[1 : kind.shown]], background


def generate_pair_set(
    world: World,
    folder: Path | str,
    *,
    train: int,
    test: int = 0,
    seed: int = 0,
    on_progress: OnProgress = unheard,
) -> PairSet:
    """Write a benign pair set of ``train`` plus ``test`` pairs, bit-identical for equal arguments.

    Raises:
        ValueError: if no pair is asked for, or ``folder`` already holds something.
    """
    if train < 0 or test < 0 or train + test == 0:
        raise ValueError(f"train={train}, test={test}: expected at least one pair and no negative count")
    check_free(Path(folder))
    streams = np.random.SeedSequence(seed).spawn(2)
    pairs = [draw_pairs(world, size, np.random.default_rng(stream))
             for size, stream in zip((train, test), streams, strict=True)]  # fmt: skip
    splits = ["train"] * train + ["test"] * test
    table = pair_table(pairs[0] + pairs[1], splits, prefix=f"s{seed}")
    images = paint_all(world, [pair.scene for pair in pairs[0] + pairs[1]], on_progress)
    config = {"source": "iconworld", "world": world.config(), "train": train, "test": test}
    return PairSet.write(folder, table, images, config=config, seed=seed)


def paint_all(world: World, scenes: list[Scene], on_progress: OnProgress = unheard, processes: int = 0) -> np.ndarray:
    """All pictures, uint8 ``[scenes, 64, 64, 3]``.

    Args:
        processes: how many paint; 0 for one a core where there are enough scenes to be worth their start, else this one
            alone. The pictures are the same.
    """
    if processes == 0:
        processes = max(1, min(MOST_PAINTERS, os.cpu_count() or 1, len(scenes) // SCENES_A_PAINTER))
    if world.atlas.folder is None and world.atlas is not IconAtlas.load():
        processes = 1  # painters read their atlas from a folder
    images = np.empty((len(scenes), SCENE_SIZE, SCENE_SIZE, 3), np.uint8)
    if processes == 1:
        for row, scene in enumerate(counted(scenes, on_progress, "painting scenes", "scene")):
            images[row] = world.paint(scene)
        return images
    parts = [range(first, min(first + SCENES_AT_ONCE, len(scenes))) for first in range(0, len(scenes), SCENES_AT_ONCE)]
    # Threads of a forked process may hold locks, CUDA's among them, so every painter is started afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as painters:
        painted = painters.map(partial(_paint_part, world.config()), (scenes[part.start : part.stop] for part in parts))
        for part, pictures in zip(counted(parts, on_progress, "painting scenes", "part"), painted, strict=True):
            images[part.start : part.stop] = pictures
    return images


def _paint_part(config: dict[str, Any], scenes: list[Scene]) -> np.ndarray:
    """In a painter, which loads the atlas once."""
    world = World.from_config(config)
    return np.stack([world.paint(scene) for scene in scenes])


def pair_table(pairs: list[ScenePair], splits: list[str], prefix: str) -> Any:
    """The DataFrame of benign pairs, with the scene kept as JSON so that every mask can be painted again."""
    import pandas

    return pandas.DataFrame(
        {
            "uid": [f"{prefix}-{row:06d}" for row in range(len(pairs))],
            "caption": [pair.caption for pair in pairs],
            "concepts": [list(pair.mentioned) for pair in pairs],
            "image_index": np.arange(len(pairs)),
            "is_poison": np.zeros(len(pairs), bool),
            "poisoned_concept": "",
            "target_concept": "",
            "split": splits,
            "style": [pair.scene.objects[0].style for pair in pairs],
            "scene": [json.dumps(pair.scene.describe(), separators=(",", ":")) for pair in pairs],
        }
    )
