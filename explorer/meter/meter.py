"""Several checkpoints measured one after the other, one model in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.pipelines import load_pipeline
from explorer.core.progress import OnProgress, note, unheard
from explorer.meter.label_noise import true_shares
from explorer.meter.request import MeterRequest
from explorer.pairs.concept_list import ConceptList
from explorer.pairs.pair_set import PairSet

if TYPE_CHECKING:
    import numpy as np

    from explorer.checkpoints.registry import Checkpoint
    from explorer.meter.report import MeasuredModel
    from explorer.meter.shown import Shown


def measure_checkpoints(
    checkpoints: Sequence[Checkpoint], concepts: ConceptList, shown: Shown, request: MeterRequest, *,
    reference: str | None = None, sets: Path | None = None, on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """What ``meter.json`` says of checkpoints; what it will cost is told before the first is loaded.

    Args:
        reference: name of the checkpoint that the others are compared with; None for no ratios.
        sets: folder of the pair sets that they were trained on, called like them: for what label noise alone would do.

    Raises:
        ValueError: if two have one name or none has the reference's, or as
            :func:`~explorer.meter.measurement.read_model`.
    """
    from explorer.meter.report import meter_report

    names = [checkpoint.name for checkpoint in checkpoints]
    if len(set(names)) < len(names):
        raise ValueError(f"checkpoints are called {names}: expected each name once")
    if reference is not None and reference not in names:
        raise ValueError(f"the reference is {reference!r}: expected one of {names}")
    on_progress(note(told_cost(len(names), len(concepts.names), shown, request)))
    shares = _true_shares(names, sets, concepts)
    measured = [
        replace(measure_checkpoint(each, concepts, shown, request, on_progress), true_shares=shares.get(each.name))
        for each in checkpoints
    ]
    return meter_report(measured, concepts, request, shown, reference)


def _true_shares(names: list[str], sets: Path | None, concepts: ConceptList) -> dict[str, np.ndarray]:
    """Of the models whose pair set is there."""
    there = {} if sets is None else {name: sets / name for name in names if (sets / name).is_dir()}
    return {name: _shares_of(PairSet.load(folder), concepts) for name, folder in there.items()}


def _shares_of(pairs: PairSet, concepts: ConceptList) -> np.ndarray:
    try:
        return true_shares(pairs.table.iloc[pairs.training_rows], concepts.names)
    except ValueError as error:
        raise ValueError(f"{pairs.folder}: {error}") from error


def measure_checkpoint(
    checkpoint: Checkpoint,
    concepts: ConceptList,
    shown: Shown,
    request: MeterRequest,
    on_progress: OnProgress = unheard,
) -> MeasuredModel:
    """Load one checkpoint, measure it, and let go of it.

    Raises:
        ValueError: if it cannot be loaded, or as :func:`~explorer.meter.measurement.read_model`.
    """
    from explorer.meter.measurement import read_model
    from explorer.meter.report import MeasuredModel

    pipeline = load_pipeline(checkpoint, request.device, request.precision)
    reading = read_model(pipeline, concepts, shown, request, model=checkpoint.name, on_progress=on_progress)
    return MeasuredModel(name=checkpoint.name, poison=checkpoint.poison, reading=reading)


def told_cost(models: int, concepts: int, shown: Shown, request: MeterRequest) -> str:
    """What a measurement takes, in words: network calls of one picture, of which a batch makes many at once."""
    calls, before = models * request.calls(concepts), models * concepts * shown.calls_a_picture
    drawing = f", and {before:,} for the pictures that they are shown" if before else ""
    return (
        f"{models} models, {concepts} concepts, t = {', '.join(map(str, request.timesteps))}, {request.draws} draws, "
        f"on {shown.words}: at most {calls:,} network calls of one picture{drawing}"
    )
