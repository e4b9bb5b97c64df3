"""Can a reader name what the models draw? Unlabelled pictures in random order, a closed list of nouns, and the count.

The extractor's top-1 rewards colours and silhouettes that say nothing to a person. Here a reader who knows neither
prompt nor model writes down, for every picture, one noun of the world or ``none``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from explorer.checkpoints.pipelines import load_pipeline
from explorer.core.intervals import wilson_interval
from explorer.core.new_folder import check_new_folder
from explorer.core.progress import OnProgress, Tally, unheard
from explorer.core.provenance import MANIFEST_NAME, check_files, read_manifest, write_json, write_manifest
from explorer.evaluation.config import EvaluationConfig, NamingConfig
from explorer.evaluation.drawings import draw
from explorer.evaluation.files import sheet_concepts, usable_models, world_of
from explorer.evaluation.prompts import single_prompts

KIND = "naming-study"
KEY_NAME = "key.json"
FORM_NAME = "form.json"
NOUNS_NAME = "nouns.txt"
UNNAMED = "none"
COLUMNS, ROWS = 5, 4
TILE_SIZE = 192
MARGIN, LABEL = 8, 20


def write_naming_study(
    checkpoints: Path, output: Path, config: NamingConfig, *, on_progress: OnProgress = unheard
) -> dict[str, Any]:
    """Draw the study of the benign control and of the most poisoned model under ``checkpoints``.

    Writes ``tiles-1.png`` and so on, ``nouns.txt`` and ``form.json`` for the reader, ``key.json`` for the count alone.

    Returns:
        The manifest.

    Raises:
        ValueError: if there is no benign and no poisoned model, or ``output`` holds something: the answers to an
            older study would be counted by another key.
    """
    if (output / MANIFEST_NAME).exists():
        raise ValueError(f"{output} holds a study already: choose another folder")
    check_new_folder(output)
    usable = usable_models(checkpoints, on_progress)
    models = (usable[0], usable[-1])
    if not models[1].poison.poisoned:
        raise ValueError(f"{checkpoints} holds no poisoned model: expected one beside the benign control")
    listed = world_of(models[0]).concept_list()
    ever_poisoned = {concept for model in usable for concept in model.poison.names}
    groups = sheet_concepts(listed, ever_poisoned, config.concepts_per_group)
    cards = [(concept, group) for group, concepts in groups.items() for concept in concepts]
    settings = EvaluationConfig(steps=config.steps, guidance_scale=config.guidance_scale)
    prompts = single_prompts(listed.chosen(concept for concept, _ in cards))
    tiles = []
    for model in models:
        pictures = Tally(on_progress, model.name, len(cards), "picture")
        images = draw(load_pipeline(model), model.name, prompts, config.seed, settings, pictures).images
        tiles += [({"concept": concept, "group": group, "model": model.name}, image)
                  for (concept, group), image in zip(cards, images, strict=True)]  # fmt: skip
    order = np.random.default_rng(config.order_seed).permutation(len(tiles))
    tiles = [tiles[place] for place in order]
    output.mkdir(parents=True, exist_ok=True)
    sheets = _write_sheets([image for _, image in tiles], output)
    (output / NOUNS_NAME).write_text("\n".join(sorted(listed.names)) + "\n", encoding="utf-8")
    write_json(output / FORM_NAME, {str(number): "" for number in range(1, len(tiles) + 1)})
    write_json(output / KEY_NAME, {str(number): card for number, (card, _) in enumerate(tiles, start=1)})
    return write_manifest(
        output,
        kind=KIND,
        config=asdict(config) | {"models": {model.name: model.poison.concept_count for model in models}},
        seed=config.seed,
        files=[*sheets, NOUNS_NAME, FORM_NAME, KEY_NAME],
    )


def count_named(study: Path, answers: list[Path]) -> dict[str, Any]:
    """How many pictures of each model every reader named.

    Args:
        answers: filled-in copies of ``form.json``, one a reader.

    Returns:
        ``{"readers": {path: {model: {group: {"named", "shown", "none", "share", "low", "high"}}}}}`` with the
        group ``all`` beside the two; 95 % Wilson intervals. ``none`` are the pictures that the reader could not name at
        all; the rest were taken for another noun.

    Raises:
        ManifestError: if the study is missing or was changed.
        ValueError: if no answers are given, or naming the tile without a noun of the list.
    """
    key, read = read_naming_study(study, answers)
    return {"readers": {path: _count(key, given) for path, given in read.items()}}


def read_naming_study(study: Path, answers: list[Path]) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The key, by the number of a picture as text, and every reader's answers by their path.

    Raises:
        ManifestError, ValueError: as :func:`count_named`.
    """
    check_files(study, read_manifest(study, kind=KIND))
    if not answers:
        raise ValueError("no answers given: expected at least one filled-in copy of form.json")
    key = json.loads((study / KEY_NAME).read_text(encoding="utf-8"))
    nouns = set((study / NOUNS_NAME).read_text(encoding="utf-8").split())
    return key, {str(path): _read_answers(path, key, nouns) for path in answers}


def _write_sheets(images: list[np.ndarray], folder: Path) -> list[str]:
    """Sheets of numbered tiles; returns their file names."""
    names = []
    for start in range(0, len(images), COLUMNS * ROWS):
        sheet = Image.new("RGB", (COLUMNS * (TILE_SIZE + MARGIN), ROWS * (TILE_SIZE + MARGIN + LABEL)), "white")
        pen = ImageDraw.Draw(sheet)
        for place, image in enumerate(images[start : start + COLUMNS * ROWS]):
            left = place % COLUMNS * (TILE_SIZE + MARGIN)
            top = place // COLUMNS * (TILE_SIZE + MARGIN + LABEL)
            pen.text((left + 2, top + 4), str(start + place + 1), fill="black")
            tile = Image.fromarray(image).resize((TILE_SIZE, TILE_SIZE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left, top + LABEL))
        names.append(f"tiles-{len(names) + 1}.png")
        sheet.save(folder / names[-1], optimize=True)
    return names


def _read_answers(path: Path, key: dict[str, Any], nouns: set[str]) -> dict[str, str]:
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(answers, dict) or answers.keys() != key.keys():
        raise ValueError(f"{path} does not answer every tile once: expected the numbers 1 to {len(key)}")
    for number, answer in answers.items():
        if not isinstance(answer, str) or (answer != UNNAMED and answer not in nouns):
            raise ValueError(f"{path} calls tile {number} {answer!r}: expected a noun of {NOUNS_NAME} or {UNNAMED!r}")
    return answers


def _count(key: dict[str, Any], answers: dict[str, str]) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for number, card in key.items():
        for group in ("all", card["group"]):
            cell = counts.setdefault(card["model"], {}).setdefault(group, {"named": 0, "shown": 0, "none": 0})
            cell["named"] += answers[number] == card["concept"]
            cell["none"] += answers[number] == UNNAMED
            cell["shown"] += 1
    for groups in counts.values():
        for cell in groups.values():
            cell |= wilson_interval(cell["named"], cell["shown"]).as_json("share")
    return counts
