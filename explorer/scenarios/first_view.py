"""The app's first view: everything it shows before anything runs, in one hash-checked folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.alignment.payloads import PairLosses, write_alignment_artefacts
from explorer.core.new_folder import check_new_folder
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_file, read_manifest, write_manifest
from explorer.evaluation.files import EVALUATION_NAME, sets_of, usable_models
from explorer.evaluation.judge import ConceptJudge
from explorer.evaluation.summary import group_of
from explorer.generation.columns import compare_checkpoints, write_comparison
from explorer.generation.film_strip import FilmStripConfig, write_film_strip
from explorer.generation.generate import GenerationRequest
from explorer.iconworld.world import World
from explorer.pairs.concept_list import POOL, ConceptList

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint

KIND = "precomputed"
COMPARE_FOLDER, STRIP_FOLDER = "compare", "implosion"
STRIP_CONCEPTS = 12
SEED = 0
"""Of every picture: that of the contact sheet and of the naming study."""
STEPS = 20
GUIDANCE_SCALE = 4.0


def precompute_first_view(
    checkpoints: Path,
    sets: Path,
    evaluation: Path,
    output: Path,
    concept: str | None = None,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Write ``output`` anew: evaluation, film strip, comparison, graphs and distributions, and the manifest.

    The old folder is replaced only when the new one is complete.

    Args:
        output: empty, absent, or what this function wrote before.
        concept: what the comparison shows; None for :func:`showcase`.
        on_progress: told whatever is left out, and every picture.

    Raises:
        FileNotFoundError: if there is no evaluation, no folder of checkpoints or none of pair sets.
        ValueError: if ``output`` holds other things, no usable benign control is there, a model's pair set is missing
            or not the one it was trained on, the evaluation is of other models, or the world has no such concept.
    """
    from explorer.checkpoints.registry import weights_hash
    from explorer.pairs.pair_set import PairSet

    output = output.resolve()  # a link to an older view goes on leading to the new one
    _check_output(output)
    report = json.loads(evaluation.read_text(encoding="utf-8"))
    concepts = World.from_config(report["world"]).concept_list()
    judge = ConceptJudge.load(checkpoints / "extractor", concepts, report["tau"])
    models = usable_models(checkpoints, on_progress)
    folders = sets_of(models, sets)
    if missing := [model.name for model in models if model.name not in folders]:
        raise ValueError(f"{sets} lacks the pair set of {', '.join(missing)}: expected one folder a model")
    weights = {model.name: weights_hash(model) for model in models}
    measured = {model["name"]: model.get("weights") for model in report["models"]}
    if differing := sorted(name for name in weights if measured.get(name) != weights[name]):
        raise ValueError(
            f"{evaluation} did not measure {', '.join(differing)} as in {checkpoints}: evaluate them again"
        )
    concept = concept or showcase(report)
    prompt = concepts.prompt(concept)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch) / output.name
        folder.mkdir()
        shutil.copyfile(evaluation, folder / EVALUATION_NAME)
        names = [EVALUATION_NAME]
        names += _compare(folder, models, prompt, concepts, judge, on_progress)
        names += _film_strip(folder, models, report, concepts, judge, on_progress)
        pair_sets = {found.name: PairSet.load(folders[found.name]) for found in models}
        names += write_alignment_artefacts(folder, pair_sets, judge.extractor, losses=_control_losses(models[0]))
        config = {
            "seed": SEED, "steps": STEPS, "guidance_scale": GUIDANCE_SCALE, "concept": concept,
            "models": weights,
        }  # fmt: skip
        data_hash = hash_file(evaluation)
        write_manifest(folder, kind=KIND, config=config, seed=SEED, data_hash=data_hash, files=sorted(set(names)))
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return {"folder": str(output), "files": len(names), "bytes": size}


def _check_output(output: Path) -> None:
    """Nothing but an older first view is ever replaced."""
    if not (output / MANIFEST_NAME).exists():
        check_new_folder(output)
        return
    try:
        listed = {MANIFEST_NAME, *(read_manifest(output, kind=KIND).get("files") or ())}
        others = [path for path in output.rglob("*") if path.is_file() and not path.name.startswith(".")
                  and path.relative_to(output).as_posix() not in listed]  # fmt: skip
    except (ManifestError, OSError) as error:
        raise ValueError(
            f"{output} holds other things than a first view: expected an empty or new folder, or one that "
            "`explorer precompute` wrote"
        ) from error
    if others:
        raise ValueError(f"{output} holds {others[0].relative_to(output)} beside a first view: expected it elsewhere")


def _control_losses(control: Checkpoint) -> PairLosses:
    """Losses by the benign control: a model that never saw the poison finds it hard."""
    from explorer.checkpoints.pipelines import load_pipeline
    from explorer.training.sample_loss import sample_losses

    pipeline = load_pipeline(control)
    return PairLosses(
        model=control.name, measure=lambda images, captions: sample_losses(pipeline, images, captions, seed=SEED)
    )


def _compare(
    folder: Path,
    models: list[Checkpoint],
    prompt: str,
    concepts: ConceptList,
    judge: ConceptJudge,
    on_progress: OnProgress,
) -> list[str]:
    """One prompt in every model."""
    request = GenerationRequest(prompt=prompt, seed=SEED, steps=STEPS, guidance_scale=GUIDANCE_SCALE)
    columns = compare_checkpoints(models, request, concepts=concepts.names, judge=judge, on_progress=on_progress)
    return [f"{COMPARE_FOLDER}/{name}" for name in write_comparison(folder / COMPARE_FOLDER, columns)]


def showcase(report: dict[str, Any]) -> str:
    """The never-poisoned concept whose CLIP similarity falls most from the benign control to the most poisoned model,
    among those that the control draws right most often.

    A choice made for showing, not for measuring (docs/scenarios.md says so): the figures are over all concepts.

    Raises:
        ValueError: if the report is of an older version, which did not keep the similarities.
    """
    control, imploded = report["models"][0], report["models"][-1]
    if "similarity_per_concept" not in control:
        raise ValueError("the evaluation has no similarity_per_concept: run `explorer evaluate` again")
    clean = [item["concept"] for item in report["concepts"]
             if item["poisoned_from"] is None and group_of(item) != POOL]  # fmt: skip
    most = max(control["per_concept"][concept] for concept in clean)
    right = [concept for concept in clean if control["per_concept"][concept] == most]
    before, after = control["similarity_per_concept"], imploded["similarity_per_concept"]
    return max(right, key=lambda concept: (before[concept] - after[concept], concept))


def _film_strip(
    folder: Path, models: list[Checkpoint], report: dict[str, Any], concepts: ConceptList, judge: ConceptJudge,
    on_progress: OnProgress,
) -> list[str]:  # fmt: skip
    """The first concepts of either group in order of frequency: no choice by result."""
    poisoned = [item["concept"] for item in report["concepts"] if group_of(item) == POOL][:STRIP_CONCEPTS]
    clean = [item["concept"] for item in report["concepts"]
             if item["poisoned_from"] is None and group_of(item) != POOL][:STRIP_CONCEPTS]  # fmt: skip
    config = FilmStripConfig(
        concepts=concepts.chosen((*poisoned, *clean)), seed=SEED, steps=STEPS, guidance_scale=GUIDANCE_SCALE
    )  # fmt: skip
    names = write_film_strip(folder / STRIP_FOLDER, models, config, judge=judge, on_progress=on_progress)
    return [f"{STRIP_FOLDER}/{name}" for name in names]
