"""The film strip of a study: frequent concepts of the pool and others, one row each, by every arm."""

from __future__ import annotations

from typing import Any

from explorer.generation.film_strip import FilmStripConfig, write_film_strip
from explorer.generation.payload_formats import FILM_KINDS
from explorer.studies.extractors import judge_of
from explorer.studies.inputs import StudyInputs
from explorer.studies.results import FILM_STRIP, writing_step
from explorer.studies.showcase import strip_concepts
from explorer.studies.steps.drawing import PICTURE, drawing_settings, models_of
from explorer.studies.steps.step import Step, StepWork


def _settings(inputs: StudyInputs) -> dict[str, Any]:
    rows = strip_concepts(inputs.concepts, inputs.poison.values(), inputs.study.strip_rows)
    # With its sheets, so that a strip of an earlier release, which has no guidance maps, is drawn again.
    return {"rows": rows, "seed": inputs.study.seeds[0], "sheets": list(FILM_KINDS), **drawing_settings(inputs)}


def _draw(work: StepWork) -> None:
    settings, concepts = work.settings, work.inputs.concepts
    config = FilmStripConfig(
        concepts=concepts.chosen(settings["rows"]), seed=settings["seed"], steps=settings["steps"],
        guidance_scale=settings["guidance_scale"], size=settings["size"], device=work.device,
        precision=settings["precision"],
    )  # fmt: skip
    with writing_step(
        work.study, FILM_STRIP, settings=settings, inputs=work.inputs_of(work.arms), seed=config.seed, work=(cost := {})
    ) as folder:  # fmt: skip
        judge = judge_of(work.study, concepts, work.device)
        control = None if work.study.control is None else work.study.control.name
        write_film_strip(
            folder, models_of(work), config, control=control, judge=judge, on_progress=work.on_progress
        )  # fmt: skip
        cost |= work.cost(len(settings["rows"]) * len(work.arms))


STEP = Step(
    name=FILM_STRIP,
    unit=PICTURE,
    settings=_settings,
    shared=lambda inputs: inputs.of_concepts | inputs.of_judge,
    of_arm=lambda inputs, arm: inputs.of_model(arm),
    amount=lambda inputs, arm: len(_settings(inputs)["rows"]),
    make=_draw,
)
