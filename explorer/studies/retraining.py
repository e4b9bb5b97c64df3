"""Models that were trained again: on what a filter leaves of an arm's pairs, or from an arm's model on benign ones.

They lie in ``STUDY/retrained``: ``models/ARM/NAME`` is a checkpoint, ``models/ARM/NAME.json`` beside it says what it
stands for and is written last. The step ``retrained`` draws and measures what it finds there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.checkpoints.module_identity import module_identity
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import Checkpoint, read_checkpoint, scan_checkpoints
from explorer.core.bounded_files import load_json
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_file, write_json
from explorer.defence.training_sets import LeftOut, left_out_json, left_out_of
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.detection import open_source
from explorer.studies.arms import arm_checkpoint
from explorer.studies.filtering import current_scored_pairs
from explorer.studies.pairs_found import PAIR_SET, STORE, pairs_kind
from explorer.studies.study import Arm, Study, is_file_name

if TYPE_CHECKING:
    from explorer.pairs.sources.base import PairSource
    from explorer.training.recipes import FineTuningRecipe

FOLDER = "retrained"
FILTER, RECOVERY = "filter", "recovery"
RECORDED = frozenset(("kind", "seconds", "steps", "kept", "manifest"))
"""What the record of every model has."""
RECORDED_OF = {
    FILTER: frozenset(("recipe", "removed", "poison_removed", "benign_lost")),
    RECOVERY: frozenset(("share",)),
}
"""What it has beside that, by its kind."""


@dataclass(frozen=True, kw_only=True)
class RetrainedModel:
    """A checkpoint with what it stands for."""

    arm: str
    name: str
    """Unique among the arm's."""
    folder: Path
    """Of the checkpoint."""
    record: dict[str, Any]
    """``kind``, ``seconds`` and ``steps`` of training, ``kept`` pairs that it was trained on; of a filter ``recipe``,
    ``removed``, ``poison_removed`` and ``benign_lost`` (None where nobody recorded it); of a recovery ``share``, of
    the arm's number of pairs."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Under the model's own name."""
        return replace(read_checkpoint(self.folder), name=self.name)


def retrained_models(study: Study) -> dict[str, tuple[RetrainedModel, ...]]:
    """Arm to its retrained models by name; arms without any are absent.

    Raises:
        ManifestError: if a record is none or cut off, or a checkpoint is not the one that its record is of.
    """
    found = {}
    for arm in study.arms:
        paths = sorted(_place(study, "models", arm.name).glob("*.json"))
        models = tuple(_read_model(arm.name, path) for path in paths)
        found |= {arm.name: models} if models else {}
    return found


def retrain(
    study: Study, arm: str, name: str, rule: LeftOut, recipe: FineTuningRecipe, *, base: Path | None = None,
    device: str = "cpu", on_progress: OnProgress = unheard,
) -> RetrainedModel | None:  # fmt: skip
    """Fine-tune the arm's base on the training pairs that ``rule`` does not leave out; the same call again resumes.

    Args:
        name: of the model, unique among the arm's.
        base: checkpoint to start from; None for the one that the arm's own was fine-tuned from, found by its record.

    Returns:
        The model; None where this process did not finish it.

    Raises:
        ManifestError: if the step ``filters`` is not done for the arm.
        ValueError: if the arm's pairs are others than those that were scored, the base is not found, the pairs cannot
            be trained on, or as :func:`~explorer.training.fine_tune.fine_tune`.
    """
    scored, pairs = current_scored_pairs(study, arm), _pairs_to_train_on(study.arm(arm))
    removed = left_out_of(scored, rule)
    uids = [uid for uid, left in zip(scored.uids, removed.tolist(), strict=True) if left]
    flags = scored.flags
    unrecorded = int((removed & flags.unrecorded).sum())
    facts = {
        "kind": FILTER, "recipe": left_out_json(rule), "removed": len(uids), "kept": len(scored) - len(uids),
        "poison_removed": None if unrecorded else int((removed & flags.poisoned).sum()),
        "benign_lost": None if unrecorded else int((removed & flags.benign).sum()),
    }  # fmt: skip
    start = base or recorded_start(arm_checkpoint(study.arm(arm)))
    on_progress(note(f"{name}: from {start}, without {len(uids)} of {len(scored)} pairs"))
    return _train(study, arm, name, facts, start, pairs, recipe, uids, device, on_progress)


def recover(
    study: Study, arm: str, pairs: PairSet, size: int, recipe: FineTuningRecipe, *, name: str = RECOVERY,
    device: str = "cpu", on_progress: OnProgress = unheard,
) -> RetrainedModel | None:  # fmt: skip
    """Fine-tune the arm's own model on the first ``size`` benign training pairs of a set (Ding et al. 2024, Table 6).

    Args:
        recipe: its steps count for as many pairs as the arm was trained on; here they are in proportion to ``size``,
            so that every pair is seen as often.
        name: what the model is called before its size.

    Returns:
        As :func:`retrain`.

    Raises:
        ValueError: if the set has fewer training pairs or one of these is recorded to be poison, or as
            :func:`retrain`.
    """
    rows = pairs.training_rows
    if not 1 <= size <= len(rows):
        raise ValueError(f"{size} pairs to recover with: expected from 1 to {len(rows)}, the training pairs there are")
    if poisoned := int(pairs.flags.poisoned[rows[:size]].sum()):
        raise ValueError(f"{poisoned} of the first {size} pairs of {pairs.folder} are poison: expected benign ones")
    if unrecorded := int(pairs.flags.unrecorded[rows[:size]].sum()):
        on_progress(note(f"of {unrecorded} pairs nobody recorded whether they are benign; they are taken for it"))
    of_arm = len(current_scored_pairs(study, arm))
    steps = max(1, round(recipe.training.steps * size / of_arm))
    recipe = replace(recipe, training=replace(recipe.training, steps=steps))
    uids = pairs.table["uid"].to_numpy()[rows[size:]].tolist()
    facts = {"kind": RECOVERY, "kept": size, "share": size / of_arm, "unrecorded": unrecorded}
    start = study.arm(arm).checkpoint
    return _train(study, arm, f"{name}-{size}", facts, start, pairs, recipe, uids, device, on_progress)


def recorded_start(checkpoint: Checkpoint) -> Path:
    """The checkpoint that ``checkpoint`` was fine-tuned from: one beside it, or its base, whose weights it records.

    Raises:
        ValueError: if it records none, or it is not there.
    """
    if (start := checkpoint.config.get("start")) is None:
        raise ValueError(f"{checkpoint.name} does not record what it was fine-tuned from: expected a base by name")
    beside = [each for each in scan_checkpoints(checkpoint.folder.parent) if each.problem is None]
    weights = (start, checkpoint.config.get("start_weights"))  # IconWorld's recipes call these its start
    if known := [each.folder for each in beside if each.hash in weights]:
        return known[0]
    if (base := checkpoint.base) is not None and module_identity(load_pipeline(read_checkpoint(base)).unet) == start:
        return base
    raise ValueError(
        f"{checkpoint.name} was fine-tuned from weights {start[:12]}…, and no checkpoint beside it has them: expected "
        "a base by name"
    )


def _pairs_to_train_on(arm: Arm) -> PairSet | PairSource:
    if arm.pairs is None:
        raise ValueError(f"arm {arm.name} has no pairs: expected some in study.toml")
    kind = pairs_kind(arm.pairs)
    if kind == STORE:
        raise ValueError(f"the pairs of {arm.name} are an embedding store, without pictures to train on: expected a "
                         "pair set or a source")  # fmt: skip
    return PairSet.load(arm.pairs) if kind == PAIR_SET else open_source(arm.pairs, **vars(arm.reading))


def _train(
    study: Study, arm: str, name: str, facts: dict[str, Any], base: Path, pairs: PairSet | PairSource,
    recipe: FineTuningRecipe, left_out: list[str], device: str, on_progress: OnProgress,
) -> RetrainedModel | None:  # fmt: skip
    from explorer.training.fine_tune import fine_tune

    if not is_file_name(name):
        raise ValueError(f"model is called {name!r}: expected a name that a folder can have")
    output, run = _place(study, "models", arm) / name, _place(study, "training", arm) / name
    manifest = fine_tune(
        base, pairs, recipe, output, run=run, cache=study.folder / FOLDER / "encoded", left_out=left_out,
        device=device, on_progress=on_progress,
    )  # fmt: skip
    if manifest is None:
        return None
    record = facts | {"seconds": _seconds(run), "steps": recipe.training.steps, "training_recipe": recipe.name,
                      "data_hash": manifest["data_hash"], "manifest": hash_file(output / MANIFEST_NAME)}  # fmt: skip
    path = output.with_name(f"{name}.json")
    write_json(path, record)
    return _read_model(arm, path)


def _seconds(run: Path) -> float:
    """What the logged steps took, in all."""
    from explorer.training.trainer import METRICS_NAME

    lines = [json.loads(line) for line in (run / METRICS_NAME).read_text(encoding="utf-8").splitlines()]
    steps = np.diff([0, *(line["step"] for line in lines)])
    return round(float(steps @ [line["seconds_per_step"] for line in lines]), 1)


def _read_model(arm: str, path: Path) -> RetrainedModel:
    folder, wanted = path.with_suffix(""), "expected the record of a retrained model; remove it"
    try:
        record = load_json(path)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read ({error}): {wanted}") from error
    known = isinstance(record, dict) and record.get("kind") in (FILTER, RECOVERY)
    needed = RECORDED | RECORDED_OF[record["kind"]] if known else RECORDED
    if not known or not needed <= record.keys():
        raise ManifestError(f"{path} is no object with {', '.join(sorted(needed))}: {wanted}")
    if not (folder / MANIFEST_NAME).is_file() or hash_file(folder / MANIFEST_NAME) != record["manifest"]:
        raise ManifestError(f"{folder} is not the model that {path} was written for: remove one of them")
    return RetrainedModel(arm=arm, name=path.stem, folder=folder, record=record)


def _place(study: Study, part: str, arm: str) -> Path:
    return study.folder / FOLDER / part / arm
