"""What the network is shown while it is measured: scenes that are known, pictures, or noise alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from explorer.checkpoints.joint_pipelines import picture_side
from explorer.core.progress import Tally, unheard
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.drawings import draw
from explorer.evaluation.painted_scenes import paint_singles
from explorer.evaluation.prompts import single_prompts
from explorer.iconworld.world import World
from explorer.meter.request import MeterRequest
from explorer.pairs.concept_list import ConceptList
from explorer.training.encoded_pairs import fit_pictures

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

SCENES, OWN, NOISE = "scenes", "own", "noise"
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Which pictures are noised."""

    words: str
    """What they are, for a reader of the results."""
    same_for_all: bool
    """Whether every model is shown the same, so that their predictions compare place by place."""
    pictures: Callable[[DiffusionPipeline, str], np.ndarray] | None
    """Of a pipeline and the model's name: uint8 ``[concepts, H, W, 3]``; None for noise without a picture in it."""
    calls_a_picture: int = 0
    """Network calls that one takes before it is there."""
    files: tuple[Path, ...] = ()
    """Where given pictures are read from."""


def shown_on(on: str | None, checkpoints: Sequence[Checkpoint], concepts: ConceptList, request: MeterRequest) -> Shown:
    """What a word or a folder names: ``scenes``, ``own``, ``noise``, or a folder with a picture of every concept.

    Args:
        on: None for scenes where a checkpoint records a painted world that has all the concepts, else own.

    Raises:
        ValueError: if it is none of these, or scenes and no checkpoint records such a world.
    """
    world = known_world(checkpoints, concepts) if on in (None, SCENES) else None
    if world is not None:
        return painted_scenes(world, concepts, request.seed)
    if on == NOISE:
        return pure_noise()
    if on in (None, OWN):
        return own_pictures(concepts, request)
    if on != SCENES and Path(on).is_dir():
        return given_pictures(Path(on), concepts, request.size)
    if on == SCENES:
        raise ValueError("--on is scenes: no checkpoint records a painted world that has all the concepts")
    raise ValueError(f"--on is {on!r}: expected scenes, own, noise or a folder of pictures")


def pure_noise() -> Shown:
    """Noise alone, whatever the timestep says: any family, and nothing to draw, but nothing that models are used on."""
    return Shown(words="noise without a picture", same_for_all=True, pictures=None)


def painted_scenes(world: World, concepts: ConceptList, seed: int) -> Shown:
    """IconWorld's scenes of single concepts, which no model drew.

    Raises:
        ValueError: naming a concept that the world has not.
    """
    if absent := [name for name in concepts.names if name not in world.ranks]:
        raise ValueError(f"concept is {absent[0]!r}: expected one of the {len(world.concepts)} of the painted world")
    rows = [world.ranks[name] for name in concepts.names]
    return Shown(
        words=f"painted scenes of seed {seed}", same_for_all=True,
        pictures=lambda pipeline, model: paint_singles(world, seed)[0][rows],
    )  # fmt: skip


def own_pictures(concepts: ConceptList, request: MeterRequest) -> Shown:
    """What each model draws of each concept itself; models then differ in what they are shown as well."""
    config = EvaluationConfig(
        steps=request.steps, guidance_scale=request.guidance_scale, batch_size=request.batch_size, size=request.size
    )

    def pictures(pipeline: DiffusionPipeline, model: str) -> np.ndarray:
        prompts = single_prompts(concepts)
        return draw(pipeline, model, prompts, request.seed, config, Tally(unheard, model, len(prompts))).images

    words = f"each model's own pictures, {request.steps} steps at guidance {request.guidance_scale:g}"
    return Shown(words=words, same_for_all=False, pictures=pictures, calls_a_picture=2 * request.steps)


def given_pictures(folder: Path, concepts: ConceptList, size: int | None = None) -> Shown:
    """Pictures of a folder, one a concept, called like it (``turtle.png``): their middle square, brought to ``size``
    pixels or each model's own size.

    Raises:
        ValueError: naming a concept without a picture, or with several.
    """
    files = [_picture_of(folder, name) for name in concepts.names]
    return Shown(
        words=f"the pictures in {folder.name}", same_for_all=True,
        pictures=lambda pipeline, model: _read_pictures(files, pipeline, size), files=tuple(files),
    )  # fmt: skip


def known_world(checkpoints: Iterable[Checkpoint], concepts: ConceptList) -> World | None:
    """The painted world that a checkpoint records, if it has all the concepts; else None."""
    recorded = (checkpoint.config.get("world") for checkpoint in checkpoints)
    worlds = (World.from_config(each) for each in recorded if isinstance(each, dict))
    return next((world for world in worlds if set(concepts.names) <= world.ranks.keys()), None)


def _picture_of(folder: Path, name: str) -> Path:
    found = [path for ending in PICTURE_ENDINGS if (path := folder / f"{name}{ending}").is_file()]
    if len(found) != 1:
        raise ValueError(f"{folder} has {len(found)} pictures of {name!r}: expected one, such as {name}.png")
    return found[0]


def _read_pictures(files: list[Path], pipeline: DiffusionPipeline, size: int | None) -> np.ndarray:
    side = picture_side(pipeline, size)
    pictures = (np.asarray(Image.open(path).convert("RGB")) for path in files)
    return np.concatenate([fit_pictures(picture[None], side) for picture in pictures])
