"""Grafts between two models, in both directions, each a checkpoint like any other: drawn, judged and metered."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.checkpoints.graft import GRAFT_NAME
from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.core.folder_lock import locked
from explorer.core.poison_record import poisoned_from
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import write_json, write_manifest
from explorer.evaluation.summary import groups_of, names_known
from explorer.pairs.concept_list import ConceptList
from explorer.surgery.measured import Measured, judged_among, measure_graft, pictures_of_targets, right_pictures
from explorer.surgery.operations import Operation, operations_between
from explorer.surgery.payload_formats import GRAFT_STUDY
from explorer.surgery.report import operation_entries
from explorer.surgery.request import GraftStudyRequest

if TYPE_CHECKING:
    from explorer.evaluation.judge import ConceptJudge
    from explorer.meter.shown import Shown

KIND = "graft-study"
TRIED = 4
"""Pictures drawn to know how long one takes."""


def study_grafts(
    recipient: Checkpoint, donor: Checkpoint, concepts: ConceptList, judge: ConceptJudge, shown: Shown | None,
    request: GraftStudyRequest, output: Path, *, only: Sequence[str] = (), on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Measure every graft, or go on where it was cut off, and write ``graft-study.json`` with its manifest.

    What it costs is told before the first is drawn.

    Args:
        concepts: what is drawn.
        judge: names what a picture shows, out of its own list of concepts, which holds these.
        shown: what the meter shows the networks; None where it is left out.
        output: folder of definitions, drawings and results.
        only: as :func:`~explorer.surgery.operations.operations_between`.

    Returns:
        What the file holds.

    Raises:
        ValueError: if either cannot be used, they are of two architectures, a concept is none of the judge's, or
            another process writes to ``output``.
    """
    judged_among(concepts, judge.concepts.names)
    ways = [(recipient, donor), *([(donor, recipient)] if request.both_ways else [])]
    with locked(output):
        planned = [(one, other, _prepared(one, other, output, request, only)) for one, other in ways]
        count = sum(len(grafts) for *_, grafts in planned)
        on_progress(note(_told_cost(recipient, concepts, count, request)))
        directions = [
            _measured_way(one, other, grafts, concepts, judge, shown, request, output, on_progress)
            for one, other, grafts in planned
        ]
        report = GRAFT_STUDY.written(
            request=asdict(request), judge=judge.describe(), shown=None if shown is None else shown.words,
            concepts=[{"concept": each.name, "group": each.group} for each in concepts.concepts],
            directions=directions,
        )  # fmt: skip
        write_json(output / GRAFT_STUDY.name, report)
        write_manifest(
            output, kind=KIND, config=report["request"] | {"only": list(only)}, seed=0, files=[GRAFT_STUDY.name]
        )
    return report


def _prepared(
    recipient: Checkpoint, donor: Checkpoint, output: Path, request: GraftStudyRequest, only: Sequence[str]
) -> list[tuple[Operation, Checkpoint]]:
    """Every operation with the checkpoint that it is, defined in a folder of its own."""
    folder, found = _folder_of(recipient, donor, output), []
    for each in (recipient, donor):
        if each.problem is not None:
            raise ValueError(f"checkpoint {each.name} cannot be used: {each.problem}")
    _write_graft(folder / "grafts" / "all", recipient, donor, [{"group": "all"}])
    if problem := read_checkpoint(folder / "grafts" / "all").problem:
        raise ValueError(f"{recipient.name} and {donor.name} cannot be grafted: {problem}")
    for operation in operations_between(recipient, donor, strip=request.strip, only=only):
        place = folder / "grafts" / operation.name
        _write_graft(place, recipient, donor, [asdict(part) for part in operation.parts])
        found.append((operation, read_checkpoint(place)))
    return found


def _write_graft(place: Path, recipient: Checkpoint, donor: Checkpoint, parts: list[dict[str, Any]]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    named = {role: os.path.relpath(each.folder.resolve(), place.resolve())
             for role, each in (("recipient", recipient), ("donor", donor))}  # fmt: skip
    write_json(place / GRAFT_NAME, named | {"parts": parts})


def _folder_of(recipient: Checkpoint, donor: Checkpoint, output: Path) -> Path:
    return output / f"{recipient.folder.name}-from-{donor.folder.name}"


def _measured_way(
    recipient: Checkpoint, donor: Checkpoint, grafts: list[tuple[Operation, Checkpoint]], concepts: ConceptList,
    judge: ConceptJudge, shown: Shown | None, request: GraftStudyRequest, output: Path, on_progress: OnProgress,
) -> dict[str, Any]:  # fmt: skip
    """One direction of the report."""
    folder = _folder_of(recipient, donor, output)
    measured: dict[str, Measured] = {}
    for at, (operation, graft) in enumerate(grafts, start=1):
        on_progress(note(f"{folder.name}: {operation.name} ({at} of {len(grafts)})"))
        measured[operation.name] = measure_graft(graft, concepts, judge, shown, request, folder, on_progress)
    right = {name: right_pictures(each, concepts, judge.concepts) for name, each in measured.items()}
    poisoned = max((recipient, donor), key=lambda each: each.poison.order)
    members = _members(recipient, donor, concepts)
    operations = [operation for operation, _ in grafts]
    entries = operation_entries(operations, measured, right, members, request.seeds)
    for entry in entries:
        shown_target = pictures_of_targets(
            measured[entry["name"]], concepts, judge.concepts, poisoned.poison.targets
        )  # fmt: skip
        entry["targets"] = None if shown_target is None else dict(zip(("shown", "of"), shown_target, strict=True))
    whole = next(each for each in operations if each.role == "all")
    return {
        "recipient": recipient.name, "donor": donor.name, "distance": whole.distance,
        "group": next(group for group in ("unpoisoned", "all") if group in members and members[group].any()),
        "operations": entries,
    }  # fmt: skip


def _members(recipient: Checkpoint, donor: Checkpoint, concepts: ConceptList) -> dict[str, np.ndarray]:
    """Groups of concepts as the evaluation has them, of the more poisoned of the two; those unknown are left out."""
    records = [recipient.poison, donor.poison]
    found = groups_of(max(records, key=lambda each: each.order), concepts, poisoned_from(records))
    known = all(map(names_known, records))
    return {name: each for name, each in found.items() if each is not None and (known or name in ("all", "pool"))}


def _told_cost(recipient: Checkpoint, concepts: ConceptList, grafts: int, request: GraftStudyRequest) -> str:
    """What it takes, by the pace of a few pictures drawn now."""
    from explorer.checkpoints.pipelines import load_pipeline
    from explorer.generation.batch import generate_pictures
    from explorer.generation.generate import GenerationRequest

    prompts = [concepts.prompt(name) for name in concepts.names[:TRIED]]
    asked = GenerationRequest(
        prompt=prompts[0], seed=0, steps=request.steps, guidance_scale=request.guidance_scale, height=request.size,
        width=request.size,
    )  # fmt: skip
    pipeline = load_pipeline(recipient, request.device, request.precision)
    generate_pictures(pipeline, asked, prompts, recipient.name)
    started = time.monotonic()
    generate_pictures(pipeline, asked, prompts, recipient.name)
    pace = (time.monotonic() - started) / len(prompts)
    pictures = grafts * len(concepts.names) * request.seeds
    calls = 0 if request.meter is None else grafts * request.meter.calls(len(concepts.names))
    seconds = pace * (pictures + calls / (2 * request.steps))
    return (
        f"{grafts} grafts, {len(concepts.names)} concepts, {request.seeds} seeds: {pictures:,} pictures of "
        f"{request.steps} steps and {calls:,} network calls of the meter, those done before left out; about "
        f"{seconds / 60:.0f} minutes at {pace:.2f} s a picture"
    )
