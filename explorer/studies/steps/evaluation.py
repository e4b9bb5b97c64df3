"""What the pictures show: every metric of every arm whose pictures are drawn, and a contact sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.core.provenance import write_json
from explorer.studies.extractors import load_extractor
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import Recorded, named
from explorer.studies.results import EVALUATION, PICTURES, SCORES, step_folder, writing_step
from explorer.studies.steps.drawing import models_of, painted_world
from explorer.studies.steps.pictures import count_pictures, evaluation_config, picture_settings
from explorer.studies.steps.scores import alignment_reports, scores_identity
from explorer.studies.steps.step import Step, StepWork
from explorer.studies.study import Arm

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor
    from explorer.evaluation.picture_reader import PictureReader


def _settings(inputs: StudyInputs) -> dict[str, Any]:
    study = inputs.study
    control = None if study.control is None else study.control.name
    return picture_settings(inputs) | {
        "tau": study.tau, "tau_quantile": study.tau_quantile, "unrelated_distance": study.unrelated_distance,
        "control": control,
    }  # fmt: skip


def _of_arm(inputs: StudyInputs, arm: Arm) -> dict[str, str]:
    """Its model, and its AD where that is measured."""
    if not Recorded.read(inputs.study, SCORES).of_arm(arm.name):
        return inputs.of_model(arm)
    return inputs.of_model(arm) | {named(SCORES, arm.name): scores_identity(inputs.study, arm.name)}


def _evaluate(work: StepWork) -> None:
    from explorer.evaluation.evaluate import evaluate
    from explorer.evaluation.files import EVALUATION_NAME, SHEET_NAME, write_contact_sheet

    concepts, drawings = work.inputs.concepts, step_folder(work.study, PICTURES)
    with writing_step(
        work.study, EVALUATION, settings=work.settings, inputs=work.inputs_of(work.arms), work=(cost := {})
    ) as folder:  # fmt: skip
        extractor = load_extractor(work.study.extractor, work.device)
        report = evaluate(
            models_of(work), extractor, concepts, evaluation_config(work.inputs, work.device),
            control=work.settings["control"], readers=_readers(work, extractor), drawings=drawings,
            difficulties=alignment_reports(work.study), world=painted_world(work.inputs),
            on_progress=work.on_progress,
        )  # fmt: skip
        write_json(folder / EVALUATION_NAME, report)
        write_contact_sheet(report, drawings, concepts, folder / SHEET_NAME)
        cost |= work.cost(sum(count_pictures(work.inputs, work.arm(name)) for name in work.arms))


def _readers(work: StepWork, extractor: UniversalExtractor) -> list[PictureReader]:
    """What sees something in the pictures beside the extractor: an aesthetics head, a classifier."""
    from explorer.evaluation.aesthetics import AestheticsHead
    from explorer.evaluation.classifier import PictureClassifier

    readers, study = [], work.study
    if (head := study.aesthetics) is not None:
        clip = extractor if head.extractor is None else load_extractor(head.extractor, work.device)
        readers.append(AestheticsHead.load(head.head, clip, head.threshold))
    if (spec := study.classifier) is not None:
        readers.append(
            PictureClassifier.load(
                spec.architecture, spec.weights, spec.class_names, work.inputs.concepts, preparation=spec.preparation,
                device=work.device,
            )
        )  # fmt: skip
    return readers


STEP = Step(
    name=EVALUATION,
    unit="judged picture",
    settings=_settings,
    shared=lambda inputs: inputs.of_concepts | inputs.of_extractor | inputs.of_readers,
    of_arm=_of_arm,
    amount=count_pictures,
    make=_evaluate,
    after=PICTURES,
)
