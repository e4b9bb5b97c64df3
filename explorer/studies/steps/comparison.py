"""What the screen *Compare* shows at first: one concept by every arm, with all its maps."""

from __future__ import annotations

from typing import Any

from explorer.core.progress import counted
from explorer.generation.columns import compare_checkpoints, write_comparison
from explorer.generation.generate import GenerationRequest
from explorer.generation.payload_formats import COMPARISON as FORMAT
from explorer.studies.extractors import judge_of
from explorer.studies.inputs import StudyInputs
from explorer.studies.results import COMPARISON, writing_step
from explorer.studies.showcase import evaluated, shown_concept
from explorer.studies.steps.drawing import PICTURE, drawing_settings, models_of
from explorer.studies.steps.step import Step, StepWork


def _settings(inputs: StudyInputs) -> dict[str, Any]:
    """With the threshold as the evaluation has it, and a concept that it chooses unless the study names one."""
    report, named = evaluated(inputs.study), inputs.study.shown_concept
    if named is not None and named not in inputs.concepts.ranks:
        raise ValueError(
            f"shown_concept is {named!r}: expected one of the list's {len(inputs.concepts.names)} concepts"
        )
    return {
        "concept": named or shown_concept(inputs.concepts, inputs.poison.values(), report),
        "tau": inputs.study.tau if report is None else report["tau"],
        "seed": inputs.study.seeds[0], "format": FORMAT.version, **drawing_settings(inputs),
    }  # fmt: skip


def _draw(work: StepWork) -> None:
    """One model in memory at a time; an arm that cannot be drawn is left out."""
    settings, concepts = work.settings, work.inputs.concepts
    request = GenerationRequest(
        prompt=concepts.prompt(settings["concept"]), seed=settings["seed"], steps=settings["steps"],
        guidance_scale=settings["guidance_scale"], height=settings["size"], width=settings["size"],
    )  # fmt: skip
    judge = judge_of(work.study, concepts, work.device, settings["tau"])
    columns = []
    for checkpoint in counted(models_of(work), work.on_progress, f"comparison of {settings['concept']}", PICTURE):
        try:
            columns += compare_checkpoints(
                [checkpoint], request, concepts=[each.noun for each in concepts.concepts], judge=judge,
                device=work.device, precision=settings["precision"],
            )  # fmt: skip
        except (ValueError, OSError) as error:
            work.fails(checkpoint.name, error)
    if not columns:
        return
    inputs = work.inputs_of(column.model for column in columns)
    with writing_step(
        work.study, COMPARISON, settings=settings, inputs=inputs, seed=request.seed, work=work.cost(len(columns))
    ) as folder:  # fmt: skip
        write_comparison(folder, columns)


STEP = Step(
    name=COMPARISON,
    unit=PICTURE,
    settings=_settings,
    shared=lambda inputs: inputs.of_concepts | inputs.of_judge,
    of_arm=lambda inputs, arm: inputs.of_model(arm),
    amount=lambda inputs, arm: 1,
    make=_draw,
)
