"""Training runs of a study's recipe beside the study's own: what they give, and whether the recipe had seen its
concepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explorer.evaluation.config import EVALUATION_NAME
from explorer.evaluation.training_runs import summarise_runs
from explorer.studies.results import EVALUATION
from explorer.studies.study import Study


def evaluation_of(folder: Path) -> Path:
    """Where a training run's evaluation lies: in its folder, or among the results of the study that it holds."""
    alone = folder / EVALUATION_NAME
    return alone if alone.is_file() else folder / "results" / EVALUATION / EVALUATION_NAME


def further_runs(study: Study) -> tuple[dict[str, Any] | None, str]:
    """The training runs that a study names (``runs`` in study.toml), and itself, unless its recipe was tuned on its
    concepts: then it is no evidence of what the recipe gives elsewhere.

    Returns:
        What :func:`summarise_runs` says of them; None where the study names none, or fewer than two are there and
        comparable. And in words what is not there or not comparable; empty where all is.
    """
    if not study.runs:
        return None, ""
    places = [folder for folder in study.runs if evaluation_of(folder).is_file()]
    gone = [folder.name for folder in study.runs if folder not in places]
    said = f"no evaluation of the training run{'s' if len(gone) > 1 else ''} {', '.join(gone)} is there" if gone else ""
    own = evaluation_of(study.folder)
    paths = [own, *map(evaluation_of, places)] if own.is_file() and not study.recipe_tuned else \
        [evaluation_of(folder) for folder in places]  # fmt: skip
    if len(paths) < 2:
        return None, said
    try:
        return summarise_runs(paths), said
    except ValueError as error:
        return None, "; ".join(filter(None, (said, f"the training runs cannot be taken together: {error}")))


def told_of_runs(study: Study, runs: dict[str, Any] | None) -> str:
    """In a sentence whether the study's recipe was tuned on its concepts, and what runs give that were not; empty where
    neither is known.

    Args:
        runs: as :func:`further_runs` gives them.
    """
    tuned = "The recipe of these models was revised after what it gives on these very concepts had been seen"
    most = 0 if runs is None else runs["models"][-1]["poisoned_concept_count"]
    rows = [] if runs is None else [row for row in runs["models"] if row["poisoned_concept_count"] == most]
    shares = " and ".join(filter(None, map(_share_in_words, rows)))
    if not shares:
        return f"{tuned}; what it gives where it was not is not known here." if study.recipe_tuned else ""
    count = len(runs["runs"])
    given = f"concepts that are not targeted keep {shares} of the control's accuracy at C_P = {most}"
    if study.recipe_tuned:
        return f"{tuned}: over {count} training runs that no revision has seen, {given}."
    return f"Over {count} training runs of this recipe, {given}."


def _share_in_words(row: dict[str, Any]) -> str:
    """Empty where a run has no such share."""
    if (share := row["accuracy_of_control"]) is None:
        return ""
    reach = "" if share["low"] is None else f" [{share['low']:.2f}, {share['high']:.2f}]"
    return f"{share['mean']:.2f}{reach}" + (f" ({row['name']})" if row["name"] else "")
