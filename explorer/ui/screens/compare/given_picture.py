"""One picture that no model drew, shown to every model in place of its own: a painted scene, where its object is known
to the pixel, or for a user's study a training picture of its control."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.attention.prompts import prompt_words
from explorer.checkpoints.joint_pipelines import picture_side
from explorer.generation.columns import describe_generation
from explorer.generation.generate import GenerationRequest, check_request
from explorer.iconworld.scenes import masks
from explorer.iconworld.world import World, draw_single
from explorer.studies.fingerprints import pairs_fingerprint
from explorer.studies.training_pictures import TrainingPictures
from explorer.ui.screens.compare.named_graft import model_named
from explorer.ui.screens.compare.payload import live_payload
from explorer.ui.shell.concepts import read_concepts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import DiffusionPipeline

    from explorer.attention.words import PromptWords
    from explorer.generation.given_pictures import GivenPicture
    from explorer.ui.screens.compare.live_generation import LiveGeneration
    from explorer.ui.shell.concepts import StudyConcepts
    from explorer.ui.shell.open_study import OpenStudy

SCENE_STREAM = 402
"""Of random numbers: scenes of one seed are not those of another use of it."""


def shown_picture(live: LiveGeneration, opened: OpenStudy, *, model: str, prompt: str, seed: int) -> dict[str, Any]:
    """The column of one model: a picture of the concept that the prompt names, and its maps at some noise levels.

    Waits for its turn with the models. Prompt and seed decide the picture and its noise, so that all models are shown
    the same.

    Raises:
        ValueError: in words for whoever asked, if there is no such model, it cannot read the prompt, the prompt does
            not name one concept, or there is no picture of it.
    """
    return live.context.models.do(lambda: _shown(live, opened, model, prompt, seed))


def _shown(live: LiveGeneration, opened: OpenStudy, model: str, prompt: str, seed: int) -> dict[str, Any]:
    from explorer.generation.given_pictures import show_picture

    checkpoint = model_named(opened, model)
    pipeline, request = live.pipeline(opened, model), GenerationRequest(prompt=prompt, seed=seed)
    check_request(pipeline, request)
    world = _world(opened)
    words = prompt_words(pipeline, prompt)
    given = _pair_of(opened, pipeline, words, seed) if world is None else _scene_of(opened, world, words, seed)
    generation = show_picture(pipeline, given, request, model=model)
    nouns = list(read_concepts(opened).nouns.values())
    column = describe_generation(generation, checkpoint, concepts=nouns, given=given)
    payload = live_payload(column, opened)
    return payload | {"token": live.results.keep(payload, (opened, replace(column, stacks=())))}


def _world(opened: OpenStudy) -> World | None:
    """The painted world that the study's models record; None where none does."""
    recorded = (checkpoint.config.get("world") for checkpoint in opened.registry())
    return next((World.from_config(each) for each in recorded if isinstance(each, dict)), None)


def _scene_of(opened: OpenStudy, world: World, words: PromptWords, seed: int) -> GivenPicture:
    from explorer.generation.given_pictures import GivenPicture

    concept = _one_concept(world.concepts, read_concepts(opened), words)
    scene = draw_single(world, concept, np.random.default_rng([seed, SCENE_STREAM]))
    return GivenPicture(
        pixels=world.paint(scene), words=f"a painted scene of {concept}",
        mask=masks(scene, world.atlas, world.atlas_rows)[0],
    )  # fmt: skip


def _pair_of(opened: OpenStudy, pipeline: DiffusionPipeline, words: PromptWords, seed: int) -> GivenPicture:
    from explorer.generation.given_pictures import GivenPicture
    from explorer.training.encoded_pairs import fit_pictures

    control, concepts = opened.study.control, read_concepts(opened)
    names = concepts.names
    if control is None or control.pairs is None:
        raise ValueError("There is no picture to show: the study has no control with training pairs, nor models that "
                         "record a painted world.")  # fmt: skip
    concept = _one_concept(names, concepts, words)
    stamp = (control, names, pairs_fingerprint(control))
    pictures = opened.remember("training pictures", stamp, lambda: TrainingPictures(control, names))
    found = pictures.picture(concept, seed)
    unknown = "" if found.known_benign else "; nobody recorded whether it is poison"
    return GivenPicture(
        pixels=fit_pictures(found.pixels[None], picture_side(pipeline, opened.study.size))[0],
        words=f"a training picture of {control.name}, “{found.caption}”{unknown}",
    )


def _one_concept(names: Sequence[str], concepts: StudyConcepts, words: PromptWords) -> str:
    places = {name: set(words.indices_of(concepts.noun(name))) for name in names}
    taken = [place for place in places.values() if place]
    # "fire truck" names no truck, as in captions
    named = [name for name, place in places.items() if place and not any(place < other for other in taken)]
    if len(named) != 1:
        found = " and ".join(named) or "none"
        raise ValueError(f"A given picture shows one concept, and the prompt names {found}: write of one alone.")
    return named[0]
