"""What every arm's training pairs can be filtered by: all scores, and AD of what each leaves at every rank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.neighbourhoods import NEIGHBOURS
from explorer.alignment.pair_sets import rows_of
from explorer.checkpoints.reasons import enough_memory
from explorer.core.progress import note
from explorer.defence.filter_files import Score, write_filters
from explorer.defence.pair_sample import first_concepts
from explorer.defence.recipe import order_of_suspicion
from explorer.defence.scores import DESCRIPTIONS, USER, ScoreDescription, describe_loss, describe_users, loss_name
from explorer.defence.users_scores import joined_scores
from explorer.studies.extractors import load_extractor
from explorer.studies.fingerprints import file_fingerprint
from explorer.studies.inputs import StudyInputs
from explorer.studies.kept_pictures import FEATURES_FOLDER
from explorer.studies.pair_losses import SEED as LOSS_SEED
from explorer.studies.pair_losses import PairLosses, check_loss_models, loss_differences
from explorer.studies.results import FILTERS, SCORES
from explorer.studies.steps.arm_folders import make_arm_folders, scored_arm
from explorer.studies.steps.scores import ALPHA, CONVENTION, loss_precision, opened_pairs
from explorer.studies.steps.step import Step, StepWork
from explorer.training.sample_loss import DRAWS

if TYPE_CHECKING:
    import pandas
    import torch

    from explorer.studies.arm_pairs import ArmPairs

Found = tuple[str, np.ndarray, ScoreDescription, str]
"""Name, values, description and provenance of a score."""
LOSS_DRAW = "without flags"
"""A setting where losses are of a sample: those of before it was one are of a sample that the flags chose."""
PROBED_SIDE = 8
"""Pixels of the one picture by which it is found out whether pictures can be read."""
_FEATURES = "the pairs' features by the study's universal extractor"


def _settings(inputs: StudyInputs) -> dict[str, Any]:
    spec = inputs.study.filters
    lists = {name: list(getattr(spec, name)) for name in ("loss_arms", "losses_of", "columns")}
    return {
        "alpha": ALPHA, "convention": CONVENTION, "neighbours": NEIGHBOURS, "loss_pairs": spec.loss_pairs, **lists,
        **({"loss_draw": LOSS_DRAW} if spec.loss_arms and spec.loss_pairs else {}),
        **loss_precision(inputs, bool(spec.loss_arms)),
    }  # fmt: skip


def _shared(inputs: StudyInputs) -> dict[str, str]:
    """The extractor, what is looked for in captions, the models that measure losses, and the user's own scores."""
    found = inputs.of_extractor | inputs.of_concept_names | check_loss_models(inputs)
    if inputs.study.filters.scores is not None:
        found["scores file"] = file_fingerprint(inputs.study.filters.scores)
    return found


def _make(work: StepWork) -> None:
    extractor = load_extractor(work.study.extractor, work.device)
    losses = PairLosses(work, work.study.folder / FEATURES_FOLDER) if work.study.filters.loss_arms else None

    def make_arm(name: str, folder: Path) -> int:
        with enough_memory(f"the scores of {name}", "fewer pairs, or --device cpu"):
            return _make_arm(work, name, extractor, losses, folder)

    make_arm_folders(work, FILTERS, make_arm, "no arm's scores could be made")


def _make_arm(work: StepWork, name: str, extractor: Any, losses: PairLosses | None, folder: Path) -> int:
    """One arm's files; returns how many pairs they are of."""
    from explorer.defence.measured_scores import measured_scores

    pairs = opened_pairs(work, name, extractor)
    rows = pairs.training_rows
    table = pairs.table.iloc[rows].reset_index(drop=True)
    image, text = (rows_of(features, rows).float().to(work.device) for features in pairs.features())
    concepts = np.array(first_concepts(table), dtype=object).astype(str)
    labels = np.where(concepts == "", -1, np.unique(concepts, return_inverse=True)[1])
    measured = measured_scores(
        image, text, labels, feature_range=extractor.feature_range, alpha=ALPHA, convention=CONVENTION,
        on_progress=work.on_progress,
    )  # fmt: skip
    found = [
        *((score, values, DESCRIPTIONS[score], _FEATURES) for score, values in measured.scores.items()),
        *_losses(work, name, pairs, rows, losses), *_users(work, table),
    ]  # fmt: skip
    alignment = {part: getattr(measured, part) for part in ("feature_ad", "structure_ad", "ad")}
    write_filters(
        folder, name=name, table=table, rows=rows, scores=_with_curves(found, image, text, work),
        data_hash=pairs.data_hash, alignment={"alpha": ALPHA, "convention": CONVENTION, **alignment},
    )  # fmt: skip
    return len(rows)


def _losses(work: StepWork, name: str, pairs: ArmPairs, rows: np.ndarray, losses: PairLosses | None) -> Iterator[Found]:
    """Denoising losses and their differences; none, which is told, where there are no captions or the pictures cannot
    be read.

    Raises:
        ValueError: if a model that measures them cannot be loaded or gives no numbers: without them the arm is not
            done.
    """
    if losses is None or name not in (work.study.filters.losses_of or [name]):
        return
    if pairs.table["caption"].iloc[rows].isna().all():
        work.on_progress(note(f"{name} has no losses: none of its pairs has a caption"))
        return
    try:
        pairs.read_images(rows[:1], PROBED_SIDE)
    except ValueError as error:
        work.on_progress(note(f"{name} has no losses: {error}"))
        return
    measured = losses.of(name, pairs, rows)
    told = f"mean squared error at {DRAWS} timesteps, noise of seed {LOSS_SEED}"
    for arm, values in measured.items():
        yield loss_name(arm), values, describe_loss(arm), f"{told}, by the model of arm {arm}"
    for first, second in loss_differences(work.study):
        values = measured[first] - measured[second]
        yield loss_name(first, second), values, describe_loss(first, second), f"{told}: {first} less {second}"


def _users(work: StepWork, table: pandas.DataFrame) -> Iterator[Found]:
    """The user's own scores, joined by uid; those that are known of no pair of this arm are left out."""
    spec = work.study.filters
    if spec.scores is None:
        return
    for column, values in joined_scores(spec.scores, spec.columns, table["uid"].astype(str)).items():
        known = int((~np.isnan(values)).sum())
        work.on_progress(note(f"{column} of {spec.scores.name} is known of {known:,} of {len(values):,} pairs"))
        if known:
            yield f"{USER}{column}", values, describe_users(column), f"column {column} of {spec.scores.name}"


def _with_curves(found: list[Found], image: torch.Tensor, text: torch.Tensor, work: StepWork) -> dict[str, Score]:
    """Scores by name, in float32, each with AD of what it leaves."""
    from explorer.defence.remaining import kept_structure_curves

    stored = {name: np.asarray(values, np.float32) for name, values, *_ in found}
    orders = {name: order_of_suspicion(stored[name], described.remove) for name, _, described, _ in found}
    curves = kept_structure_curves(image, text, orders, convention=CONVENTION, on_progress=work.on_progress)
    return {
        name: Score(values=stored[name], description=described, provenance=told, kept_structure_ad=curves[name])
        for name, _, described, told in found
    }


STEP = Step(
    name=FILTERS,
    unit="scored pair",
    settings=_settings,
    shared=_shared,
    of_arm=scored_arm,
    amount=lambda inputs, arm: inputs.pair_count(arm),
    make=_make,
    by_arm=True,
    after=SCORES,
)
