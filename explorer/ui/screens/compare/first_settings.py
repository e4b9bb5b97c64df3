"""What the page of a study asks for before anybody chooses, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from explorer.ui.screens.compare.payload import concept_counts, first_shown, precomputed_comparison
from explorer.ui.shell import messages
from explorer.ui.shell.concepts import read_concepts
from explorer.ui.shell.permalink import MAX_STEPS, CompareSettings

if TYPE_CHECKING:
    from explorer.ui.shell.open_study import OpenStudy


def default_settings(opened: OpenStudy) -> CompareSettings:
    """Settings of a study's page without a permalink: those of its comparison where there is one."""
    names = opened.checkpoint_names()
    models = first_shown(concept_counts(opened))
    concepts, study = read_concepts(opened), opened.study
    named = "turtle" if "turtle" in concepts.names else next(iter(concepts.names), None)
    defaults = CompareSettings(models=models)
    if not opened.scanned:
        defaults = replace(defaults, steps=min(study.steps, MAX_STEPS), guidance_scale=study.guidance_scale)
    if named is not None:
        defaults = replace(defaults, prompt=concepts.prompt(named))
    try:
        columns = precomputed_comparison(opened)["columns"]
    except ValueError:  # the viewer shows why; a ManifestError is a ValueError
        return defaults
    known = tuple(column["model"] for column in columns if column["model"] in names)
    return CompareSettings(**columns[0]["settings"], models=known or models)


def told_of_steps(opened: OpenStudy) -> str:
    """That the page draws in fewer steps than the study, as HTML; empty where it does not."""
    if opened.scanned or not default_settings(opened).steps < opened.study.steps > MAX_STEPS:
        return ""
    return messages.notice(
        f"The study draws in {opened.study.steps} denoising steps. This screen draws in {MAX_STEPS} at most, so its "
        "pictures differ from the study's."
    )
