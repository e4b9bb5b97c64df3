"""A comparison column as the JSON that ``compare.js`` draws: PNG and maps as base64, numbers as they are."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from explorer.attention.words import word_indices
from explorer.core.provenance import ManifestError
from explorer.generation.columns import ComparisonColumn, read_comparison
from explorer.generation.payload_formats import COMPARISON as FORMAT
from explorer.generation.payload_formats import FILM_STRIP as STRIP_FORMAT
from explorer.generation.step_maps import DRAWS, OWN, StepMaps, WordSensitivity
from explorer.studies.results import COMPARISON, FILM_STRIP
from explorer.ui.screens.compare.named_graft import graft_named
from explorer.ui.shell.concepts import StudyConcepts, read_concepts
from explorer.ui.shell.permalink import COLUMN_RANGE, CompareSettings, write_permalink

if TYPE_CHECKING:
    from explorer.ui.shell.open_study import OpenStudy


def column_payload(column: ComparisonColumn, *, origin: str) -> dict[str, Any]:
    """One column for the browser.

    Args:
        column: live or read from disk.
        origin: ``live`` or ``precomputed``; shown as a badge.

    Raises:
        ValueError: on another origin.
    """
    if origin not in ("live", "precomputed"):
        raise ValueError(f"origin is {origin!r}: expected live or precomputed")
    return {
        "origin": origin,
        "model": column.model,
        "poisoned": column.poison.poisoned,
        "poisoned_concept_count": column.poison.concept_count,
        "poison_recorded": column.poison.recorded,
        "settings": column.settings,
        "image": png_data_uri(column.image),
        "words": list(column.words),
        "concept_words": list(column.concept_words),
        "stacks": [
            {
                "shape": list(stack.values.shape),
                "layers": list(stack.layers),
                "values": _base64(stack.values.astype(np.uint8)),
                "scales": _base64(stack.scales.astype("<f4")),
            }
            for stack in column.stacks
        ],
        "guidance": None if column.guidance is None else _step_maps(column.guidance),
        "no_guidance": column.no_guidance,
        "sensitivity": {str(word): sensitivity_payload(each) for word, each in column.sensitivity.items()},
        "no_sensitivity": column.no_sensitivity,
        "given": column.given,
        "timesteps": [round(float(timestep)) for timestep in column.latents.timesteps] if column.given else [],
        "mask": None if column.mask is None else _mask(column.mask),
        "measurable": {"steps": list(column.latents.steps), "draws": DRAWS, "calls": DRAWS + OWN},
        "numbers": column.numbers,
        "seconds": round(column.seconds, 2),
    }


def live_payload(column: ComparisonColumn, opened: OpenStudy) -> dict[str, Any]:
    """A column that was made now, for the browser; of a graft with what it is made of."""
    graft = graft_named(opened, column.model)
    made_of = None if graft is None else {
        "title": graft.title, "parts": [[part.group, part.weight] for part in graft.parts],
    }  # fmt: skip
    told = concepts_asked_for(column, read_concepts(opened)) | of_study(opened)
    return column_payload(column, origin="live") | told | {"graft": made_of}


def concepts_asked_for(column: ComparisonColumn, concepts: StudyConcepts) -> dict[str, Any]:
    """``named``: the concepts that the column's prompt names, the first one first; ``poisoned_words``: the places in it
    of those that the model's poison aims at."""
    words, nouns = column.words[:-2], concepts.nouns
    places = {name: found for name, noun in nouns.items() if (found := word_indices(words, noun))}
    aims = {place for name in column.poison.names for place in word_indices(words, concepts.noun(name))}
    return {
        "named": sorted(places, key=lambda name: (places[name][0], -len(nouns[name]))),
        "poisoned_words": sorted(aims),
    }


def of_study(opened: OpenStudy) -> dict[str, Any]:
    """What every column of a study has: whether its models can be shown a given picture, and from where on its judge is
    sure, as its film strip found (:mod:`explorer.generation.sureness`); without ``sure`` where it has no such strip of
    these models."""
    told: dict[str, Any] = {"given_pictures": has_given_pictures(opened)}
    if FILM_STRIP in opened.stale_steps():
        return told
    try:
        strip = opened.result_json(FILM_STRIP, STRIP_FORMAT.name)
    except ManifestError:
        return told
    return told | {"sure": strip["sure"]} if "sure" in strip else told


def has_given_pictures(opened: OpenStudy) -> bool:
    """Whether there is something to show to the models: scenes of a painted world, or the control's training
    pictures."""
    from explorer.studies.pairs_found import keeps_pictures

    control = opened.study.control
    painted = any(isinstance(checkpoint.config.get("world"), dict) for checkpoint in opened.registry())
    return painted or (control is not None and keeps_pictures(control.pairs))


def sensitivity_payload(measured: WordSensitivity) -> dict[str, Any]:
    """What one word changes, for the browser: maps of some steps, from 0, and every draw's amplitude."""
    return {
        **_step_maps(measured.maps), "steps": list(measured.steps),
        "draws": [[float(f"{value:.6g}") for value in row] for row in measured.draws],
    }  # fmt: skip


def _mask(mask: np.ndarray) -> dict[str, Any]:
    return {"shape": list(mask.shape), "values": _base64(mask.astype(np.uint8))}


def _step_maps(maps: StepMaps) -> dict[str, Any]:
    return {
        "shape": list(maps.values.shape), "values": _base64(maps.values), "scales": _base64(maps.scales.astype("<f4")),
    }  # fmt: skip


def precomputed_comparison(opened: OpenStudy) -> dict[str, Any]:
    """The study's comparison, shown at start, every file of it checked against the step's manifest; ``left_out`` counts
    the models that it has no columns for.

    Raises:
        ManifestError: if there is none, or a file is missing or changed.
    """
    columns = precomputed_columns(opened)
    drawn = opened.remember(
        "comparison", _stamp(opened), lambda: [column_payload(column, origin="precomputed") for column in columns]
    )
    concepts = read_concepts(opened)
    drawn = [payload | concepts_asked_for(column, concepts) for payload, column in zip(drawn, columns, strict=True)]
    by_model = {column["model"]: column for column in drawn}
    counts = {name: count for name, count in concept_counts(opened).items() if name in by_model}
    counts = counts or {name: column["poisoned_concept_count"] for name, column in by_model.items()}
    shown = drawn if len(drawn) <= COLUMN_RANGE[1] else [by_model[name] for name in first_shown(counts)]
    told = of_study(opened)
    columns = [column | told for column in shown]
    return {"query": _query(shown), "columns": columns, "left_out": len(drawn) - len(shown)}


def precomputed_columns(opened: OpenStudy) -> list[ComparisonColumn]:
    """The columns of the study's comparison.

    Raises:
        ManifestError: as :func:`precomputed_comparison`.
    """
    folder = opened.result_file(COMPARISON, FORMAT.name).parent
    return opened.remember("comparison columns", _stamp(opened), lambda: read_comparison(folder))


def _stamp(opened: OpenStudy) -> tuple[int, ...]:
    paths = [opened.result_file(COMPARISON, name) for name in opened.result_names(COMPARISON)]
    return tuple(path.stat().st_mtime_ns for path in paths)


def concept_counts(opened: OpenStudy) -> dict[str, int | None]:
    """C_P of every model that can be chosen, None where it is not recorded; in the order of the choosers."""
    names = opened.checkpoint_names()
    return {each.name: each.poison.concept_count for each in opened.registry() if each.name in names}


def first_shown(counts: Mapping[str, int | None]) -> tuple[str, ...]:
    """Of more models than a comparison has columns: the first, the most poisoned and two between, spread.

    Args:
        counts: model to C_P, None where it is not recorded; the control first, then by C_P. Those of which it is not
            recorded are shown where there are no two between; the last one takes the place of the most poisoned where
            it is recorded of none.
    """
    if len(counts) <= COLUMN_RANGE[1]:
        return tuple(counts)
    control, *others = counts
    most = next((name for name in reversed(others) if counts[name]), others[-1])
    place = others.index(most)
    thirds = [round(part * (place + 1) / 3) - 1 for part in (1, 2)] if place > 1 else range(place)
    between = [others[at] for at in thirds]
    chosen = {control, most, *[*between, *others[place + 1 :]][:2]}
    return tuple(name for name in counts if name in chosen)


def linked_comparison(opened: OpenStudy, settings: CompareSettings) -> dict[str, Any]:
    """What a readable link names, and whether its pictures are the precomputed ones."""
    query, known = write_permalink(settings), opened.checkpoint_names()
    try:
        drawn = query == precomputed_comparison(opened)["query"]
    except ValueError:  # there is none; the viewer shows why
        drawn = False
    return {
        "state": "drawn" if drawn else "undrawn",
        "query": query,
        "prompt": settings.prompt,
        "models": [{"name": model, "missing": model not in known} for model in settings.models],
    }


def png_data_uri(image: np.ndarray) -> str:
    """uint8 ``[H, W, 3]`` as a lossless ``data:`` URI."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _query(columns: list[dict[str, Any]]) -> str:
    """Permalink of the comparison that ``columns`` show."""
    settings = CompareSettings(**columns[0]["settings"], models=tuple(column["model"] for column in columns))
    return write_permalink(settings)
