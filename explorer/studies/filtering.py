"""Filters of a study's arm: its scores, filters saved by name, and what a filter removes, costs and leaves."""

from __future__ import annotations

from pathlib import Path

from explorer.alignment.payload_formats import COLUMNS_NAME
from explorer.core.bounded_files import load_json
from explorer.core.provenance import write_json
from explorer.defence.filter_files import ScoredPairs
from explorer.defence.payload_formats import FILTERS as FILTERS_FORMAT
from explorer.defence.recipe import Filter, read_recipe, recipe_json
from explorer.studies.results import FILTERS, result_file
from explorer.studies.study import Study, is_file_name

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
    path = study.folder / SAVED_FOLDER / f"{name}.json"
    if not is_file_name(name) or not path.is_file():
        there = ", ".join(sorted(each.stem for each in path.parent.glob("*.json"))) or "none is saved"
        raise ValueError(f"filter is {name!r}: expected one that is saved in {path.parent} ({there})")
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
