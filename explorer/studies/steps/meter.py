"""How much every arm's model still listens to the words of its prompt; needs no pairs and no judge.

The networks are shown painted scenes where the study's concepts are a painted world's, else each model's own pictures,
those of the study's first seed, which are drawn then before this.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.core.provenance import write_json
from explorer.meter.meter import measure_checkpoint
from explorer.meter.payload_formats import METER as METER_FORMAT
from explorer.meter.reading_files import load_reading, write_reading
from explorer.meter.request import MeterRequest
from explorer.studies.inputs import StudyInputs
from explorer.studies.results import METER, PICTURES, RECEIPTS, step_folder, writing_step
from explorer.studies.steps.drawing import drawing_settings, models_of, painted_world, whether_painted
from explorer.studies.steps.step import Step, StepWork
from explorer.studies.study import Arm

if TYPE_CHECKING:
    from explorer.meter.shown import Shown


def _settings(inputs: StudyInputs) -> dict[str, Any]:
    request, control = _request(inputs), inputs.study.control
    common = {
        "timesteps": list(request.timesteps), "draws": request.draws, "seed": request.seed,
        "precision": inputs.precision, "control": None if control is None else control.name,
    }  # fmt: skip
    if whether_painted(inputs):
        return common | {"shown": "painted scenes"}
    return common | {"shown": "own pictures", "picture_seed": inputs.study.seeds[0], **drawing_settings(inputs)}


def _request(inputs: StudyInputs, device: str = "cpu") -> MeterRequest:
    return MeterRequest(size=inputs.study.size, device=device, precision=inputs.precision)


def _calls(inputs: StudyInputs, arm: Arm) -> int:
    return _request(inputs).calls(len(inputs.concepts.names))


def _measure(work: StepWork) -> None:
    """One model in memory at a time; an arm that cannot be measured is left out."""
    from explorer.meter.report import MeasuredModel, meter_report

    request, shown, concepts = _request(work.inputs, work.device), _shown(work), work.inputs.concepts
    with writing_step(
        work.study, METER, settings=work.settings, inputs=(inputs := {}), seed=request.seed, work=(cost := {}),
        goes_on=True,
    ) as folder:  # fmt: skip
        finished, measured, calls = work.finished_in(folder), [], 0
        for checkpoint in models_of(work):
            try:
                if checkpoint.name not in finished:
                    model = measure_checkpoint(checkpoint, concepts, shown, request, work.on_progress)
                    write_reading(_reading_of(checkpoint.name, folder), model.reading)
                    finished.add(checkpoint.name, _reading_of(checkpoint.name, folder))
                    calls += request.calls(len(concepts.names))
                reading = load_reading(_reading_of(checkpoint.name, folder))
                measured.append(MeasuredModel(name=checkpoint.name, poison=checkpoint.poison, reading=reading))
            except (ValueError, OSError) as error:
                work.fails(checkpoint.name, error)
        if not measured:
            raise ValueError("no model could be measured")
        names = [model.name for model in measured]
        reference = work.settings["control"] if work.settings["control"] in names else None
        write_json(folder / METER_FORMAT.name, meter_report(measured, concepts, request, shown, reference))
        inputs |= work.inputs_of(names)
        cost |= work.cost(calls)


def _reading_of(arm: str, folder: Path) -> Path:
    """Where an arm's reading lies until all are there: among the receipts, which are no results."""
    return folder / RECEIPTS / f"{arm}.safetensors"


def _shown(work: StepWork) -> Shown:
    """Painted scenes, or the pictures that are drawn already."""
    from explorer.evaluation.drawings import Drawing, seed_folder
    from explorer.meter.shown import Shown, painted_scenes

    if (world := painted_world(work.inputs)) is not None:
        return painted_scenes(world, work.inputs.concepts, work.settings["seed"])
    drawings, seed = step_folder(work.study, PICTURES), work.settings["picture_seed"]
    return Shown(
        words=f"each model's own pictures of seed {seed}", same_for_all=False,
        pictures=lambda pipeline, model: Drawing.load_images(seed_folder(drawings, model, seed)),
    )  # fmt: skip


STEP = Step(
    name=METER,
    unit="network call",
    settings=_settings,
    shared=lambda inputs: inputs.of_concepts,
    of_arm=lambda inputs, arm: inputs.of_model(arm),
    amount=_calls,
    make=_measure,
    after=PICTURES,
    waits=lambda inputs: painted_world(inputs) is None,
)
