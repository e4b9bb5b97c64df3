"""What a study's results were made from, told apart without reading it: recorded hashes, else sizes and dates.

Cheap enough for a page that opens: JSON, headers and file times are read, no weights, no pictures and no torch.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.checkpoints.weights_hash import with_settings
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_file, hash_json, read_manifest
from explorer.pairs.concept_list import ConceptList
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.sources.base import Reading
from explorer.pairs.sources.shard_names import expand_braces
from explorer.studies.specs import LOCAL, ExtractorSpec
from explorer.studies.study import Arm

PAIR_SET_KIND, STORE_KIND = "pair-set", "embedding-store"
SAMPLER = Path("scheduler") / "scheduler_config.json"


def checkpoint_fingerprint(checkpoint: Checkpoint) -> str:
    """Of the checkpoint's weights, its base's, and its sampler.

    Weights are told apart by the SHA-256 that manifests record; where none does, by size and date of their files, so
    that a copy counts as another.
    """
    base = checkpoint.base
    sampler = (base or checkpoint.folder) / SAMPLER
    return hash_json(
        {
            "weights": _weights(checkpoint),
            "base": None if base is None else _weights(read_checkpoint(checkpoint.lender)),
            "sampler": hash_file(sampler) if sampler.is_file() else None,
        }
    )


def pairs_fingerprint(arm: Arm) -> str:
    """Of a pair set or an embedding store by what its manifest records, of any other source by its files.

    An address is its own fingerprint: asking far away for every file takes long, and a page that opens cannot wait.
    What is read there is compared with what was embedded (:meth:`PairSource.fingerprint`) whenever it is read again.

    Raises:
        FileNotFoundError: if nothing lies there.
    """
    if isinstance(arm.pairs, str):
        found = hash_json({"address": arm.pairs})
    else:
        recorded = recorded_files(arm.pairs)
        found = hash_json(recorded) if recorded is not None else _hash_of(source_files(arm.pairs))
    read = [asdict(arm.reading), asdict(arm.poison_fields)]
    return found if read == [asdict(Reading()), asdict(PoisonFields())] else hash_json([found, *read])


def recorded_files(pairs: Path) -> dict[str, str] | None:
    """SHA-256 of files by name, of a pair set or of an embedding store that was made here; None of anything else."""
    if not (pairs / MANIFEST_NAME).is_file():
        return None
    try:
        manifest = read_manifest(pairs)
    except ManifestError:
        return None
    files = manifest.get("files")
    return files if manifest.get("kind") in (PAIR_SET_KIND, STORE_KIND) and isinstance(files, dict) else None


def extractor_fingerprint(extractor: ExtractorSpec) -> str:
    """Of the universal extractor that a study names.

    Raises:
        ValueError: if it names none.
        FileNotFoundError: if it is not there.
    """
    if extractor.folder is not None:
        if not (extractor.folder / MANIFEST_NAME).is_file():
            raise FileNotFoundError(f"the extractor is not in {extractor.folder}: expected its folder")
        return hash_json(read_manifest(extractor.folder)["files"])
    if extractor.open_clip is None or extractor.weights is None:
        raise ValueError("the study names no extractor: expected a folder, or open_clip and weights, in study.toml")
    facts = [extractor.open_clip, extractor.pretrained_tag, extractor.feature_range]
    return hash_json([*facts, file_fingerprint(extractor.weights)])


def extractor_configuration(extractor: ExtractorSpec) -> str | None:
    """Of what lies beside the weights of an open_clip model in a folder: its configuration and its tokenizer's files;
    None of another extractor, whose own manifest or open_clip itself has them."""
    if extractor.folder is not None or not (extractor.open_clip or "").startswith(LOCAL):
        return None
    folder = Path(extractor.open_clip.removeprefix(LOCAL))
    files = [path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".model")] if folder.is_dir() else []
    return hash_json({path.name: hash_file(path) for path in files if path.is_file()})


def file_fingerprint(path: Path) -> str:
    """Of a file by its size and date.

    Raises:
        FileNotFoundError: if it is not there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: expected the file that study.toml names")
    return _stamps([path])


def concepts_fingerprint(concepts: ConceptList) -> str:
    """Of names, groups, prompts and their order."""
    return hash_json([[each.name, each.group, concepts.prompt(each.name)] for each in concepts.concepts])


def source_files(pairs: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files of a source and what the file system says of each: a file, all below a folder however deep, or what
    braces and globs in the path match.

    Each goes by its path from the deepest folder that is named or holds all matches, so that a folder that is moved
    keeps its fingerprint and a picture that is moved from one class to another does not. Hidden files and links to
    folders are passed over, as every source does.

    Raises:
        FileNotFoundError: if nothing lies there.
    """
    if pairs.is_dir():
        found, root = _files_below(str(pairs)), str(pairs)
    else:
        matches = [str(pairs)] if pairs.exists() else _matches(pairs)
        listed = [file for match in matches for file in _files_at(match)]
        found, root = iter(listed), os.path.commonpath([os.path.dirname(path) for path, _ in listed]) if listed else ""
    if (first := next(found, None)) is None:
        raise FileNotFoundError(f"no pairs at {pairs}: expected what study.toml names")
    beginning = len(os.path.join(root, ""))
    yield from ((path[beginning:], status) for path, status in chain([first], found))


def _matches(pairs: Path) -> list[str]:
    return [match for pattern in expand_braces(str(pairs)) for match in glob.glob(pattern, recursive=True)]


def _files_at(path: str) -> Iterator[tuple[str, os.stat_result]]:
    return _files_below(path) if os.path.isdir(path) else iter([(path, os.stat(path))])


def _files_below(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """One walk, which asks for every file once: a source may have millions, and a page that opens waits for it."""
    waiting = [folder]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:  # which the source says where it is read; its files count as soon as it can be listed
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file():
                    yield entry.path, entry.stat()


def _weights(checkpoint: Checkpoint) -> str:
    if checkpoint.hash is not None:
        return checkpoint.hash
    stamps = _stamps(checkpoint.ways.files_read(checkpoint))
    return stamps if checkpoint.problem is not None else with_settings(checkpoint, stamps)


def _stamps(files: Iterable[Path]) -> str:
    """Sizes and dates of files, under their own names, so that a folder keeps its fingerprint where it is moved."""
    return _hash_of((path.name, path.stat()) for path in files)


def _hash_of(files: Iterable[tuple[str, os.stat_result]]) -> str:
    return hash_json(sorted([name, status.st_size, status.st_mtime_ns] for name, status in files))
