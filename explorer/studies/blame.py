"""The training pairs of an arm that are blamed for a concept that its model no longer draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.checkpoints.joint_pipelines import latent_shape
from explorer.checkpoints.module_identity import module_identity
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.core.intervals import area_under_curve
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import write_json
from explorer.defence.pair_sample import even_sample
from explorer.defence.payload_formats import BLAME
from explorer.defence.recipe import HIGHEST, order_of_suspicion
from explorer.generation.generate import GenerationRequest
from explorer.studies.arm_opening import open_arm_pairs
from explorer.studies.arms import arm_checkpoint
from explorer.studies.extractors import load_extractor
from explorer.studies.kept_pictures import FEATURES_FOLDER
from explorer.studies.retraining import recorded_start
from explorer.studies.study import Study, is_file_name
from explorer.training.sample_loss import encoded_pictures

if TYPE_CHECKING:
    import pandas
    from diffusers import DiffusionPipeline

    from explorer.studies.arm_pairs import ArmPairs

FOLDER = "blame"
"""Of a study: what was stored, by arm and concept."""
PICTURES_AT_ONCE = 256
"""Pairs whose pictures are in memory together."""
SEED = 0
UNPROVEN = "no model was trained again without these pairs: which score predicts harm, and which does not, is not known"


@dataclass(frozen=True, kw_only=True)
class Blamed:
    """Scores of an arm's training pairs, one row for each concept asked about."""

    opened: ArmPairs
    rows: np.ndarray
    """Of the N training pairs among all that the arm has."""
    chosen: np.ndarray
    """Which of the N have gradients."""
    models: tuple[Checkpoint, Checkpoint]
    """Where these were taken: what the arm's model was fine-tuned from, and that model."""
    mentions: np.ndarray
    """bool `[concepts, N]`: whose captions mention the concept."""
    scores: dict[str, np.ndarray]
    """Name to fp64 `[concepts, N]`; NaN where it was not measured."""


def blame_scores(
    study: Study, arm: str, concepts: Sequence[str], *, pairs: int = 0, left_out: int = 0, base: Path | None = None,
    device: str = "cpu", on_progress: OnProgress = unheard,
) -> Blamed:  # fmt: skip
    """All scores for several concepts; a pair's gradients are taken once.

    The right pictures of the gradient score are what the control draws of a concept with the study's seeds; its
    gradients are taken at the base and at the arm's own model, and added.

    Args:
        pairs: of how many training pairs the gradient is taken, drawn without a look at the flags; 0 for all.
        left_out: how many of those that have gradients a model will be trained without.
        base: what the arm's model was fine-tuned from; None for what its checkpoint records.

    Raises:
        ValueError: if the study has no such arm or concept, no control, its pairs or models cannot be read, or
            ``left_out`` leaves none of the pairs.
    """
    import torch

    from explorer.defence.blame import CO_MENTION, GRADIENT, NEIGHBOURHOOD, co_mention_blame, neighbourhood_blame

    known, control = study.concept_list(), study.control
    prompts = [known.prompt(each) for each in concepts]
    if control is None:
        raise ValueError("no arm is the control, whose pictures are the right ones: expected one in study.toml")
    own = arm_checkpoint(study.arm(arm))
    start = read_checkpoint(base or recorded_start(own))
    extractor = load_extractor(study.extractor, device)
    opened = open_arm_pairs(
        study.arm(arm), extractor, known.names, study.folder / FEATURES_FOLDER, on_progress=on_progress
    )
    rows = opened.training_rows
    table = opened.table.iloc[rows]
    chosen = even_sample(table, pairs, SEED) if pairs else np.arange(len(rows))
    check_left_out(left_out, len(chosen), f"candidates, drawn from the {len(rows)} training pairs of {arm},")
    image, text = (features[rows].float() for features in opened.features())
    asked = extractor.encode_texts(prompts).float().cpu()
    mentions = _mentions(table, concepts)
    gradient = np.full((len(prompts), len(rows)), np.nan)
    with torch.no_grad():
        gradient[:, chosen] = _gradient_scores(
            study, opened, rows[chosen], prompts, (arm_checkpoint(control), start, own), device, on_progress
        )
    scores = {
        CO_MENTION: np.stack([co_mention_blame(image, *each) for each in zip(asked, mentions, strict=True)]),
        NEIGHBOURHOOD: np.stack([neighbourhood_blame(image, text, each) for each in asked]),
        GRADIENT: gradient,
    }
    return Blamed(opened=opened, rows=rows, chosen=chosen, models=(start, own), mentions=mentions, scores=scores)


def check_left_out(left_out: int, candidates: int, of: str = "candidates") -> None:
    """Refuse to leave out all candidates; ``of`` says what these are.

    Raises:
        ValueError: naming both numbers.
    """
    if left_out >= candidates:
        raise ValueError(f"{left_out} of {candidates} {of} are to be left out: expected fewer than there are")


def _mentions(table: pandas.DataFrame, concepts: Sequence[str]) -> np.ndarray:
    """bool ``[concepts, N]``: whose captions mention each, in one pass over what every caption mentions."""
    place = {name: at for at, name in enumerate(dict.fromkeys(concepts))}
    found = np.zeros((len(place), len(table)), bool)
    for row, mentioned in enumerate(table["concepts"]):
        found[[place[name] for name in mentioned if name in place], row] = True
    return found[[place[name] for name in concepts]]


def described(study: Study, arm: str, concept: str, blamed: Blamed, at: int, shown: int) -> dict[str, Any]:
    """What is told of one concept.

    Args:
        at: its row in ``blamed``.
        shown: pairs that are listed of each score.

    Returns:
        ``scores``: for each ``name``, ``words``, ``measured`` pairs, ``poison_auc`` (None where it is not recorded) and
        ``pairs``, each with ``row``, ``uid``, ``caption``, ``is_poison`` and ``score``; and what they were made from.
    """
    flags, rows = blamed.opened.flags, blamed.rows
    told = (blamed.opened.table.iloc[rows], rows, flags.poisoned[rows], flags.benign[rows], shown)
    return {
        "arm": arm, "concept": concept, "prompt": study.concept_list().prompt(concept),
        "mentioned_in": int(blamed.mentions[at].sum()), "models": [each.name for each in blamed.models],
        "data_hash": blamed.opened.data_hash, "weights": [each.hash for each in blamed.models],
        "unproven": UNPROVEN, "seed": SEED,
        "scores": [_described(name, values[at], *told) for name, values in blamed.scores.items()],
    }  # fmt: skip


def blame_file(study: Study, arm: str, concept: str) -> Path:
    """Where :func:`store_blame` keeps a concept's.

    Raises:
        ValueError: if the study has no such arm, or a file cannot be called as the concept.
    """
    study.arm(arm)
    if not is_file_name(concept):
        raise ValueError(f"concept is {concept!r}: expected a name that a file can have")
    return study.folder / FOLDER / arm / f"{concept}.json"


def blame_files(study: Study, arm: str, concepts: Sequence[str]) -> list[Path]:
    """:func:`blame_file` of each, for who asks before the work is done.

    Raises:
        ValueError: as :func:`blame_file`.
    """
    return [blame_file(study, arm, concept) for concept in concepts]


def stored_concepts(study: Study) -> dict[str, list[str]]:
    """Of every arm that has any, the concepts whose blame is stored."""
    found = {arm.name: sorted(path.stem for path in (study.folder / FOLDER / arm.name).glob("*.json"))
             for arm in study.arms}  # fmt: skip
    return {name: concepts for name, concepts in found.items() if concepts}


def store_blame(study: Study, arm: str, concepts: Sequence[str], blamed: Blamed, shown: int) -> list[Path]:
    """Keep :func:`described` of every concept as ``STUDY/blame/ARM/CONCEPT.json``, for the screens.

    Args:
        concepts: as ``blamed`` was asked for.

    Raises:
        ValueError: if a file cannot be called as one of them; none is written then.
    """
    paths = blame_files(study, arm, concepts)
    (study.folder / FOLDER / arm).mkdir(parents=True, exist_ok=True)
    for at, (path, concept) in enumerate(zip(paths, concepts, strict=True)):
        write_json(path, BLAME.written(**described(study, arm, concept, blamed, at, shown)))
    return paths


def _described(
    name: str, values: np.ndarray, table: Any, rows: np.ndarray, poisoned: np.ndarray, benign: np.ndarray, shown: int
) -> dict[str, Any]:
    from explorer.defence.blame import WORDS

    measured = ~np.isnan(values)
    known = [values[measured & each] for each in (poisoned, benign)]
    said = np.select([poisoned, benign], [1, 0], -1)
    listed = [
        {"row": int(rows[at]), "uid": str(table["uid"].iloc[at]), "caption": str(table["caption"].iloc[at]),
         "is_poison": None if said[at] < 0 else bool(said[at]), "score": float(values[at])}
        for at in order_of_suspicion(values, HIGHEST)[:shown]
    ]  # fmt: skip
    return {
        "name": name, "words": WORDS[name], "measured": int(measured.sum()),
        "poison_auc": area_under_curve(*known) if all(len(each) for each in known) else None, "pairs": listed,
    }  # fmt: skip


def _gradient_scores(
    study: Study, opened: Any, rows: np.ndarray, prompts: list[str], models: tuple[Checkpoint, Checkpoint, Checkpoint],
    device: str, on_progress: OnProgress,
) -> np.ndarray:  # fmt: skip
    """fp64 ``[prompts, rows]``, added over the last two of ``models``; the first draws the right pictures."""
    from explorer.defence.blame import gradient_blame
    from explorer.training.text_gradients import text_gradients

    control, *measured = models
    pipeline = load_pipeline(control, device)
    right = np.concatenate([_drawn(study, pipeline, prompt, control.name) for prompt in prompts])
    asked = [prompt for prompt in prompts for _ in study.seeds]
    size = latent_shape(pipeline, study.size, study.size)[1] * pipeline.vae_scale_factor
    captions = opened.table["caption"].iloc[rows].tolist()
    total = np.zeros((len(prompts), len(rows)))
    encoded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for model in measured:
        on_progress(note(f"{model.name}: gradients of {len(rows)} pairs"))
        pipeline = load_pipeline(model, device)
        told = {"seed": SEED, "on_progress": on_progress, "task": f"gradients by {model.name}"}
        if (autoencoder := module_identity(pipeline.vae)) not in encoded:  # models mostly share theirs
            encoded = {autoencoder: (_latents(pipeline, opened, rows, size), encoded_pictures(pipeline, right))}
        of_pairs, of_right = (
            text_gradients(pipeline, latents, texts, **told)
            for latents, texts in zip(encoded[autoencoder], (captions, asked), strict=True)
        )
        each = np.split(of_right, len(prompts))
        total += np.stack([gradient_blame(of_pairs, right_ones) for right_ones in each])
    return total


def _latents(pipeline: DiffusionPipeline, opened: ArmPairs, rows: np.ndarray, size: int) -> np.ndarray:
    """Of the pictures at ``rows``, brought to ``size`` pixels a side, as :func:`encoded_pictures`."""
    return np.concatenate([
        encoded_pictures(pipeline, opened.read_images(rows[first : first + PICTURES_AT_ONCE], size))
        for first in range(0, len(rows), PICTURES_AT_ONCE)
    ])  # fmt: skip


def _drawn(study: Study, pipeline: DiffusionPipeline, prompt: str, model: str) -> np.ndarray:
    """uint8 ``[seeds, H, W, 3]``."""
    from explorer.generation.batch import generate_pictures

    asked = [
        GenerationRequest(prompt=prompt, seed=seed, steps=study.steps, guidance_scale=study.guidance_scale,
                          height=study.size, width=study.size)
        for seed in study.seeds
    ]  # fmt: skip
    return np.concatenate([generate_pictures(pipeline, each, [prompt], model) for each in asked])
