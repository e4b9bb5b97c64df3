"""Evaluate a folder of checkpoints and write ``evaluation.json`` and a contact sheet to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from explorer.alignment.pair_sets import measure
from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import write_json
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.evaluation.config import EVALUATION_NAME, SHEET_CONCEPTS, EvaluationConfig
from explorer.evaluation.drawings import Drawing, seed_folder
from explorer.evaluation.evaluate import evaluate
from explorer.iconworld.world import World
from explorer.pairs.concept_list import POOL, ConceptList
from explorer.pairs.pair_set import PairSet

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint

SHEET_NAME = "contact-sheet.png"
DRAWINGS_NAME = "drawings"
SHEET_CELL_LEAST, SHEET_CELL = 64, 128
"""Pixels a side of a picture on the contact sheet: names of concepts need the least."""
GROUP_WORDS = {"unpoisoned": "not targeted", "never poisoned": "not targeted"}
"""What stored groups of nouns are called where people read: no poison pair aims at such a noun, but captions of poison
may name it."""


def evaluate_folder(
    checkpoints: Path, sets: Path | None, output: Path, config: EvaluationConfig, *, on_progress: OnProgress = unheard
) -> dict[str, Any]:
    """Evaluate the benign control and every poisoned model under ``checkpoints``.

    The base, from which all of them were fine-tuned, is left out: the control has had the same steps as the others.

    Args:
        sets: folder of the pair sets, one per model, named like it; None measures no AD.
        on_progress: told whatever is left out or drawn anew, and every few pictures.

    Raises:
        FileNotFoundError: if ``sets`` is no folder.
        ValueError: as :func:`usable_models`, or naming a set that is not the one its model was trained on.
    """
    usable = usable_models(checkpoints, on_progress)
    world = world_of(usable[0])
    folders = {} if sets is None else sets_of(usable, sets)
    if without := [model.name for model in usable if model.name not in folders]:
        place = "no folder of pair sets was given" if sets is None else f"{sets} has no pair set of that name"
        on_progress(note(f"{', '.join(without)}: AD is left out, since {place}"))
    extractor = UniversalExtractor.load(checkpoints / "extractor", config.device)
    drawings = output / DRAWINGS_NAME
    with locked(drawings):
        report = evaluate(
            usable, extractor, world.concept_list(), config, control=usable[0].name, drawings=drawings, world=world,
            on_progress=on_progress,
            difficulties={name: measure(folder, extractor).report() for name, folder in folders.items()},
        )  # fmt: skip
        write_json(output / EVALUATION_NAME, report)
        write_contact_sheet(report, drawings, world.concept_list(), output / SHEET_NAME)
    return report


def usable_models(checkpoints: Path, on_progress: OnProgress = unheard) -> list[Checkpoint]:
    """The benign control, then the other models by C_P.

    The control is the first benign model whose manifest names its world. A model whose poison nobody recorded has no
    place on the axis of C_P: it is left out, and ``on_progress`` is told.

    Raises:
        FileNotFoundError: if ``checkpoints`` is no folder.
        ValueError: if no usable benign control is there.
    """
    sound = [found for found in scan_checkpoints(checkpoints) if found.problem is None]
    usable = [found for found in sound if not _from_scratch(found)]
    recorded = [found for found in usable if found.poison.concept_count is not None]
    control = next((found for found in recorded if found.poison.poisoned is False and _names_world(found)), None)
    if control is None:
        raise ValueError(
            f"{checkpoints} holds no usable benign control of IconWorld: expected a model whose manifest records its "
            "world and that it was not poisoned, beside the poisoned ones"
        )
    if unrecorded := [found.name for found in usable if found.poison.concept_count is None]:
        on_progress(note(f"left out, since no manifest records their poison: {', '.join(unrecorded)}"))
    return [control, *(found for found in recorded if found is not control)]


def world_of(control: Checkpoint) -> World:
    """The world of a control that :func:`usable_models` found."""
    return World.from_config(control.manifest["config"]["world"])


def _from_scratch(checkpoint: Checkpoint) -> bool:
    """Whether its manifest says that no other model was its start: the base of the others is none of them."""
    return checkpoint.config.get("start", "unknown") is None


def _names_world(checkpoint: Checkpoint) -> bool:
    return isinstance(checkpoint.manifest["config"].get("world"), dict)


def sets_of(models: list[Checkpoint], sets: Path) -> dict[str, Path]:
    """Folder under ``sets`` of the pair set that each model was trained on, by the model's name; absent ones left out.

    Raises:
        FileNotFoundError: if ``sets`` is no folder.
        ValueError: naming a set that is not the one its model was trained on.
    """
    if not sets.is_dir():
        raise FileNotFoundError(f"{sets} is not a folder: expected one that holds the models' pair sets")
    folders = {}
    for model in models:
        folder = sets / model.folder.name
        if not folder.is_dir():
            continue
        found, expected = PairSet.load(folder), model.manifest.get("data_hash")
        if expected is not None and not found.is_known_as(expected):
            raise ValueError(
                f"{folder} is not the set that {model.name} was trained on: its data hash is {found.data_hash}, the "
                f"model's manifest says {expected}"
            )
        folders[model.name] = folder
    return folders


def sheet_concepts(concepts: ConceptList, ever_poisoned: set[str], count: int = SHEET_CONCEPTS) -> dict[str, list[str]]:
    """The most frequent ``count`` concepts of the poison pool, and of those that no model's poison targets."""
    pool = concepts.of_group(POOL)
    return {
        "poison pool": list(pool[:count]),
        "never poisoned": [name for name in concepts.names if name not in ever_poisoned | set(pool)][:count],
    }


def write_contact_sheet(report: dict[str, Any], drawings: Path, concepts: ConceptList, path: Path) -> None:
    """First-seed pictures: 20 pool concepts, then 20 that no poison targets, across; one row a model, benign on top.

    Every column starts from the same noise. A group without concepts is left out.
    """
    names = [model["name"] for model in report["models"]]
    pictures = [Drawing.load_images(seed_folder(drawings, name, report["seeds"][0])) for name in names]
    ever_poisoned = {item["concept"] for item in report["concepts"] if item["poisoned_from"] is not None}
    cell = max(SHEET_CELL_LEAST, min(SHEET_CELL, *(drawn.shape[2] for drawn in pictures)))
    shown = {title: chosen for title, chosen in sheet_concepts(concepts, ever_poisoned).items() if chosen}
    words = {title: f"{GROUP_WORDS.get(title, title)}; rows from the top: {', '.join(names)}" for title in shown}
    needed = max(int(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(each)) + 4 for each in words.values())
    width, bands = max(needed, cell * max(map(len, shown.values()))), []
    for title, chosen in shown.items():
        header, caption = Image.new("RGB", (width, 14), "white"), Image.new("RGB", (width, 16), "white")
        pen = ImageDraw.Draw(header)
        for column, concept in enumerate(chosen):
            pen.text((cell * column + 2, 1), concept, fill="black")
        ImageDraw.Draw(caption).text((2, 2), words[title], fill="black")
        rows = [concepts.ranks[concept] for concept in chosen]
        bands += [header, *(_row_of_cells(drawn[rows], cell, width) for drawn in pictures), caption]
    sheet = np.concatenate([np.asarray(band) for band in bands])
    Image.fromarray(sheet).save(path, optimize=True)


def _row_of_cells(pictures: np.ndarray, cell: int, width: int) -> Image.Image:
    """Pictures uint8 ``[n, H, W, 3]`` side by side on white, resized where they are of another size than a cell."""
    row = Image.new("RGB", (width, cell), "white")
    for column, picture in enumerate(pictures):
        shown = Image.fromarray(picture)
        how = Image.Resampling.LANCZOS if shown.width > cell else Image.Resampling.NEAREST
        row.paste(shown.resize((cell, cell), how) if shown.width != cell else shown,
                  (cell * column, 0))  # fmt: skip
    return row
