"""Evaluate a folder of checkpoints and write ``evaluation.json`` and a contact sheet to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from explorer.data.iconworld import World
from explorer.experiments.evaluation import EvaluationConfig, ModelSample, evaluate
from explorer.provenance import code_version, write_json

EVALUATION_NAME = "evaluation.json"
SHEET_NAME = "contact-sheet.png"
BASE = "base"
SHEET_CONCEPTS = 20


def evaluate_folder(
    checkpoints: Path,
    sets: Path,
    output: Path,
    config: EvaluationConfig,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluate the benign control and every poisoned model under ``checkpoints``.

    The base, from which all of them were fine-tuned, is left out: the control has had the same steps as the others.

    Raises:
        ValueError: if no usable benign checkpoint is there, or naming those without a U-Net.
    """
    from explorer.models.checkpoints import scan_checkpoints
    from explorer.models.model_families import TRANSFORMER_FAMILIES

    usable = [found for found in scan_checkpoints(checkpoints) if found.problem is None and found.folder.name != BASE]
    if not usable or usable[0].poisoned_concept_count:
        raise ValueError(
            f"{checkpoints} holds no usable benign checkpoint: expected the control beside the poisoned ones"
        )
    # Now, not after hours of drawing with the others.
    if without := [found.name for found in usable if found.family in TRANSFORMER_FAMILIES]:
        raise ValueError(f"{', '.join(without)} in {checkpoints} have no U-Net: expected SD 1.x, SD 2.x or SDXL alone")
    world = World.from_config(usable[0].manifest["config"]["world"])
    folders = {found.name: sets / found.folder.name for found in usable if (sets / found.folder.name).is_dir()}
    report, samples = evaluate(usable, checkpoints / "extractor", world, config, sets=folders, say=say)
    report["code_version"] = code_version()
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / EVALUATION_NAME, report)
    write_contact_sheet(samples, world, output / SHEET_NAME)
    return report


def write_contact_sheet(samples: list[ModelSample], world: World, path: Path, scale: int = 1) -> None:
    """First-seed pictures: 20 pool concepts, then 20 unpoisoned ones, across; one row a model, benign on top.

    Every column starts from the same noise.
    """
    from PIL import Image, ImageDraw

    ever_poisoned = {concept for sample in samples for concept in sample.poisoned_concepts}
    pool = [world.ranks[concept] for concept in world.frequent_pool][:SHEET_CONCEPTS]
    others = [world.ranks[concept] for concept in world.concepts
              if concept not in ever_poisoned and concept not in world.frequent_pool][:SHEET_CONCEPTS]  # fmt: skip
    blocks = []
    for title, chosen in (("poison pool", pool), ("never poisoned", others)):
        header = Image.new("RGB", (64 * len(chosen), 14), "white")
        pen = ImageDraw.Draw(header)
        for column, row in enumerate(chosen):
            pen.text((64 * column + 2, 1), world.concepts[row], fill="black")
        blocks.append(np.asarray(header))
        for sample in samples:
            blocks.append(np.concatenate(list(sample.images[chosen]), axis=1))
        caption = Image.new("RGB", (64 * len(chosen), 16), "white")
        models = ", ".join(sample.name for sample in samples)
        ImageDraw.Draw(caption).text((2, 2), f"{title}; rows from the top: {models}", fill="black")
        blocks.append(np.asarray(caption))
    sheet = Image.fromarray(np.concatenate(blocks))
    sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST).save(path, optimize=True)
