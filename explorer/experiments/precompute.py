"""The app's first view: everything it shows before anything runs, in one hash-checked folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.data.grammar import photo_of
from explorer.data.iconworld import World
from explorer.experiments.alignment_artefacts import PairLosses, write_alignment_artefacts
from explorer.experiments.artefacts import compare_checkpoints, write_comparison
from explorer.experiments.concept_judge import ConceptJudge
from explorer.experiments.evaluation_files import BASE, EVALUATION_NAME
from explorer.experiments.film_strip import FilmStripConfig, write_film_strip
from explorer.experiments.generation import GenerationRequest
from explorer.provenance import hash_file, write_manifest

if TYPE_CHECKING:
    from explorer.models.checkpoints import Checkpoint

KIND = "precomputed"
COMPARE_FOLDER, STRIP_FOLDER = "compare", "implosion"
STRIP_CONCEPTS = 12
SEED = 7
STEPS = 20
GUIDANCE_SCALE = 4.0


def precompute_first_view(
    checkpoints: Path,
    sets: Path,
    evaluation: Path,
    output: Path,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write ``output`` anew: evaluation, film strip, comparison, graphs and distributions, and the manifest.

    The old folder is replaced only when the new one is complete.

    Raises:
        FileNotFoundError: if there is no evaluation.
        ValueError: if no usable checkpoint or no pair set is there.
    """
    from explorer.data.pair_set import PairSet
    from explorer.models.checkpoints import scan_checkpoints

    report = json.loads(evaluation.read_text(encoding="utf-8"))
    world = World.from_config(report["world"])
    judge = ConceptJudge.load(checkpoints / "extractor", world.concepts, report["tau"])
    models = [found for found in scan_checkpoints(checkpoints) if found.problem is None and found.folder.name != BASE]
    if not models:
        raise ValueError(f"{checkpoints} holds no usable checkpoint")
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch) / output.name
        folder.mkdir()
        shutil.copyfile(evaluation, folder / EVALUATION_NAME)
        names = [EVALUATION_NAME]
        names += _compare(folder, models, report, world, judge)
        names += _film_strip(folder, models, report, judge, say)
        pair_sets = {found.name: PairSet.load(sets / found.folder.name) for found in models}
        names += write_alignment_artefacts(folder, pair_sets, judge.extractor, losses=_control_losses(models))
        config = {"seed": SEED, "steps": STEPS, "guidance_scale": GUIDANCE_SCALE, "models": [m.name for m in models]}
        data_hash = hash_file(evaluation)
        write_manifest(folder, kind=KIND, config=config, seed=SEED, data_hash=data_hash, files=sorted(set(names)))
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return {"folder": str(output), "files": len(names), "bytes": size}


def _control_losses(models: list[Checkpoint]) -> PairLosses:
    """Losses by the benign control: a model that never saw the poison finds it hard."""
    from explorer.experiments.sample_loss import sample_losses
    from explorer.models.pipelines import load_pipeline

    control = models[0]
    if control.poisoned_concept_count:
        raise ValueError(f"the least poisoned model is {control.name}: expected a benign control")
    pipeline = load_pipeline(control)
    return PairLosses(
        model=control.name, measure=lambda images, captions: sample_losses(pipeline, images, captions, seed=SEED)
    )


def _compare(
    folder: Path,
    models: list[Checkpoint],
    report: dict[str, Any],
    world: World,
    judge: ConceptJudge,
) -> list[str]:
    """One prompt about a concept that nobody poisoned, in every model."""
    request = GenerationRequest(
        prompt=photo_of(showcase(report)),
        seed=SEED,
        steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
    )
    columns = compare_checkpoints(models, request, concepts=world.concepts, judge=judge)
    return [f"{COMPARE_FOLDER}/{name}" for name in write_comparison(folder / COMPARE_FOLDER, columns)]


def showcase(report: dict[str, Any]) -> str:
    """The never-poisoned concept whose accuracy falls most from the benign control to the most poisoned model, and of
    several the one with the least accuracy over all models: it falls step by step.

    A choice made for showing, not for measuring (README says so): the figures are over all concepts.
    """
    benign, imploded = report["models"][0]["per_concept"], report["models"][-1]["per_concept"]
    clean = [item["concept"] for item in report["concepts"]
             if item["poisoned_from"] is None and item["group"] != "frequent pool"]  # fmt: skip
    over_all = {concept: sum(model["per_concept"][concept] for model in report["models"]) for concept in clean}
    return min(clean, key=lambda concept: (imploded[concept] - benign[concept], over_all[concept], concept))


def _film_strip(
    folder: Path,
    models: list[Checkpoint],
    report: dict[str, Any],
    judge: ConceptJudge,
    say: Callable[[str], None],
) -> list[str]:
    """The first concepts of either group in order of frequency: no choice by result."""
    poisoned = [item["concept"] for item in report["concepts"] if item["group"] == "frequent pool"][:STRIP_CONCEPTS]
    clean = [item["concept"] for item in report["concepts"]
             if item["poisoned_from"] is None and item["group"] != "frequent pool"][:STRIP_CONCEPTS]  # fmt: skip
    config = FilmStripConfig(
        concepts=(*poisoned, *clean), seed=SEED, steps=STEPS, guidance_scale=GUIDANCE_SCALE
    )  # fmt: skip
    names = write_film_strip(folder / STRIP_FOLDER, models, config, judge=judge, say=say)
    return [f"{STRIP_FOLDER}/{name}" for name in names]
