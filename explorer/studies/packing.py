"""A study's results as one zip, for a talk or a reviewer: no weights, no absolute paths, every file with its hash."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from explorer.core.bounded_files import parse_json, path_inside
from explorer.core.folder_lock import locked
from explorer.core.new_folder import check_new_folder
from explorer.core.provenance import MANIFEST_NAME, ManifestError, check_files, hash_file, replacing
from explorer.studies.arms import known_poison
from explorer.studies.results import PICTURES, STEPS, command_line, result_file, step_folder, step_manifest
from explorer.studies.specs import LOCAL, ExtractorSpec
from explorer.studies.state import stale_steps
from explorer.studies.study import CONCEPTS_NAME, RESULTS_NAME, STUDY_NAME, Arm, Study

PACK_NAME = "study-results.json"
PACK_KIND = "study-results"
MOST_BYTES = 1 << 36
"""That a pack may say it holds: 64 GiB."""


def export_study(study: Study, path: Path, *, pictures: bool = False) -> list[str]:
    """Write the finished steps' files, study.toml and concepts.csv as a zip; returns the steps.

    Every file is compared with its step's manifest first. In the pack, study.toml names no places: of the arms it
    keeps names, control and poison, of the extractor its open_clip name and feature range.

    Args:
        path: a new .zip file.
        pictures: whether all pictures with their maps are packed, too; they are large.

    Raises:
        ManifestError: if a file is missing or was changed.
        ValueError: if no step is done, one is known to be of something else than the study is now, or the file is there
            already or is no .zip.
    """
    if path.suffix != ".zip" or path.exists():
        raise ValueError(f"{path} {'exists already' if path.exists() else 'is no .zip file'}: expected a new .zip file")
    steps = [step for step in STEPS if (step_folder(study, step) / MANIFEST_NAME).is_file()]
    steps = [step for step in steps if pictures or step != PICTURES]
    if not steps:
        raise ValueError(f"{study.folder} has no results to pack: run `{command_line('run', study.folder)}`")
    stale = stale_steps(study)
    if wrong := next((step for step in steps if step in stale), None):
        raise ValueError(f"{wrong} is not of what {STUDY_NAME} says now ({stale[wrong]}): run "
                         f"`{command_line('run', study.folder)}`, or put back what was changed")  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, replacing(path) as temporary:
        _without_places(study, Path(scratch)).write()
        files = {STUDY_NAME: Path(scratch) / STUDY_NAME}
        if (study.folder / CONCEPTS_NAME).is_file():
            files[CONCEPTS_NAME] = study.folder / CONCEPTS_NAME
        for step in steps:
            files |= {f"{RESULTS_NAME}/{step}/{name}": file for name, file in _files_of(study, step)}
        record = {"kind": PACK_KIND, "steps": steps, "files": {name: hash_file(file) for name, file in files.items()}}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr(PACK_NAME, json.dumps(record, indent=1, sort_keys=True) + "\n")
            for name, file in files.items():
                pack.write(file, name)
    return steps


def import_results(path: Path, folder: Path) -> Study:
    """Unpack what :func:`export_study` wrote: into a new folder, or beside the results of a study with the same arms.

    Raises:
        ValueError: if it is no such pack, a file in it is not as its hash says, the study has other arms, or it has one
            of the steps already.
    """
    with tempfile.TemporaryDirectory(dir=_nearest(folder.resolve().parent)) as scratch:
        steps = _unpack(path, Path(scratch))
        packed = Study.load(scratch)
        if not (folder / STUDY_NAME).is_file():
            check_new_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
            for name in (STUDY_NAME, CONCEPTS_NAME):
                if (Path(scratch) / name).is_file():
                    shutil.move(Path(scratch) / name, folder / name)
        study = Study.load(folder)
        if unknown := sorted({arm.name for arm in packed.arms} ^ {arm.name for arm in study.arms}):
            raise ValueError(f"{path} is of other arms than {folder}: {', '.join(unknown)} is in one of them alone")
        if there := [step for step in steps if step_folder(study, step).exists()]:
            raise ValueError(f"{folder} has {', '.join(there)} already: expected a study without, or a new folder")
        study.results.mkdir(exist_ok=True)
        with locked(study.results):
            for step in steps:
                shutil.move(step_folder(packed, step), step_folder(study, step))
    return study


def _without_places(study: Study, folder: Path) -> Study:
    """The study as another machine knows it."""
    spec = study.extractor
    extractor = ExtractorSpec(
        open_clip=None if (spec.open_clip or "").startswith(LOCAL) else spec.open_clip,
        pretrained_tag=spec.pretrained_tag, feature_range=spec.feature_range,
    )  # fmt: skip
    arms = tuple(Arm(name=arm.name, control=arm.control, poison=known_poison(arm)) for arm in study.arms)
    filters = replace(study.filters, scores=None, columns=())
    return replace(
        study, folder=folder, extractor=extractor, arms=arms, aesthetics=None, classifier=None, filters=filters,
        beside=(), runs=(), other_bases=(),
    )  # fmt: skip


def _files_of(study: Study, step: str) -> Iterator[tuple[str, Path]]:
    """A step's files and its manifest, by their names in the step's folder."""
    manifest, place = step_manifest(study, step), step_folder(study, step)
    for name in manifest["files"]:
        yield name, result_file(study, step, name)
        own = PurePosixPath(name)
        if step == PICTURES and own.name == MANIFEST_NAME:  # of one drawing, which vouches for its tensors
            drawing = parse_json((place / name).read_bytes())
            check_files((place / name).parent, drawing)
            yield from ((str(own.with_name(file)), place / own.with_name(file)) for file in drawing["files"])
    yield MANIFEST_NAME, place / MANIFEST_NAME


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one around it that is there: what is unpacked on the same disk need not be copied."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _unpack(path: Path, scratch: Path) -> list[str]:
    """Write the listed files, each compared with its hash; returns the steps."""
    try:
        with zipfile.ZipFile(path) as pack:
            record = parse_json(pack.read(PACK_NAME))
            steps, files = _checked(record)
            if sum(pack.getinfo(name).file_size for name in files) > MOST_BYTES:
                raise ValueError(f"it holds more than {MOST_BYTES >> 30} GiB")
            for name, expected in files.items():
                file = path_inside(scratch, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                with pack.open(name) as packed, open(file, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                if hash_file(file) != expected:
                    raise ValueError(f"{name} is not as its hash says")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no pack of a study's results: {error}") from error
    return steps


def _checked(record: object) -> tuple[list[str], dict[str, str]]:
    """Steps and files of a pack's record."""
    if not isinstance(record, dict) or record.get("kind") != PACK_KIND:
        raise ManifestError(f"its {PACK_NAME} is of another kind than {PACK_KIND}")
    steps, files = record.get("steps"), record.get("files")
    if not (isinstance(steps, list) and set(steps) <= set(STEPS) and isinstance(files, dict)):
        raise ManifestError(f"its {PACK_NAME} does not list steps and files")
    places = (STUDY_NAME, CONCEPTS_NAME, *(f"{RESULTS_NAME}/{step}/" for step in steps))
    if odd := [name for name in files if not name.startswith(places)]:
        raise ManifestError(f"it holds {odd[0]}, which is none of a study's results")
    return steps, files
