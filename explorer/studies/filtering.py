"""Filters of a study's arm: its scores, filters saved by name, and what a filter removes, costs and leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from explorer.alignment.payload_formats import COLUMNS_NAME
from explorer.core.bounded_files import load_json
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import write_json
from explorer.defence.filter_files import ScoredPairs
from explorer.defence.payload_formats import FILTERS as FILTERS_FORMAT
from explorer.defence.recipe import Filter, read_recipe, recipe_json
from explorer.defence.report import filter_report
from explorer.defence.scores import STRUCTURE
from explorer.pairs.pair_set import PairSet
from explorer.studies.arm_opening import open_arm_pairs
from explorer.studies.extractors import load_extractor
from explorer.studies.inputs import PAIRS, StudyInputs
from explorer.studies.kept_pictures import FEATURES_FOLDER
from explorer.studies.pairs_found import PAIR_SET, pairs_kind
from explorer.studies.recorded import Recorded, named
from explorer.studies.results import FILTERS, result_file, step_command
from explorer.studies.study import Arm, Study, is_file_name

SAVED_FOLDER = "filters"
"""Of a study: recipes by name, as JSON."""


def scored_pairs(study: Study, arm: str) -> ScoredPairs:
    """The training pairs of an arm with every score that they can be filtered by.

    Raises:
        ManifestError: if the step ``filters`` is not done for it; the message names the command that does it.
        ValueError: if the study has no such arm.
    """
    study.arm(arm)
    header = result_file(study, FILTERS, f"{arm}/{FILTERS_FORMAT.name}")
    return ScoredPairs.read(header, result_file(study, FILTERS, f"{arm}/{COLUMNS_NAME}"))


def current_scored_pairs(study: Study, arm: str) -> ScoredPairs:
    """:func:`scored_pairs`, which are refused where the arm's pairs are known to be others than those scored.

    Pairs that are not on this machine are taken for those that were scored, and so are those of another kind than a
    pair set where the step recorded nothing of them.

    Raises:
        ManifestError: as :func:`scored_pairs`, or if the arm's pair set was changed since it was written.
        ValueError: as :func:`scored_pairs`, or if the pairs are others; the message names the command that scores them.
    """
    scored = scored_pairs(study, arm)
    if _are_others(study, study.arm(arm), scored.header["set"]["data_hash"]):
        raise _other_pairs(study, arm)
    return scored


def _are_others(study: Study, arm: Arm, data_hash: str) -> bool:
    if arm.pairs is None:
        return False
    try:
        if pairs_kind(arm.pairs) == PAIR_SET:
            return not PairSet.load(arm.pairs).is_known_as(data_hash)
        recorded = Recorded.read(study, FILTERS).inputs.get(name := named(PAIRS, arm.name))
        return recorded is not None and StudyInputs(study).of_pairs(arm)[name] != recorded
    except FileNotFoundError:
        return False


def _other_pairs(study: Study, arm: str) -> ValueError:
    return ValueError(
        f"the pairs of {arm} are others than those that were scored: run `{step_command(study, FILTERS)}`"
    )


def saved_filters(study: Study) -> dict[str, Filter]:
    """The study's saved filters by name, sorted.

    Raises:
        ValueError: naming a file that is no recipe.
    """
    paths = sorted((study.folder / SAVED_FOLDER).glob("*.json"))
    return {path.stem: read_recipe_file(path) for path in paths}


def save_filter(study: Study, name: str, recipe: Filter) -> Path:
    """Keep a recipe as ``STUDY/filters/NAME.json``; a filter of that name is replaced.

    Raises:
        ValueError: if a file cannot be called so.
    """
    if not is_file_name(name):
        raise ValueError(f"filter is called {name!r}: expected a name that a file can have")
    folder = study.folder / SAVED_FOLDER
    folder.mkdir(exist_ok=True)
    write_json(path := folder / f"{name}.json", recipe_json(recipe))
    return path


def saved_filter(study: Study, name: str) -> Filter:
    """The filter that was saved under ``name``.

    Raises:
        ValueError: if there is none, naming those that there are, or it is no recipe.
    """
    folder = study.folder / SAVED_FOLDER
    if not is_file_name(name) or not (path := folder / f"{name}.json").is_file():
        there = ", ".join(sorted(each.stem for each in folder.glob("*.json"))) or "none"
        raise ValueError(f"filter is {name!r}: expected one that is saved in {folder}: {there}")
    return read_recipe_file(path)


def read_recipe_file(path: Path) -> Filter:
    """From a JSON file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file and what is wrong with it.
    """
    try:
        return read_recipe(load_json(path))
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def remaining_structure(
    study: Study, arm: str, pairs: ScoredPairs, on_progress: OnProgress = unheard
) -> Callable[[np.ndarray], float]:
    """Structure AD of any kept pairs of an arm, exact, from their features, which are opened on the first call.

    The function raises ValueError or OSError, which say what is needed, where the pairs are not on this machine.
    """

    def structure_ad(kept: np.ndarray) -> float:
        import torch

        from explorer.defence.remaining import kept_structure_ad

        inputs = StudyInputs(study)
        inputs.of_pairs(study.arm(arm))
        extractor = load_extractor(study.extractor)
        opened = open_arm_pairs(
            study.arm(arm), extractor, inputs.concept_names, study.folder / FEATURES_FOLDER, on_progress=on_progress
        )  # fmt: skip
        if not opened.is_known_as(pairs.header["set"]["data_hash"]):
            raise _other_pairs(study, arm)
        rows = pairs.columns["row"].astype(np.int64)
        image, text = (features[rows].float() for features in opened.features())
        sums = torch.from_numpy(pairs.scores[STRUCTURE].astype(np.float64)) * len(pairs)
        return kept_structure_ad(image, text, sums, kept, pairs.header["alignment"]["convention"])

    return structure_ad


def report_filter(study: Study, arm: str, recipe: Filter) -> dict[str, Any]:
    """What a recipe does to an arm's training pairs: :func:`~explorer.defence.report.filter_report`.

    Raises:
        ManifestError: if the step ``filters`` is not done for the arm.
        ValueError: if the study has no such arm, or on what the recipe names and the arm does not have.
    """
    pairs = scored_pairs(study, arm)
    return filter_report(pairs, recipe, remaining_structure(study, arm, pairs))
