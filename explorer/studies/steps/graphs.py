"""The two graphs of every arm's pairs, captions and pictures, as the screen *Graphs* draws them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.graph_files import write_graphs
from explorer.alignment.pair_sets import rows_of
from explorer.core.progress import note
from explorer.studies.extractors import load_extractor
from explorer.studies.inputs import StudyInputs
from explorer.studies.results import GRAPHS, SCORES, result_file
from explorer.studies.steps.arm_folders import make_arm_folders, scored_arm
from explorer.studies.steps.scores import SEED, alignment_reports, opened_pairs, table_name
from explorer.studies.steps.step import Step, StepWork

if TYPE_CHECKING:
    from explorer.studies.arm_pairs import ArmPairs

SHOWN = ("sample_ad", "structure_distance", "feature_distance", "loss")


def _shared(inputs: StudyInputs) -> dict[str, str]:
    """The extractor, and what is looked for in captions."""
    return inputs.of_extractor | inputs.of_concept_names


def _draw(work: StepWork) -> None:
    extractor = load_extractor(work.study.extractor, work.device)
    make_arm_folders(
        work, GRAPHS, lambda name, folder: _draw_arm(work, name, extractor, folder), "no arm's graphs could be drawn"
    )


def _draw_arm(work: StepWork, name: str, extractor: Any, folder: Path) -> int:
    """One arm's files; returns how many pairs they are of."""
    import pandas

    pairs = opened_pairs(work, name, extractor)
    scores = pandas.read_parquet(result_file(work.study, SCORES, table_name(name)))
    rows, report = np.array(scores["row"]), alignment_reports(work.study)[name]
    image, text = (rows_of(features, rows) for features in pairs.features())
    facts = {key: report[key] for key in ("extractor", "alpha", "convention", "feature_range") if key in report}
    facts |= {"data_hash": pairs.data_hash}
    if "loss" in scores:
        facts["loss_model"] = work.study.control.name
    write_graphs(
        folder, name=name, table=pairs.table.iloc[rows].reset_index(drop=True), image=image, text=text,
        scores={score: scores[score].to_numpy() for score in SHOWN if score in scores}, facts=facts,
        read_images=_thumbnails(work, pairs, rows), arm_rows=rows, seed=SEED, on_progress=work.on_progress,
    )  # fmt: skip
    return len(rows)


def _thumbnails(work: StepWork, pairs: ArmPairs, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """Small pictures of the drawn pairs among ``rows``; None, which is told, where none are kept."""
    try:
        pairs.thumbnails(rows[:1])
    except ValueError as error:
        work.on_progress(note(f"graphs are drawn without thumbnails: {error}"))
        return None
    return lambda chosen: pairs.thumbnails(rows[chosen])


STEP = Step(
    name=GRAPHS,
    unit="drawn pair",
    settings=lambda inputs: {"seed": SEED},
    shared=_shared,
    of_arm=scored_arm,
    amount=lambda inputs, arm: inputs.pair_count(arm),
    make=_draw,
    by_arm=True,
    after=SCORES,
)
