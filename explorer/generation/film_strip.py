"""The film strip: the same prompts, seed and noise through models of rising C_P, as sheets of small cells.

Rows are concepts, columns models by their number of poisoned concepts. ``images.png`` holds the pictures,
``maps.png`` the attention to the concept's words (16x16 layers, mean over steps, layers and heads, the sum where it is
several words, as in the evaluation), ``guidance.png`` the guidance maps (mean over steps). All cells of a sheet of maps
stand on one absolute scale, so that a map that went flat or dark looks so. There is no sheet of guidance maps where no
model has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from explorer.attention.prompts import is_joint
from explorer.checkpoints.pipelines import load_pipeline
from explorer.core.poison_record import poisoned_from
from explorer.core.progress import OnProgress, counted, unheard
from explorer.core.provenance import write_json
from explorer.generation.columns import Judge
from explorer.generation.generate import GenerationRequest, generate
from explorer.generation.payload_formats import FILM_KINDS, FILM_STRIP
from explorer.generation.sureness import BOUNDS, sure_bounds
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

CELL = 64
SCALE_QUANTILE = 0.995
"""White on a sheet of maps: this quantile of all their values, so that one hot spot does not darken the rest."""


@dataclass(frozen=True, kw_only=True)
class FilmStripConfig:
    """What every model is asked."""

    concepts: ConceptList
    """Rows, in order, with their prompts."""
    seed: int = 7
    """Of the initial noise, the same for every cell."""
    steps: int = 20
    """Denoising steps."""
    guidance_scale: float = 4.0
    """Classifier-free guidance scale."""
    size: int | None = None
    """Pixels a side; None for what each model was made for."""
    device: str = "cpu"
    """Torch device."""
    precision: str | None = None
    """Of every network: fp32, fp16 or bf16; None for fp32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FilmColumn:
    """One model's cells."""

    images: np.ndarray
    """uint8 ``[concepts, H, W, 3]``."""
    maps: np.ndarray
    """fp32 ``[concepts, h, w]`` probabilities of the concept's words."""
    guidance: np.ndarray | None
    """fp32 ``[concepts, h, w]`` on the scale of noise; None where there is no guidance."""
    no_guidance: str
    """Why there is none; empty where there is."""
    cells: list[dict[str, Any]]
    """Per concept ``scatter`` in [0, 1], ``guidance``, the mean of its guidance map, where there is one and, with a
    judge, ``clip_similarity``, ``margin``, ``top_concept`` and ``rank``."""
    tau: float | None = None
    """The judge's threshold on CLIP similarity; None without a judge, or where none was calibrated."""


def film_column(
    pipeline: DiffusionPipeline,
    config: FilmStripConfig,
    *,
    model: str = "",
    judge: Judge | None = None,
    on_progress: OnProgress = unheard,
) -> FilmColumn:
    """Draw every concept with one model.

    Raises:
        ValueError: if the model does not know a concept's word.
    """
    import torch

    from explorer.attention.statistics import scatter

    images, maps, guidance, cells, tau, why = [], [], [], [], None, ""
    for concept in counted(config.concepts.concepts, on_progress, f"film strip of {model}", "picture"):
        request = GenerationRequest(
            prompt=config.concepts.prompt(concept.name), seed=config.seed, steps=config.steps,
            guidance_scale=config.guidance_scale, height=config.size, width=config.size,
        )  # fmt: skip
        generation = generate(pipeline, request, model=model, keep_heads=not is_joint(pipeline))
        map_of_word = generation.cube.map(generation.words.indices_of(concept.noun))
        cell, why = {"scatter": round(float(scatter(map_of_word)), 4)}, generation.steps.no_guidance
        if generation.steps.guidance is not None:
            guidance.append(generation.steps.guidance.mean(dim=0)[0])
            cell["guidance"] = round(float(guidance[-1].mean()), 4)
        if judge is not None:
            verdict = judge.judge(generation.images[0], request.prompt)
            cell |= {name: None if verdict[name] is None else round(verdict[name], 4) for name in BOUNDS}
            cell |= {name: verdict[name] for name in ("top_concept", "rank")}
            tau = verdict["threshold"]
        images.append(generation.images[0])
        maps.append(map_of_word)
        cells.append(cell)
    return FilmColumn(
        images=np.stack(images), maps=torch.stack(maps).cpu().numpy(), cells=cells, tau=tau, no_guidance=why,
        guidance=torch.stack(guidance).numpy() if guidance else None,
    )  # fmt: skip


def write_film_strip(
    folder: Path | str,
    checkpoints: Sequence[Checkpoint],
    config: FilmStripConfig,
    *,
    control: str | None = None,
    judge: Judge | None = None,
    on_progress: OnProgress = unheard,
) -> list[str]:
    """Draw and write the film strip; returns the names of the files written to ``folder``.

    Args:
        folder: made if missing.
        checkpoints: models; sorted here by their number of poisoned concepts, those of one number left in order, and
            those of which it is not recorded last.
        config: rows and settings.
        control: name of the checkpoint whose right pictures say when the judge is sure; None for none.
        judge: adds what the extractor sees in each cell.
        on_progress: told about every picture.

    Raises:
        ValueError: if there is no checkpoint, or one cannot be loaded.
    """
    if not checkpoints:
        raise ValueError("no checkpoints given: expected at least one")
    shared: dict[Any, Any] = {}
    ordered = sorted(checkpoints, key=lambda each: (each.poison.concept_count is None, each.poison.order))
    columns = []
    for checkpoint in ordered:
        pipeline = load_pipeline(checkpoint, config.device, config.precision, shared)
        columns.append(film_column(pipeline, config, model=checkpoint.name, judge=judge, on_progress=on_progress))
    return _write(Path(folder), ordered, columns, config, control)


def _write(
    folder: Path, checkpoints: Sequence[Checkpoint], columns: Sequence[FilmColumn], config: FilmStripConfig,
    control: str | None,
) -> list[str]:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    files = {kind: folder / f"{kind}.png" for kind in FILM_KINDS}
    _save(files["images"], [column.images for column in columns])
    scales = {
        "map_scale": _save_maps(files["maps"], [column.maps for column in columns]),
        "guidance_map_scale": _save_maps(files["guidance"], [column.guidance for column in columns]),
    }
    poisoned = poisoned_from(checkpoint.poison for checkpoint in checkpoints)
    description = FILM_STRIP.written(
        cell=CELL,
        seed=config.seed,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        **scales,
        tau=columns[0].tau,
        sure=next(
            (
                sure_bounds(column.cells, config.concepts.names)
                for checkpoint, column in zip(checkpoints, columns, strict=True)
                if checkpoint.name == control
            ),
            None,
        ),
        concepts=[{"concept": concept, "poisoned_from": poisoned.get(concept)} for concept in config.concepts.names],
        models=[
            {
                "name": checkpoint.name,
                "poisoned": checkpoint.poison.poisoned,
                "poisoned_concept_count": checkpoint.poison.concept_count,
                "no_guidance": column.no_guidance,
                "cells": column.cells,
            }
            for checkpoint, column in zip(checkpoints, columns, strict=True)
        ],
    )
    write_json(folder / FILM_STRIP.name, description)
    without = [] if scales["guidance_map_scale"] is not None else ["guidance"]
    return [FILM_STRIP.name, *(path.name for kind, path in files.items() if kind not in without)]


def _save_maps(path: Path, columns: Sequence[np.ndarray | None]) -> float | None:
    """Write the maps of all models, ``[concepts, h, w]`` each, on one scale, and return what is white there.

    The cells of a model without maps are left black. Nothing is written, and None returned, where no model has any.
    """
    having = [maps for maps in columns if maps is not None]
    if not having:
        return None
    # Models of other sizes have maps of other sizes. Neither probabilities nor amplitudes are scaled by area for that.
    top = float(np.quantile(np.concatenate([maps.ravel() for maps in having]), SCALE_QUANTILE))
    none = np.zeros_like(having[0])
    greys = [np.clip((none if maps is None else maps) / (top or 1), 0, 1) * 255 for maps in columns]
    _save(path, [grey.round().astype(np.uint8) for grey in greys])
    return top


def _save(path: Path, columns: Sequence[np.ndarray]) -> None:
    """Write cells uint8 ``[rows, H, W(, 3)]`` a column, resized to ``CELL``, as one picture, grey or RGB."""
    mode = "RGB" if columns[0].ndim == 4 else "L"

    def cell(pixels: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(pixels).convert(mode)
        return np.asarray(picture.resize((CELL, CELL), Image.Resampling.BILINEAR))

    rows = [np.concatenate([cell(column[row]) for column in columns], axis=1) for row in range(len(columns[0]))]
    Image.fromarray(np.concatenate(rows, axis=0)).save(path, optimize=True)
