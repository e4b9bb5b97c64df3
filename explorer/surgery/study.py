"""Grafts between two models, in both directions, each a checkpoint like any other: drawn, judged and metered."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from explorer.checkpoints.graft import GRAFT_NAME
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.checkpoints.weights_hash import hash_of_base, weights_hash
from explorer.core.bounded_files import printable
from explorer.core.folder_lock import locked
from explorer.core.poison_record import poisoned_from
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import hash_file, write_json, write_manifest
from explorer.evaluation.summary import groups_of, names_known
from explorer.generation.batch import generate_pictures
from explorer.generation.generate import GenerationRequest
from explorer.pairs.concept_list import ConceptList
from explorer.surgery.heat_strip import heat_strip
from explorer.surgery.measured import Asked, Measured, measure_graft, pictures_of_targets, right_pictures
from explorer.surgery.operations import Operation, operations_between
from explorer.surgery.payload_formats import GRAFT_STUDY, KIND
from explorer.surgery.report import operation_entries
from explorer.surgery.request import GraftStudyRequest

TRIED = 4
"""Pictures drawn to know how long one takes."""


def study_grafts(
    recipient: Checkpoint, donor: Checkpoint, asked: Asked, output: Path, *, only: Sequence[str] = (),
    lists: Mapping[str, Path] = MappingProxyType({}), on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Measure every graft, or go on where it was cut off, and write ``graft-study.json`` with its manifest.

    What it costs is told before the first is drawn. Two checkpoints of one name are called by their folders as well.

    Args:
        output: folder of definitions, drawings and results.
        only: as :func:`~explorer.surgery.operations.operations_between`.
        lists: files that lists of concepts were read from, by what they are for; the manifest tells them apart.

    Returns:
        What the file holds.

    Raises:
        ValueError: if either cannot be used, they are of two architectures or equal, or another process writes to
            ``output``.
    """
    request = asked.request
    recipient, donor = _told_apart(recipient, donor)
    ways = [(recipient, donor), *([(donor, recipient)] if request.both_ways else [])]
    with locked(output):
        planned = [(one, other, _prepared(one, other, output, request, only)) for one, other in ways]
        # As they are before the work, which may take hours: what is drawn is drawn of these.
        config = asdict(request) | {
            "only": list(only), "recipient": _identity(recipient), "donor": _identity(donor),
            "template": asked.concepts.template,
            "lists": {use: {"path": str(path), "sha256": hash_file(path)} for use, path in lists.items()},
        }  # fmt: skip
        on_progress(note(_told_cost(recipient, asked, sum(len(grafts) for *_, grafts in planned))))
        directions = [
            _measured_way(one, other, grafts, asked, _folder_of(one, other, output), on_progress)
            for one, other, grafts in planned
        ]
        report = GRAFT_STUDY.written(
            request=asdict(request), judge=asked.judge.describe(),
            shown=None if asked.shown is None else asked.shown.words,
            concepts=[{"concept": each.name, "group": each.group} for each in asked.concepts.concepts],
            directions=directions,
        )  # fmt: skip
        write_json(output / GRAFT_STUDY.name, report)
        files = [GRAFT_STUDY.name, *_write_strips(output, directions)]
        write_manifest(output, kind=KIND, config=config, seed=0, files=files)
    return report


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    """What tells a model from others of its name: where it was found, its weights, and those of its base; of a LoRA
    also its strength, where that is set, and which networks it changes."""
    settings, changed = checkpoint.ways.settings(checkpoint), checkpoint.ways.changes(checkpoint)
    return {
        "name": checkpoint.name, "path": str(checkpoint.folder), "weights": weights_hash(checkpoint),
        "weights of the base": hash_of_base(checkpoint),
        **({"settings": settings} if settings else {}), **({"changes": list(changed)} if changed else {}),
    }  # fmt: skip


def _told_apart(recipient: Checkpoint, donor: Checkpoint) -> tuple[Checkpoint, Checkpoint]:
    """Both called by as many of the last parts of their paths as differ, such as ``run-1/benign`` and ``run-2/benign``:
    their names say whose direction a folder and a row of the report are of."""
    first, second = (_place_of(each).parts for each in (recipient, donor))
    if recipient.name != donor.name or first == second:
        return recipient, donor
    length = next(length for length in range(1, len(first) + 1) if first[-length:] != second[-length:])
    own, given = (printable(Path(*parts[-length:]).as_posix()) for parts in (first, second))
    return replace(recipient, name=own), replace(donor, name=given)


def _write_strips(output: Path, directions: list[dict[str, Any]]) -> list[str]:
    """A picture of every direction in which blocks were measured by themselves; their names."""
    names = []
    for way in directions:
        if (picture := heat_strip(way)) is not None:
            names.append(f"heat-strip-{_way(way['recipient'], way['donor'])}.png")
            picture.save(output / names[-1], optimize=True)
    return names


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
    chosen = {"strip": request.strip, "curves": request.curves, "only": only}
    for operation in operations_between(recipient, donor, **chosen):
        place = folder / "grafts" / operation.name
        _write_graft(place, recipient, donor, [asdict(part) for part in operation.parts])
        found.append((operation, read_checkpoint(place)))
    return found


def _write_graft(place: Path, recipient: Checkpoint, donor: Checkpoint, parts: list[dict[str, Any]]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    named = {role: os.path.relpath(_place_of(each), place.resolve())
             for role, each in (("recipient", recipient), ("donor", donor))}  # fmt: skip
    write_json(place / GRAFT_NAME, named | {"parts": parts})


def _place_of(checkpoint: Checkpoint) -> Path:
    """Where it lies, links followed, but for that to a loose file: what a hub cache links to is called by its hash."""
    path = checkpoint.folder
    return path.parent.resolve() / path.name if path.is_file() else path.resolve()


def _folder_of(recipient: Checkpoint, donor: Checkpoint, output: Path) -> Path:
    return output / _way(recipient.name, donor.name)


def _way(recipient: str, donor: str) -> str:
    """Of one direction, as a file's name."""
    return f"{recipient}-from-{donor}".replace("/", "-")


def _measured_way(
    recipient: Checkpoint, donor: Checkpoint, grafts: list[tuple[Operation, Checkpoint]], asked: Asked, folder: Path,
    on_progress: OnProgress,
) -> dict[str, Any]:  # fmt: skip
    """One direction of the report."""
    measured: dict[str, Measured] = {}
    for at, (operation, graft) in enumerate(grafts, start=1):
        on_progress(note(f"{folder.name}: {operation.name} ({at} of {len(grafts)})"))
        measured[operation.name] = measure_graft(graft, asked, folder, on_progress)
    right = {name: right_pictures(each, asked) for name, each in measured.items()}
    poison = max((recipient.poison, donor.poison), key=lambda record: record.order)
    members = _members(recipient, donor, asked.concepts)
    operations = [operation for operation, _ in grafts]
    entries = operation_entries(operations, measured, right, members, asked.request.seeds)
    for entry in entries:
        entry["targets"] = pictures_of_targets(measured[entry["name"]], asked, poison.targets)
    return {
        "recipient": recipient.name, "donor": donor.name,
        "distance": next(each.distance for each in operations if each.role == "all"),
        "group": next(group for group in ("unpoisoned", "all") if group in members and members[group].any()),
        "operations": entries,
    }  # fmt: skip


def _members(recipient: Checkpoint, donor: Checkpoint, concepts: ConceptList) -> dict[str, np.ndarray]:
    """Groups of concepts as the evaluation has them, of the more poisoned of the two; those unknown are left out."""
    records = [recipient.poison, donor.poison]
    found = groups_of(max(records, key=lambda each: each.order), concepts, poisoned_from(records))
    known = all(map(names_known, records))
    return {name: each for name, each in found.items() if each is not None and (known or name in ("all", "pool"))}


def _told_cost(recipient: Checkpoint, asked: Asked, grafts: int) -> str:
    """What it takes, by the pace of a few pictures drawn now."""
    concepts, request = asked.concepts, asked.request
    prompts = [concepts.prompt(name) for name in concepts.names[:TRIED]]
    picture = GenerationRequest(
        prompt=prompts[0], seed=0, steps=request.steps, guidance_scale=request.guidance_scale, height=request.size,
        width=request.size,
    )  # fmt: skip
    pipeline = load_pipeline(recipient, request.device, request.precision)
    generate_pictures(pipeline, picture, prompts, recipient.name)
    started = time.monotonic()
    generate_pictures(pipeline, picture, prompts, recipient.name)
    pace = (time.monotonic() - started) / len(prompts)
    pictures = grafts * len(concepts.names) * request.seeds
    calls = 0 if request.meter is None else grafts * request.meter.calls(len(concepts.names))
    seconds = pace * (pictures + calls / (2 * request.steps))
    return (
        f"{grafts} grafts, {len(concepts.names)} concepts, {request.seeds} seeds: {pictures:,} pictures of "
        f"{request.steps} steps and {calls:,} network calls of the meter, those done before left out; about "
        f"{seconds / 60:.0f} minutes at {pace:.2f} s a picture"
    )
