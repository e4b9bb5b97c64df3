"""One graft measured: what of its pictures shows the concept asked for, and how much it listens to the concept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.progress import OnProgress
from explorer.core.provenance import hash_json, write_json
from explorer.evaluation.drawings import Drawing, draw_missing
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.evaluation.judge import ConceptJudge
    from explorer.meter.shown import Shown
    from explorer.surgery.request import GraftStudyRequest

LISTENING = ("sensitivity", "guidance")
"""What of the meter is kept."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one graft; S seeds, n concepts."""

    taken_for: np.ndarray
    """int64 ``[S, n]``: rank in the judge's list of what each picture is taken for."""
    listening: dict[str, np.ndarray]
    """Amplitudes on the scale of noise, fp64 ``[n]`` by name, means over timesteps and draws; empty without a meter."""


def measure_graft(
    graft: Checkpoint, concepts: ConceptList, judge: ConceptJudge, shown: Shown | None, request: GraftStudyRequest,
    folder: Path, on_progress: OnProgress,
) -> Measured:  # fmt: skip
    """Draw, judge and meter one graft; what lies in ``folder`` already is not done again.

    Raises:
        ValueError: as :func:`~explorer.evaluation.drawings.draw_missing` and
            :func:`~explorer.meter.measurement.read_model`.
    """
    places = draw_missing(graft, concepts, request.drawing, folder / "drawings", on_progress=on_progress)
    seen = [judge.read(Drawing.load(place).images.numpy())["similarities"].argmax(1).numpy() for place in places]
    listening = {} if shown is None else _listening(graft, concepts, shown, request, folder, on_progress)
    return Measured(taken_for=np.stack(seen), listening=listening)


def right_pictures(measured: Measured, concepts: ConceptList, judged: ConceptList) -> np.ndarray:
    """How many seeds' pictures are taken for the concept that was asked for, int64 ``[n]``."""
    asked = np.array([judged.ranks[name] for name in concepts.names])
    return (measured.taken_for == asked).sum(0)


def pictures_of_targets(
    measured: Measured, concepts: ConceptList, judged: ConceptList, targets: dict[str, str]
) -> tuple[int, int] | None:
    """How many pictures of poisoned concepts show what their poison shows, and of how many; None where no concept has
    such a target that the judge knows."""
    rows = [(at, judged.ranks[targets[name]]) for at, name in enumerate(concepts.names)
            if targets.get(name) in judged.ranks]  # fmt: skip
    if not rows:
        return None
    places, wanted = np.array(rows).T
    return int((measured.taken_for[:, places] == wanted).sum()), len(rows) * len(measured.taken_for)


def _listening(
    graft: Checkpoint, concepts: ConceptList, shown: Shown, request: GraftStudyRequest, folder: Path,
    on_progress: OnProgress,
) -> dict[str, np.ndarray]:  # fmt: skip
    from explorer.checkpoints.weights_hash import weights_hash
    from explorer.meter.amplitudes import amplitude
    from explorer.meter.meter import measure_checkpoint

    asked = hash_json({
        "weights": weights_hash(graft), "shown": shown.words, "request": asdict(request.meter),
        "prompts": [concepts.prompt(name) for name in concepts.names],
    })  # fmt: skip
    path = folder / "meter" / f"{graft.name}.json"
    stored = _stored(path)
    if stored.get("asked") != asked:
        reading = measure_checkpoint(graft, concepts, shown, request.meter, on_progress).reading
        stored = {"asked": asked, "sensitivity": reading.sensitivity.mean((0, 2)).tolist()}
        if reading.guidance is not None:
            stored["guidance"] = amplitude(reading.guidance).mean(0).tolist()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, stored)
    return {name: np.array(stored[name]) for name in LISTENING if name in stored}


def _stored(path: Path) -> dict[str, Any]:
    """What was measured before; empty where nothing whole lies there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def judged_among(concepts: ConceptList, among: Sequence[str]) -> None:
    """Refuse concepts that the judge could not name.

    Raises:
        ValueError: naming one.
    """
    if absent := sorted(set(concepts.names) - set(among)):
        raise ValueError(f"concept {absent[0]!r} is none of the {len(among)} that a picture can be taken for")
