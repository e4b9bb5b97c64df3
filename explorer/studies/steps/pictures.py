"""Pictures of every concept by every arm and seed, with the maps of their words: drawn once, measured often.

They are drawn into their place, a folder for each arm and seed, so that what was cut off goes on with the next seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explorer.core.progress import Progress
from explorer.core.provenance import MANIFEST_NAME
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.prompts import paired_prompts
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import Recorded
from explorer.studies.results import PICTURES, record_step, step_folder
from explorer.studies.steps.drawing import PICTURE, drawing_settings, painted_world
from explorer.studies.steps.step import Step, StepWork
from explorer.studies.study import Arm


def picture_settings(inputs: StudyInputs) -> dict[str, Any]:
    """What decides all pictures."""
    return {"seeds": list(inputs.study.seeds), **drawing_settings(inputs)}


def evaluation_config(work: StepWork) -> EvaluationConfig:
    """How the arms are asked and judged."""
    study = work.study
    return EvaluationConfig(
        seeds=study.seeds, steps=study.steps, guidance_scale=study.guidance_scale, size=study.size,
        device=work.device, precision=work.inputs.precision, tau=study.tau, tau_quantile=study.tau_quantile,
    )  # fmt: skip


def count_pictures(inputs: StudyInputs, arm: Arm) -> int:
    """Pictures of one arm."""
    concepts = inputs.concepts
    return len(inputs.study.seeds) * (len(concepts.names) + len(paired_prompts(concepts)))


def _draw(work: StepWork) -> None:
    """Every arm in turn; the step's manifest lists an arm as soon as all its seeds are drawn."""
    from explorer.evaluation.drawings import draw_missing

    folder, config, world = step_folder(work.study, PICTURES), evaluation_config(work), painted_world(work.inputs)
    earlier = Recorded.read(work.study, PICTURES).work
    done = list(work.kept)
    drawn = _Drawn()
    # What is drawn anew must not be listed meanwhile.
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    _record(folder, work, done, drawn, earlier)
    for name in work.arms:
        try:
            checkpoint = work.inputs.checkpoint(work.arm(name))
            draw_missing(checkpoint, work.inputs.concepts, config, folder, world, drawn.heard_by(work.on_progress))
        except (ValueError, OSError) as error:
            work.fails(name, error)
            continue
        done.append(name)
        _record(folder, work, done, drawn, earlier)


def _record(folder: Path, work: StepWork, done: list[str], drawn: _Drawn, earlier: dict[str, Any]) -> None:
    from explorer.evaluation.drawings import seed_folder

    if not done:
        return
    places = [seed_folder(folder, arm, seed) for arm in done for seed in work.study.seeds]
    record_step(
        folder, PICTURES, [(place / MANIFEST_NAME).relative_to(folder).as_posix() for place in places],
        settings=work.settings, inputs=work.inputs_of(done), seed=work.study.seeds[0],
        work=work.cost(drawn.count) if drawn.count else earlier,
    )  # fmt: skip


class _Drawn:
    """How many pictures were drawn, as the reports of progress say: those that were there already cost nothing."""

    def __init__(self) -> None:
        self.count, self._latest = 0, 0

    def heard_by(self, on_progress):
        """Reports to ``on_progress``, counted on their way."""

        def heard(progress: Progress) -> None:
            if progress.task and progress.unit == PICTURE:
                self.count += max(0, progress.done - self._latest)
                self._latest = progress.done
            on_progress(progress)

        self._latest = 0
        return heard


STEP = Step(
    name=PICTURES,
    unit=PICTURE,
    settings=picture_settings,
    shared=lambda inputs: inputs.of_concepts,
    of_arm=lambda inputs, arm: inputs.of_checkpoint(arm),
    amount=count_pictures,
    make=_draw,
    by_arm=True,
)
