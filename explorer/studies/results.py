"""What a study has measured: one folder a step, whose manifest names what it was made from.

A step's folder is written beside its place and moved there whole, so that what lies there is finished.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from explorer.core.bounded_files import path_inside
from explorer.core.provenance import (
    MANIFEST_NAME,
    ManifestError,
    hash_file,
    read_manifest,
    write_manifest,
)
from explorer.studies.study import Study

KIND = "study-step"
SCORES, GRAPHS, FILTERS, PICTURES, EVALUATION, FILM_STRIP, COMPARISON, RETRAINED, METER = (
    "scores", "graphs", "filters", "pictures", "evaluation", "film-strip", "comparison", "retrained", "meter",
)  # fmt: skip
STEPS = (SCORES, GRAPHS, FILTERS, PICTURES, EVALUATION, FILM_STRIP, COMPARISON, RETRAINED, METER)
"""In the order in which they are made."""
RECEIPTS = ".finished"
"""Folder of what a step notes of the arms that it has finished, while it is being written."""


def step_folder(study: Study, step: str) -> Path:
    """Where a step's results lie, if it is done."""
    if step not in STEPS:
        raise ValueError(f"step is {step!r}: expected one of {', '.join(STEPS)}")
    return study.results / step


def step_manifest(study: Study, step: str) -> dict[str, Any]:
    """The manifest of a finished step: in ``config`` its ``step``, ``settings`` and ``inputs`` (name to hash).

    Raises:
        ManifestError: if the step is not done; the message names the command that does it.
    """
    folder = step_folder(study, step)
    if not (folder / MANIFEST_NAME).is_file():
        raise ManifestError(f"{step} of {study.name} is not there yet: run `{step_command(study, step)}`")
    manifest = read_manifest(folder, kind=KIND)
    files, config = manifest.get("files"), manifest.get("config")
    if not (isinstance(files, dict) and isinstance(config, dict)
            and all(isinstance(digest, str) for digest in files.values())):  # fmt: skip
        raise ManifestError(f"{folder / MANIFEST_NAME} does not give the SHA-256 of files by name")
    return manifest


def step_command(study: Study, step: str) -> str:
    """The command that does a step."""
    return command_line("run", study.folder, step)


def command_line(name: str, *arguments: Path | str) -> str:
    """A command of studies, as a shell takes it, whatever folders and arms are called."""
    return shlex.join(["python", "-m", "explorer", "study", name, *map(str, arguments)])


def result_file(study: Study, step: str, name: str, hashed: Callable[[Path], str] = hash_file) -> Path:
    """Path of one of a step's files, compared with the SHA-256 in the step's manifest.

    Args:
        hashed: gives a file's SHA-256; a caller that asks often may remember it.

    Raises:
        ManifestError: if the step is not done, or the file is missing or was changed.
    """
    manifest, folder = step_manifest(study, step), step_folder(study, step)
    if (expected := manifest["files"].get(name)) is None:
        raise ManifestError(f"{folder / MANIFEST_NAME} does not list {name}")
    try:
        path = path_inside(folder, name)
    except ValueError as error:
        raise ManifestError(str(error)) from error
    if not path.is_file():
        raise ManifestError(f"{path} is missing although the manifest lists it: run `{step_command(study, step)}`")
    if (found := hashed(path)) != expected:
        raise ManifestError(
            f"{path} was changed: its SHA-256 is {found[:12]}…, the manifest expects {expected[:12]}…: run "
            f"`{step_command(study, step)}`"
        )
    return path


@contextmanager
def writing_step(
    study: Study,
    step: str,
    *,
    settings: dict[str, Any],
    inputs: dict[str, str],
    seed: int = 0,
    work: dict[str, Any] | None = None,
    goes_on: bool = False,
) -> Iterator[Path]:
    """A folder to write a step's files to; at the end it takes the place of the step's results, manifest last.

    Args:
        settings: JSON-serialisable: what of the study decided the step.
        inputs: what the step was made from, by name: the SHA-256 of weights, pairs, lists or other steps' results. As
            they are when the block ends.
        work: what it cost, as the next estimate needs it; as it is when the block ends.
        goes_on: whether the folder still holds what a run wrote that was cut off; it is new otherwise.
    """
    place = step_folder(study, step)
    scratch = place.with_name(f".{step}.part")
    if not goes_on:
        shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    yield scratch
    shutil.rmtree(scratch / RECEIPTS, ignore_errors=True)
    names = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file())
    record_step(scratch, step, names, settings=settings, inputs=inputs, seed=seed, work=work)
    shutil.rmtree(place, ignore_errors=True)
    scratch.rename(place)


def record_step(
    folder: Path,
    step: str,
    names: list[str],
    *,
    settings: dict[str, Any],
    inputs: dict[str, str],
    seed: int = 0,
    work: dict[str, Any] | None = None,
) -> None:
    """Write the manifest of a step whose files lie in ``folder``: from then on it is done.

    Args:
        names: of the files that the manifest vouches for, relative to ``folder``.
        settings: as in :func:`writing_step`, and so are ``inputs`` and ``work``.
    """
    config = {"step": step, "settings": settings, "inputs": inputs}
    write_manifest(folder, kind=KIND, config=config, seed=seed, files=names, work=work or {})
