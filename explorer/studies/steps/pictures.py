"""Pictures of every concept by every arm and seed, with the maps of their words: drawn once, measured often.

They are drawn into their place, a folder for each arm and seed, so that what was cut off goes on with the next seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from explorer.core.progress import OnProgress, Progress, unheard
from explorer.core.provenance import MANIFEST_NAME, ManifestError, read_manifest
from explorer.core.workers import Workers
from explorer.evaluation.config import DRAWING_VERSION, EvaluationConfig
from explorer.evaluation.prompts import paired_prompts, single_prompts
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import Recorded, differing_names
from explorer.studies.results import PICTURES, record_step, step_folder
from explorer.studies.steps.drawing import PICTURE, drawing_settings, painted_world
from explorer.studies.steps.step import Step, StepWork
from explorer.studies.study import Arm, Study

NOTHING_LEFT = {"arms": []}
"""What the first process tells the others when the run is over."""


def picture_settings(inputs: StudyInputs) -> dict[str, Any]:
    """What decides all pictures."""
    return {"seeds": list(inputs.study.seeds), **drawing_settings(inputs)}


def evaluation_config(inputs: StudyInputs, device: str) -> EvaluationConfig:
    """How the arms are asked and judged."""
    study = inputs.study
    return EvaluationConfig(
        seeds=study.seeds, steps=study.steps, guidance_scale=study.guidance_scale, size=study.size,
        device=device, precision=inputs.precision, tau=study.tau, tau_quantile=study.tau_quantile,
        unrelated_distance=study.unrelated_distance,
    )  # fmt: skip


def count_pictures(inputs: StudyInputs, arm: Arm) -> int:
    """Pictures of one arm."""
    concepts = inputs.concepts
    return len(inputs.study.seeds) * (len(concepts.names) + len(paired_prompts(concepts)))


def _count_left(inputs: StudyInputs, arm: Arm) -> int:
    """Pictures of an arm that are not drawn yet: of an arm that is stale all, of one that was cut off some."""
    study, concepts = inputs.study, inputs.concepts
    prompts = [[prompt, *words] for prompt, words in (*single_prompts(concepts), *paired_prompts(concepts))]
    if Recorded.read(study, PICTURES).of_arm(arm.name):
        return len(study.seeds) * len(prompts)
    asked = drawing_settings(inputs) | {"prompts": prompts}
    places = (step_folder(study, PICTURES) / arm.name / f"seed-{seed}" for seed in study.seeds)
    return len(prompts) * sum(not _is_drawn(place, asked) for place in places)


def _is_drawn(place: Path, asked: dict[str, Any]) -> bool:
    """Whether a seed's drawing is there and was asked for so; its weights are compared when it is drawn."""
    try:
        found = read_manifest(place)["config"]
    except (ManifestError, KeyError):
        return False
    return not differing_names({name: found.get(name) for name in asked}, asked)


def _draw(work: StepWork) -> None:
    """Every arm in turn; the step's manifest lists an arm as soon as all its seeds are drawn."""
    from explorer.evaluation.drawings import draw_missing

    folder, config, world = (
        step_folder(work.study, PICTURES),
        evaluation_config(work.inputs, work.device),
        painted_world(work.inputs),
    )
    earlier = Recorded.read(work.study, PICTURES).work
    done = list(work.kept)
    drawn = _Drawn()
    # What is drawn anew must not be listed meanwhile.
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    _record(folder, work, done, drawn, earlier)
    if work.workers.count > 1:  # what the others cannot draw fails below, too, where it is told
        heard = drawn.heard_by(work.on_progress)
        work.workers.agree(lambda: {"arms": list(work.arms), "precision": work.inputs.precision})
        draw_share(work.inputs, work.arms, config, work.workers, heard)
    for name in work.arms:
        try:
            checkpoint = work.inputs.checkpoint(work.arm(name))
            draw_missing(checkpoint, work.inputs.concepts, config, folder, world, drawn.heard_by(work.on_progress))
        except (ValueError, OSError) as error:
            work.fails(name, error)
            continue
        done.append(name)
        _record(folder, work, done, drawn, earlier)


def help_drawing(study: Study, workers: Workers) -> None:
    """Draw a process's share of whatever the first process draws, until it says that nothing is left."""
    while (asked := workers.agree(dict)) != NOTHING_LEFT:
        inputs = StudyInputs(study, asked["precision"])
        draw_share(inputs, asked["arms"], evaluation_config(inputs, workers.device), workers, unheard)


def draw_share(
    inputs: StudyInputs, arms: Iterable[str], config: EvaluationConfig, workers: Workers, on_progress: OnProgress
) -> None:
    """Every n-th seed of all arms' seeds, for n processes; returns when all have drawn theirs.

    An arm that cannot be drawn is passed over: the first process tries every arm that is not whole again, and tells.
    """
    from explorer.evaluation.drawings import draw_missing

    folder, world = step_folder(inputs.study, PICTURES), painted_world(inputs)
    seeds: dict[str, list[int]] = {}
    for number, (arm, seed) in enumerate(product(arms, config.seeds)):
        if number % workers.count == workers.index:
            seeds.setdefault(arm, []).append(seed)
    for arm, own in seeds.items():
        with suppress(ValueError, OSError):
            checkpoint = inputs.checkpoint(inputs.study.arm(arm))
            draw_missing(checkpoint, inputs.concepts, replace(config, seeds=tuple(own)), folder, world, on_progress)
    workers.wait()


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

    def heard_by(self, on_progress: OnProgress) -> OnProgress:
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
    settings=lambda inputs: picture_settings(inputs) | {"drawing_version": DRAWING_VERSION},
    shared=lambda inputs: inputs.of_concepts,
    of_arm=lambda inputs, arm: inputs.of_checkpoint(arm),
    amount=_count_left,
    make=_draw,
    by_arm=True,
)
