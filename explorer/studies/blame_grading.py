"""Blame graded by training again: without the pairs that a score blames, do the broken concepts come back?

Every model is trained on the same candidates, a sample of the arm's pairs, without as many of them: those that one
score blames most for any of the broken concepts, or a random draw. ``STUDY/blame/ARM/lists`` holds the pairs that each
leaves out as recipes of a filter, which ``study retrain --recipe`` takes; the step ``retrained`` measures the models.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.bounded_files import parse_json
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import read_manifest, write_json, write_manifest
from explorer.defence.outcomes import differences, shares
from explorer.defence.payload_formats import GRADED_BLAME
from explorer.evaluation.config import EVALUATION_NAME
from explorer.studies.blame import FOLDER, Blamed, blame_files, blame_scores, check_left_out, store_blame
from explorer.studies.inputs import StudyInputs
from explorer.studies.results import EVALUATION, RETRAINED, result_file
from explorer.studies.retrained_results import retrained_results
from explorer.studies.steps.drawing import concepts_spared
from explorer.studies.study import Study

LISTS = "lists"
KIND = "blame-lists"
RANDOM = "random"
SEED = 0
BROKEN, OTHERS = "broken", "others"
PREDICTS, OPPOSITE, UNTOLD, UNTRAINED = (
    "without the pairs it blames the broken concepts come back more than after a random draw: it predicts harm",
    "without the pairs it blames the broken concepts come back less than after a random draw: it blames what helps",
    "not told apart from a random draw",
    "no model was trained again without the pairs it blames: whether it predicts harm is not known",
)


def model_name(score: str) -> str:
    """Of the model that is trained without the pairs a score blames, and of the recipe's file."""
    return f"{FOLDER}-{score}"


def broken_concepts(study: Study, arm: str, count: int) -> list[str]:
    """The ``count`` concepts that no poison aims at of whose pictures the arm draws least right, less the control's.

    Raises:
        ManifestError: if the study is not evaluated.
        ValueError: if there is no control, it is not known of every arm which concepts its poison aims at, or fewer
            than ``count`` concepts are drawn less well than by the control.
    """
    if study.control is None:
        raise ValueError("no arm is the control, which broken concepts are found by: expected one in study.toml")
    study_arm, spared = study.arm(arm), concepts_spared(StudyInputs(study))
    models = parse_json(result_file(study, EVALUATION, EVALUATION_NAME).read_bytes())["models"]
    right = {each["name"]: each["per_concept"] for each in models}
    lost = {name: right[study.control.name][name] - right[study_arm.name][name]
            for name in spared}  # fmt: skip
    broken = sorted((name for name in lost if lost[name] > 0), key=lambda name: -lost[name])
    if not 1 <= count <= len(broken):
        raise ValueError(f"{count} broken concepts: expected from 1 to {len(broken)}, which {arm} draws less well")
    return broken[:count]


def write_lists(
    study: Study, arm: str, *, concepts: int, pairs: int, left_out: int, shown: int, base: Path | None = None,
    device: str = "cpu", on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Blame for the most broken concepts, each stored, and for every score the list of pairs to train without.

    Args:
        concepts: how many are asked about, see :func:`broken_concepts`.
        pairs: candidates, drawn from the arm's training pairs without a look at the flags; 0 for all of them.
        left_out: how many of the candidates each model is trained without.
        shown: pairs that are stored of each score and concept.
        base: as in :func:`~explorer.studies.blame.blame_scores`.

    Returns:
        ``concepts``, ``candidates``, ``left_out`` and ``lists``: for each score and the random draw ``name``,
        ``recipe`` (its file), ``poison`` (None where it is not recorded) and ``mentioning``, how many of the pairs
        mention one of the concepts.

    Raises:
        ManifestError: if the study is not evaluated.
        ValueError: as :func:`broken_concepts`, :func:`~explorer.studies.blame.blame_file` and
            :func:`~explorer.studies.blame.blame_scores`.
    """
    from explorer.defence.blame import most_blamed_of_any

    names = broken_concepts(study, arm, concepts)
    blame_files(study, arm, names)
    if pairs:
        check_left_out(left_out, pairs)
    found = blame_scores(
        study, arm, names, pairs=pairs, left_out=left_out, base=base, device=device, on_progress=on_progress
    )
    store_blame(study, arm, names, found, shown)
    chosen = found.chosen
    lists = {name: most_blamed_of_any(each[:, chosen], left_out, SEED) for name, each in found.scores.items()}
    lists[RANDOM] = np.sort(np.random.default_rng(SEED).permutation(len(chosen))[:left_out])
    place = study.folder / FOLDER / arm / LISTS
    scratch = place.with_name(f".{LISTS}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    told = [_write_list(scratch, name, found, chosen[places]) for name, places in lists.items()]
    config = {"arm": arm, "concepts": names, "candidates": len(chosen), "left_out": left_out, "lists": told,
              "models": {each.name: each.hash for each in found.models}}  # fmt: skip
    files = [each["recipe"] for each in told]
    write_manifest(scratch, kind=KIND, config=config, seed=SEED, data_hash=found.opened.data_hash, files=files)
    shutil.rmtree(place, ignore_errors=True)
    scratch.rename(place)
    return config | {"folder": str(place)}


def _write_list(folder: Path, name: str, found: Blamed, removed: np.ndarray) -> dict[str, Any]:
    """``removed``: of the N training pairs."""
    left = np.ones(len(found.rows), bool)
    left[found.chosen] = False
    left[removed] = True
    uids = found.opened.table["uid"].iloc[found.rows[left]].tolist()
    write_json(folder / (recipe := f"{model_name(name)}.json"), {"uids": [str(each) for each in uids]})
    flags = found.opened.flags[found.rows[removed]]
    return {
        "name": name, "recipe": recipe, "poison": int(flags.poisoned.sum()) if flags.recorded else None,
        "mentioning": int(found.mentions[:, removed].any(axis=0).sum()),
    }  # fmt: skip


def graded_blame_file(study: Study, arm: str) -> Path:
    """Where :func:`grade_blame` keeps its answer, for the screens; new lists take it away."""
    return study.folder / FOLDER / arm / LISTS / GRADED_BLAME.name


def grade_blame(study: Study, arm: str) -> dict[str, Any]:
    """What the models draw that were trained without the lists' pairs, beside the one without a random draw; stored.

    Returns:
        What :func:`write_lists` does, each list with ``words`` (what follows of its score), ``top1``, ``less_random``:
        of the concepts asked about (``broken``) and of all others that were drawn (``others``), the mean with its
        95 % t-interval over concepts; None where the model is not trained and measured.

    Raises:
        ManifestError: if the lists or the step ``retrained`` are not there.
        ValueError: if not all of the concepts were drawn, or if a model that was graded before is measured no more.
    """
    config = read_manifest(study.folder / FOLDER / arm / LISTS, kind=KIND)["config"]
    results = retrained_results(study)
    drawn = results["drawn"]
    if missing := [name for name in config["concepts"] if name not in drawn]:
        raise ValueError(
            f"{', '.join(missing)} were not drawn by the models: expected all concepts that were blamed for"
        )
    asked = np.array([name in config["concepts"] for name in drawn])
    groups = {BROKEN: asked, OTHERS: ~asked}
    models = results["arms"].get(arm, {"models": []})["models"]
    values = {each["name"]: np.array(each["per_concept"]) for each in models}
    random = values.get(model_name(RANDOM))
    lists = []
    for each in config["lists"]:
        own = values.get(model_name(each["name"]))
        compared = own is not None and random is not None and each["name"] != RANDOM
        less = differences(own, random, groups) if compared else None
        lists.append(each | {"words": None if each["name"] == RANDOM else _words(less), "less_random": less,
                             "top1": None if own is None else shares(own, groups)})  # fmt: skip
    graded = GRADED_BLAME.written(**config | {"lists": lists, "interval": results["interval"]})
    path = graded_blame_file(study, arm)
    _check_nothing_is_lost(path, {each["name"] for each in lists if each["top1"] is None})
    write_json(path, graded)
    return graded


def _check_nothing_is_lost(path: Path, untrained: set[str]) -> None:
    """Models may be gone whose grades are still there."""
    before = parse_json(path.read_bytes())["lists"] if path.is_file() else []
    if gone := [model_name(each["name"]) for each in before if each["top1"] and each["name"] in untrained]:
        raise ValueError(
            f"{', '.join(gone)} were graded and are not among what the step {RETRAINED} measured: to grade without "
            f"them, delete {path}"
        )


def _words(less: dict[str, Any] | None) -> str:
    if less is None:
        return UNTRAINED
    if less[BROKEN]["low"] is None:
        return UNTOLD
    return PREDICTS if less[BROKEN]["low"] > 0 else OPPOSITE if less[BROKEN]["high"] < 0 else UNTOLD
