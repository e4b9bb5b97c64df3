"""What a study has not measured, or measured of other models: in words, with the command that does it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from explorer.checkpoints.registry import Checkpoint
from explorer.core.provenance import ManifestError
from explorer.studies.results import (
    COMPARISON,
    EVALUATION,
    FILM_STRIP,
    GRAPHS,
    PICTURES,
    SCORES,
    STEPS,
    step_manifest,
)
from explorer.studies.study import Study

MADE = {
    SCORES: "Alignment Difficulty of every arm's training pairs, and each pair's own share of it",
    GRAPHS: "which captions and which pictures of the training pairs are near one another",
    PICTURES: "what every arm's model draws of every concept",
    EVALUATION: "how well the arms' models draw every concept",
    FILM_STRIP: "the same concepts drawn by the models of all arms",
    COMPARISON: "one prompt drawn by several models",
}
"""What a screen shows of each step."""
NEEDS_PAIRS, NEEDS_MODELS = (SCORES, GRAPHS), (PICTURES, EVALUATION, FILM_STRIP, COMPARISON)
WEIGHTS = "weights of "
"""Before an arm's name, in the inputs of a step: the SHA-256 of its checkpoint's weights."""


class MissingStepError(ManifestError):
    """A step's results are not there."""

    def __init__(self, study: Study, step: str, *, scanned: bool):
        """Find out what the step needs.

        Args:
            scanned: whether the study is a folder of checkpoints, which has no steps.
        """
        self.step, self.lacks = step, "" if scanned else what_lacks(study, step)
        if scanned:
            self.command = f"python -m explorer study new STUDY --checkpoint {shlex.quote(f'{shown_folder(study)}/*')}"
            self.lacks = "This is a folder of checkpoints. A study of them holds their results and names their pairs:"
        else:
            self.command = run_command(study, step)
        super().__init__(f"{study.name} has not measured {MADE[step]}. {self.lacks} `{self.command}`")

    def as_json(self) -> dict[str, str]:
        """For the screens' scripts."""
        return {"made": MADE[self.step], "lacks": self.lacks, "command": self.command}


def run_command(study: Study, step: str) -> str:
    """The command that does a step, as it is typed where the app was started."""
    return f"python -m explorer study run {shlex.quote(shown_folder(study))} {step}"


def shown_folder(study: Study) -> str:
    """The study's folder as a command names it: relative where that is no way up."""
    here = Path.cwd()
    return str(study.folder.relative_to(here) if study.folder.is_relative_to(here) else study.folder)


def what_lacks(study: Study, step: str) -> str:
    """What ``study.toml`` must name before the step can be done; empty where nothing is missing."""
    if step in NEEDS_MODELS and all(arm.checkpoint is None for arm in study.arms):
        return "No arm has a checkpoint: name one in study.toml first."
    if step in NEEDS_PAIRS and all(arm.pairs is None for arm in study.arms):
        return "No arm has pairs: name some in study.toml first."
    if step in (*NEEDS_PAIRS, EVALUATION) and study.extractor.folder is None and study.extractor.open_clip is None:
        return "The study has no extractor: name one in study.toml first."
    return ""


def other_weights(study: Study, registry: Iterable[Checkpoint]) -> dict[str, list[str]]:
    """Steps to the arms of which they measured other weights than are there now; steps that are up to date are absent.

    Read from the hashes that manifests record; an arm whose weights nobody hashed is left out.
    """
    present = {checkpoint.name: checkpoint.hash for checkpoint in registry}
    found = {}
    for step in STEPS:
        try:
            inputs = step_manifest(study, step)["config"].get("inputs", {})
        except ManifestError:
            continue
        measured = {name.removeprefix(WEIGHTS): digest for name, digest in inputs.items() if name.startswith(WEIGHTS)}
        if others := [name for name, digest in measured.items() if present.get(name, "") not in (digest, None)]:
            found[step] = others
    return found
