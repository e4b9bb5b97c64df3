"""One graft measured: what of its pictures shows the concept asked for, and how much it listens to the concept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.checkpoints.weights_hash import weights_hash
from explorer.core.progress import OnProgress
from explorer.core.provenance import hash_file, hash_json, write_json
from explorer.evaluation.drawings import Drawing, draw_missing
from explorer.evaluation.metrics.word_maps import METRICS
from explorer.meter.amplitudes import amplitude
from explorer.meter.meter import measure_checkpoint
from explorer.meter.payload_formats import GUIDANCE, SENSITIVITY
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    import torch

    from explorer.checkpoints.registry import Checkpoint
    from explorer.evaluation.judge import ConceptJudge
    from explorer.meter.shown import Shown
    from explorer.surgery.request import GraftStudyRequest

LATE = ("late_word_mass", "late_contiguity")
"""What of the maps is measured: metrics of :mod:`explorer.evaluation.metrics.word_maps`."""
LISTENING = (SENSITIVITY, GUIDANCE)
"""What of the meter is kept."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every graft is asked, and by whom it is judged.

    Raises:
        ValueError: naming a concept that the judge could not name.
    """

    concepts: ConceptList
    """What is drawn."""
    judge: ConceptJudge
    """Names what a picture shows, out of its own list of concepts, which holds these."""
    shown: Shown | None
    """What the meter shows the networks; None where it is left out."""
    request: GraftStudyRequest

    def __post_init__(self) -> None:
        known = self.judge.concepts.names
        if absent := sorted(set(self.concepts.names) - set(known)):
            raise ValueError(f"concept {absent[0]!r} is none of the {len(known)} that a picture can be taken for")

    @property
    def ranks(self) -> np.ndarray:
        """Of the concepts drawn in the judge's list, int64 ``[n]``."""
        return np.array([self.judge.concepts.ranks[name] for name in self.concepts.names])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one graft; S seeds, n concepts."""

    taken_for: np.ndarray
    """int64 ``[S, n]``: rank in the judge's list of what each picture is taken for."""
    listening: dict[str, np.ndarray]
    """Amplitudes on the scale of noise, fp64 ``[n]`` by name, means over timesteps and draws; empty without a meter."""
    attention: dict[str, np.ndarray]
    """Statistics of the maps of the concepts' words in the last third of the steps, fp64 ``[n]`` by name, means over
    seeds; empty where maps were not asked for."""


def measure_graft(graft: Checkpoint, asked: Asked, folder: Path, on_progress: OnProgress) -> Measured:
    """Draw, judge and meter one graft; what lies in ``folder`` already is not done again.

    Raises:
        ValueError: as :func:`~explorer.evaluation.drawings.draw_missing` and
            :func:`~explorer.meter.measurement.read_model`.
    """
    places = draw_missing(
        graft, asked.concepts, asked.request.drawing, folder / "drawings", on_progress=on_progress
    )  # fmt: skip
    seen, maps = [], []
    for place in places:
        drawing = Drawing.load(place)
        seen.append(asked.judge.read(drawing.images.numpy())["similarities"].argmax(1).numpy())
        maps.append(drawing.late_maps)
    listening = {} if asked.shown is None else _listening(graft, asked, folder, on_progress)
    return Measured(taken_for=np.stack(seen), listening=listening, attention=_attention(maps))


def right_pictures(measured: Measured, asked: Asked) -> np.ndarray:
    """How many seeds' pictures are taken for the concept that was asked for, int64 ``[n]``."""
    return (measured.taken_for == asked.ranks).sum(0)


def pictures_of_targets(measured: Measured, asked: Asked, targets: dict[str, str]) -> dict[str, int] | None:
    """How many pictures of poisoned concepts are taken for what their poison shows (``shown``), ``of`` how many; None
    where no concept has such a target that the judge knows."""
    known = asked.judge.concepts.ranks
    rows = [(at, known[targets[name]]) for at, name in enumerate(asked.concepts.names) if targets.get(name) in known]
    if not rows:
        return None
    places, wanted = np.array(rows).T
    shown = int((measured.taken_for[:, places] == wanted).sum())
    return {"shown": shown, "of": len(rows) * len(measured.taken_for)}


def _attention(maps: list[torch.Tensor | None]) -> dict[str, np.ndarray]:
    """Of the late maps ``[n, h, w]`` of every seed."""
    if any(each is None for each in maps):
        return {}
    return {metric.name: np.mean([metric.compute(each).double().numpy() for each in maps], axis=0)
            for metric in METRICS if metric.name in LATE}  # fmt: skip


def _listening(graft: Checkpoint, asked: Asked, folder: Path, on_progress: OnProgress) -> dict[str, np.ndarray]:
    concepts, request = asked.concepts, asked.request.meter
    given = {"given": [hash_file(path) for path in asked.shown.files]} if asked.shown.files else {}
    decisive = hash_json({
        "weights": weights_hash(graft), "shown": asked.shown.words, "request": asdict(request),
        "prompts": [concepts.prompt(name) for name in concepts.names], **given,
    })  # fmt: skip
    path = folder / "meter" / f"{graft.name}.json"
    stored = _stored(path)
    if stored.get("asked") != decisive:
        reading = measure_checkpoint(graft, concepts, asked.shown, request, on_progress).reading
        stored = {"asked": decisive, "sensitivity": reading.sensitivity.mean((0, 2)).tolist()}
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
