"""AD and local AD of every arm's pairs: their parts and distributions, and every pair's own share of them."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.description import describe_measurement, significant
from explorer.alignment.graph_files import write_compact
from explorer.alignment.graph_sample import stratified_sample
from explorer.alignment.neighbourhoods import NEIGHBOURS, LocalRequest
from explorer.alignment.payload_formats import ALIGNMENT
from explorer.alignment.scores import write_scores
from explorer.checkpoints.families import FAMILY_NAMES
from explorer.checkpoints.joint_pipelines import latent_shape
from explorer.checkpoints.pipelines import load_pipeline
from explorer.core.poison_record import NOT_RECORDED, PoisonRecord
from explorer.core.progress import counted
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_json
from explorer.core.workers import Workers
from explorer.embeddings.processes import Processes
from explorer.meter.estimates import known
from explorer.meter.label_noise import true_shares
from explorer.pairs.poison_flags import PoisonFlags
from explorer.studies.arm_opening import open_arm_pairs
from explorer.studies.arm_pairs import measure_arm
from explorer.studies.arms import arm_poison, pairs_poison
from explorer.studies.extractors import load_extractor
from explorer.studies.inputs import StudyInputs
from explorer.studies.kept_pictures import FEATURES_FOLDER
from explorer.studies.recorded import (
    CONCEPT_NAMES,
    CONFIGURATIONS,
    EXTRACTOR_CONFIGURATION,
    Recorded,
    differing_names,
    loss_model,
    named,
)
from explorer.studies.results import SCORES, command_line, result_file, step_folder, writing_step
from explorer.studies.steps.step import Step, StepWork
from explorer.studies.study import Arm, Study
from explorer.training.sample_loss import BATCH_SIZE, sample_losses

if TYPE_CHECKING:
    import pandas

    from explorer.studies.arm_pairs import ArmPairs

ALPHA, CONVENTION, SEED = 0.8, "authors", 0
LOSS_SETTINGS = ("loss_pairs", "loss_precision")
"""Settings that decide the control's losses."""
REPORT_NAME = "reports.json"
"""Arm to all numbers of its measurement, as ``explorer ad`` prints them."""


def alignment_reports(study: Study) -> dict[str, dict[str, Any]]:
    """Arm to AD of its pairs, for every arm whose scores are there; none where the step is not done.

    Raises:
        ManifestError: if it is done, and its reports are missing or were changed since.
    """
    if not (step_folder(study, SCORES) / MANIFEST_NAME).is_file():
        return {}
    return json.loads(result_file(study, SCORES, REPORT_NAME).read_text(encoding="utf-8"))


def scores_identity(study: Study, arm: str) -> str:
    """A hash of what AD and the scores of an arm were made from, for the steps that are made of these.

    Which neighbourhoods local AD was measured over is none of it: AD, graphs and what pictures show stay as they are.
    What these steps take among their own inputs is none either, so that it is as in earlier releases.
    """
    scores, own = Recorded.read(study, SCORES), (CONCEPT_NAMES, EXTRACTOR_CONFIGURATION)
    settings = {name: value for name, value in scores.settings.items() if name != "neighbours"}
    shared = {name: value for name, value in scores.shared.items() if name not in own}
    return hash_json([scores.of_arm(arm), settings, shared])


def _settings(inputs: StudyInputs) -> dict[str, Any]:
    if inputs.study.extractor.open_clip is not None and inputs.study.extractor.feature_range is None:
        raise ValueError(
            f"the extractor has no feature range: `{command_line('calibrate', inputs.study.folder)}` finds it on the "
            "control's pairs"
        )
    return {
        "alpha": ALPHA, "convention": CONVENTION, "neighbours": NEIGHBOURS, "loss_pairs": inputs.study.loss_pairs,
        **loss_precision(inputs, bool(inputs.study.loss_pairs)),
    }  # fmt: skip


def loss_precision(inputs: StudyInputs, measured: bool) -> dict[str, str]:
    """The precision of losses as a setting, where any are measured; fp32 is not said, as before there was a choice."""
    return {"loss_precision": inputs.precision} if measured and inputs.precision != "fp32" else {}


def _shared(inputs: StudyInputs) -> dict[str, str]:
    """The extractor, the names of the concepts, whose shares are counted, and the control where it measures losses."""
    control, found = inputs.study.control, inputs.of_extractor | inputs.of_concept_names
    if not inputs.study.loss_pairs:
        return found
    if control is None:
        raise ValueError("loss_pairs is given, and no arm is the control, which measures the losses")
    if (family := inputs.checkpoint(control).family) not in ("sd1", "sd2"):
        told = FAMILY_NAMES.get(family, family)
        raise ValueError(
            f"loss_pairs is given, and the control is {told}: expected SD 1.x or SD 2.x, or loss_pairs = 0"
        )
    weights, configurations = inputs.of_checkpoint(control).values()
    return found | {"loss model": weights, loss_model(named(CONFIGURATIONS, control.name)): configurations}


def opened_pairs(work: StepWork, name: str, extractor: Any) -> ArmPairs:
    """An arm's pairs; those of a source are embedded on the first call."""
    return open_arm_pairs(
        work.arm(name), extractor, work.inputs.concept_names, work.study.folder / FEATURES_FOLDER,
        processes=_processes(work), on_progress=work.on_progress,
    )  # fmt: skip


def _processes(work: StepWork) -> Processes | None:
    """The further processes that embed; None for this one alone."""
    if work.processes == 1:
        return None
    return Processes(count=work.processes, load=partial(load_extractor, work.study.extractor, work.device))


def _of_arm(inputs: StudyInputs, arm: Arm) -> dict[str, str]:
    """Its pairs and, where no manifest of theirs says it, what is known of their poison."""
    told = _told_poison(inputs, arm)
    return inputs.of_pairs(arm) | ({named("poison", arm.name): hash_json(told.as_json())} if told.recorded else {})


def _told_poison(inputs: StudyInputs, arm: Arm) -> PoisonRecord:
    """What study.toml or the checkpoint says of the pairs' poison; nothing where the pairs say the same themselves."""
    told, by_pairs = _arm_poison(inputs, arm), pairs_poison(arm.pairs)
    same = (told.poisoned, told.concept_count) == (by_pairs.poisoned, by_pairs.concept_count)
    return NOT_RECORDED if same else told


def _arm_poison(inputs: StudyInputs, arm: Arm) -> PoisonRecord:
    try:
        return arm_poison(arm, inputs.checkpoint(arm))
    except (ValueError, OSError):
        return arm_poison(arm, None)


def _measure(work: StepWork) -> None:
    """Every arm in turn, into one folder; what an earlier run measured and still holds is taken over."""
    extractor = load_extractor(work.study.extractor, work.device)
    losses = _ControlLosses(work) if work.study.loss_pairs else None
    with writing_step(
        work.study, SCORES, settings=work.settings, inputs=(inputs := {}), work=(cost := {}), goes_on=True
    ) as folder:  # fmt: skip
        finished, units = work.finished_in(folder), 0
        entries, reports = _taken_over(work, folder)
        for name in work.arms:
            try:
                if name not in finished:
                    measured = _measure_arm(work, name, extractor, losses, folder)
                    finished.add(name, folder / table_name(name), measured)
                    units += measured[1]["n"]
                entries[name], reports[name] = finished.told(name)
            except (ValueError, OSError) as error:
                work.fails(name, error)
        if not entries:
            raise ValueError("no arm could be measured")
        ordered = sorted(entries.values(), key=_place)
        write_compact(folder / ALIGNMENT.name, ALIGNMENT.written(sets=ordered))
        write_compact(folder / REPORT_NAME, reports)
        inputs |= work.inputs_of(entries)
        cost |= work.cost(units)


def _place(entry: dict[str, Any]) -> tuple[bool, int, str]:
    """By C_P; where that is not recorded, last."""
    count = entry["poisoned_concept_count"]
    return count is None, count or 0, entry["name"]


def _taken_over(work: StepWork, folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Entries of ``alignment.json`` and reports of the arms that are kept, whose tables are copied."""
    if not work.kept:
        return {}, {}
    stored = json.loads(result_file(work.study, SCORES, ALIGNMENT.name).read_text(encoding="utf-8"))
    for arm in work.kept:
        shutil.copyfile(result_file(work.study, SCORES, table_name(arm)), folder / table_name(arm))
    reports = alignment_reports(work.study)
    entries = {entry["name"]: entry for entry in stored["sets"] if entry["name"] in work.kept}
    return entries, {arm: reports[arm] for arm in entries}


def table_name(arm: str) -> str:
    """The parquet file of an arm's scores."""
    return f"{arm}.parquet"


def _measure_arm(
    work: StepWork, name: str, extractor: Any, losses: _ControlLosses | None, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arm's entry of ``alignment.json`` and all its numbers; its table of pairs is written."""
    import pyarrow

    pairs = opened_pairs(work, name, extractor)
    local = LocalRequest(neighbours=NEIGHBOURS)
    workers = Workers(device=work.device, on_progress=work.on_progress)
    measured = measure_arm(pairs, extractor, alpha=ALPHA, convention=CONVENTION, local=local, workers=workers)
    columns = {"uid": measured.uids.tolist(), "is_poison": pyarrow.array(measured.flags.as_list(), pyarrow.bool_())}
    if losses is not None:
        columns["loss"] = losses.of(name, pairs, measured.rows)
    columns |= measured.local_columns()
    report = measured.report()
    write_scores(folder / table_name(name), measured.difficulty, measured.rows, report, **columns)
    entry = describe_measurement(name, pairs, measured)
    told = _arm_poison(work.inputs, work.arm(name))
    if entry["poisoned_concept_count"] is None and (told.poisoned is False or told.concept_count):
        entry["poisoned_concept_count"] = told.concept_count  # an attack that aims at no concept is not C_P = 0
    return entry | _true_shares(pairs.table.iloc[measured.rows], work.inputs.concept_names), report


def _true_shares(training: pandas.DataFrame, names: tuple[str, ...]) -> dict[str, Any]:
    """``true_shares``, by concept; nothing where it is not known of every pair whether it is poison."""
    if not (names and PoisonFlags.of(training).recorded):
        return {}
    shares = map(known, true_shares(training, names))
    return {"true_shares": significant(dict(zip(names, shares, strict=True)))}


class _ControlLosses:
    """Denoising losses by the benign control: a model that never saw the poison finds it hard."""

    def __init__(self, work: StepWork) -> None:
        control = work.inputs.checkpoint(work.study.control)
        self._work, self._pipeline = work, load_pipeline(control, work.device, work.inputs.precision)
        self._size = latent_shape(self._pipeline, None, None)[1] * self._pipeline.vae_scale_factor

    def of(self, name: str, pairs: ArmPairs, rows: np.ndarray) -> np.ndarray:
        """fp64 `[n]` of the pairs at ``rows``; NaN of those that are not among the ``loss_pairs`` sampled."""
        earlier = self._measured_before(name)
        return self._measured(name, pairs, rows) if earlier is None else earlier

    def _measured_before(self, name: str) -> np.ndarray | None:
        """The arm's losses by an earlier run of the step, where what decides them is as it was; None otherwise."""
        from pyarrow import parquet

        work, recorded = self._work, Recorded.read(self._work.study, SCORES)
        changed = {*differing_names(recorded.shared, work.shared)} - {CONCEPT_NAMES}
        if changed or differing_names(recorded.of_arm(name), work.arms[name]):
            return None
        if set(LOSS_SETTINGS) & set(differing_names(recorded.settings, work.settings)):
            return None
        try:
            return parquet.read_table(result_file(work.study, SCORES, table_name(name)))["loss"].to_numpy()
        except ManifestError:  # the table is not what was written
            return None

    def _measured(self, name: str, pairs: ArmPairs, rows: np.ndarray) -> np.ndarray:
        table = pairs.table.iloc[rows]
        chosen = stratified_sample(table, self._work.study.loss_pairs, SEED)
        losses = np.full(len(rows), np.nan)
        batches = [chosen[start : start + BATCH_SIZE] for start in range(0, len(chosen), BATCH_SIZE)]
        for batch in counted(batches, self._work.on_progress, f"losses of {name}", "batch"):
            images, captions = pairs.read_images(rows[batch], self._size), table["caption"].iloc[batch].tolist()
            losses[batch] = sample_losses(self._pipeline, images, captions, seed=SEED)
        return losses


STEP = Step(
    name=SCORES,
    unit="pair",
    settings=_settings,
    shared=_shared,
    of_arm=_of_arm,
    amount=lambda inputs, arm: inputs.pair_count(arm),
    make=_measure,
    by_arm=True,
)
