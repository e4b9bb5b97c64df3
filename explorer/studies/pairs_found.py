"""Which pairs a study's command line names: pair sets, embedding stores, and sources that ``explorer import`` reads."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from explorer.core.provenance import MANIFEST_NAME, ManifestError, read_manifest
from explorer.embeddings.store import EmbeddingStore, is_store
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.base import is_address
from explorer.pairs.sources.detection import open_source

PAIR_SET, STORE, SOURCE = "pair-set", "embedding-store", "source"


@dataclass(frozen=True, kw_only=True)
class FoundPairs:
    """Pairs that lie somewhere."""

    path: Path | str
    """A folder, a file, or a glob of shards that are one source; text is an address of such."""
    name: str
    """Of the folder, or of the one around shards."""
    pair_set: PairSet | None = None
    """Where it is one of ours, whose hash a checkpoint may name as what it was trained on."""


def pairs_kind(pairs: Path | str) -> str:
    """What lies there: a pair set or an embedding store by its manifest or its folders, else a source."""
    if isinstance(pairs, str):
        return STORE if not _names_shards(pairs) and is_store(pairs) else SOURCE
    if (pairs / MANIFEST_NAME).is_file():
        try:
            kind = read_manifest(pairs).get("kind")
        except ManifestError:
            kind = None
        if kind in (PAIR_SET, STORE):
            return kind
    return STORE if is_store(pairs) else SOURCE


def count_embedded(pairs: Path) -> int | None:
    """How many pairs an embedding store holds; None of anything else, and of a store that cannot be read."""
    try:
        return len(EmbeddingStore.open(pairs)) if pairs_kind(pairs) == STORE else None
    except (ValueError, OSError):  # what is wrong with it is said where it is read
        return None


def _names_shards(pairs: str) -> bool:
    return any(sign in pairs for sign in "*?[{") or pairs.endswith((".tar", ".parquet"))


def keeps_pictures(pairs: Path | str | None) -> bool:
    """Whether pairs are of a kind whose pictures can be read whole: a pair set or a source, no embedding store."""
    return pairs is not None and pairs_kind(pairs) != STORE


def paths_named(pattern: str) -> list[Path]:
    """What lies at a path, whatever signs its name has; where nothing does, what the path matches as a glob, sorted."""
    if (path := Path(pattern)).exists():
        return [path]
    return sorted(Path(name) for name in glob.glob(pattern, recursive=True))


def find_pairs(patterns: list[str]) -> tuple[list[FoundPairs], list[str]]:
    """Everything that the patterns name, in order, and what was assumed or left out, in words.

    A pair set, a store and a folder of shards or pictures are one each. A folder in which pair sets or stores lie is
    looked into, for sources as well. Files that one pattern matches in one folder are one source.

    Raises:
        FileNotFoundError: naming a pattern that matches nothing.
    """
    found: dict[Path | str, FoundPairs] = {}
    told: list[str] = []
    for pattern in patterns:
        if is_address(pattern):
            found.setdefault(pattern, _shards(pattern, [], told))
            continue
        matches = paths_named(pattern)
        files = [path for path in matches if path.is_file()]
        folders = [path for path in matches if path.is_dir()]
        if folders:
            _tell_files(pattern, files, told)
        pieces = [piece for folder in folders for piece in _in_folder(folder.resolve(), told)]
        for each in pieces if folders else [_shards(pattern, files, told)]:
            found.setdefault(each.path, each)
    return list(found.values()), told


def _in_folder(folder: Path, told: list[str]) -> list[FoundPairs]:
    if pairs_kind(folder) != SOURCE:
        return [_described(folder)]
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    folders = [path for path in inside if path.is_dir()]
    if all(pairs_kind(path) == SOURCE for path in folders):
        return _readable([folder], told)
    _tell_files(str(folder), [path for path in inside if not path.is_dir()], told)
    return _readable(folders, told)


def _readable(folders: list[Path], told: list[str]) -> list[FoundPairs]:
    """Those that are pair sets, stores or sources; of the others it is told why they are left out."""
    problems = {folder: _problem(folder) if pairs_kind(folder) == SOURCE else None for folder in folders}
    told += [f"{folder} is left out: {problem}" for folder, problem in problems.items() if problem is not None]
    return [_described(folder) for folder, problem in problems.items() if problem is None]


def _tell_files(where: str, files: list[Path], told: list[str]) -> None:
    """Of files beside folders that are taken each by itself."""
    if files:
        named = ", ".join(path.name for path in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        told.append(f"{where}: files beside folders are left out ({named}); name them by a pattern of their own")


def _shards(pattern: str, files: list[Path], told: list[str]) -> FoundPairs:
    """One source of what a pattern matches; its name is that of the folder around, or of the one file."""
    path = pattern if is_address(pattern) else Path(pattern).absolute()
    problem = _problem(path)
    if problem is not None:
        raise FileNotFoundError(problem)
    if len(files) == 1:
        return FoundPairs(path=files[0].resolve(), name=files[0].stem)
    told.append(f"{pattern}: its {len(files) or 'several'} files are taken for one source")
    named = Path(pattern)
    return FoundPairs(path=path, name=named.parent.name if _names_shards(pattern) else named.name)


def _problem(path: Path | str) -> str | None:
    """Why it cannot be read as a source; None if it can."""
    try:
        open_source(path)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _described(path: Path) -> FoundPairs:
    pair_set = PairSet.load(path) if pairs_kind(path) == PAIR_SET else None
    return FoundPairs(path=path, name=path.name, pair_set=pair_set)
