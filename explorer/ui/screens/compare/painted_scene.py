"""One painted scene shown to a model in place of a picture of its own: where its object is, is known to the pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.attention.prompts import prompt_words
from explorer.generation.columns import describe_generation
from explorer.generation.generate import GenerationRequest, check_request
from explorer.iconworld.scenes import masks
from explorer.iconworld.world import World, draw_single
from explorer.ui.screens.compare.named_graft import model_named
from explorer.ui.screens.compare.payload import live_payload
from explorer.ui.shell.concepts import read_concepts

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.generation.given_pictures import GivenPicture
    from explorer.ui.screens.compare.live_generation import LiveGeneration
    from explorer.ui.shell.open_study import OpenStudy

SCENE_STREAM = 402
"""Of random numbers: scenes of one seed are not those of another use of it."""


def shown_scene(live: LiveGeneration, opened: OpenStudy, *, model: str, prompt: str, seed: int) -> dict[str, Any]:
    """The column of one model: the scene of the concept that the prompt names, and its maps at some noise levels.

    Waits for its turn with the models. Prompt and seed decide the scene and its noise, so that all models are shown the
    same.

    Raises:
        ValueError: in words for whoever asked, if there is no such model, it cannot read the prompt, or the prompt does
            not name one concept of a painted world.
    """
    return live.context.models.do(lambda: _shown(live, opened, model, prompt, seed))


def _shown(live: LiveGeneration, opened: OpenStudy, model: str, prompt: str, seed: int) -> dict[str, Any]:
    from explorer.generation.given_pictures import show_picture

    checkpoint = model_named(opened, model)
    pipeline, request = live.pipeline(opened, model), GenerationRequest(prompt=prompt, seed=seed)
    check_request(pipeline, request)
    given = _scene_of(_world(opened), pipeline, prompt, seed)
    generation = show_picture(pipeline, given, request, model=model)
    column = describe_generation(generation, checkpoint, concepts=read_concepts(opened).names, given=given)
    payload = live_payload(column, opened)
    return payload | {"token": live.keep(payload, (opened, replace(column, stacks=())))}


def _world(opened: OpenStudy) -> World:
    """The painted world that the study's models record."""
    recorded = (checkpoint.config.get("world") for checkpoint in opened.registry())
    world = next((World.from_config(each) for each in recorded if isinstance(each, dict)), None)
    if world is None:
        raise ValueError("No model of this study records a painted world, so that there are no scenes to show.")
    return world


def _scene_of(world: World, pipeline: DiffusionPipeline, prompt: str, seed: int) -> GivenPicture:
    from explorer.generation.given_pictures import GivenPicture

    words = prompt_words(pipeline, prompt)
    if len(named := [concept for concept in world.concepts if words.indices_of(concept)]) != 1:
        found = " and ".join(named) or "none"
        raise ValueError(f"A painted scene shows one concept, and the prompt names {found}: write of one alone.")
    scene = draw_single(world, named[0], np.random.default_rng([seed, SCENE_STREAM]))
    return GivenPicture(
        pixels=world.paint(scene), words=f"a painted scene of {named[0]}",
        mask=masks(scene, world.atlas, world.atlas_rows)[0],
    )  # fmt: skip
