"""Where checkpoints may lie in a folder, found by names, JSON and links alone; and the manifest that each may have."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explorer.checkpoints.graft import is_graft
from explorer.checkpoints.lora_layout import is_adapter
from explorer.checkpoints.model_folder import ModelFolder, unreadable_problem
from explorer.checkpoints.weight_files import PICKLE_SUFFIXES, WeightError
from explorer.core.provenance import MANIFEST_NAME, ManifestError, read_manifest

MANIFEST_KIND = "checkpoint"
MAX_DEPTH = 3
MAX_LOOKED_AT = 10_000
"""Folders, and loose files, that one scan looks into."""


def candidates(root: ModelFolder) -> Iterator[tuple[Path, str | None]]:
    """What may be a checkpoint, level by level, so that no folder takes another's place; and why it is not read."""
    waiting, loose, here = deque([(root.path, MAX_DEPTH)]), [], root.path.resolve()
    for _ in range(MAX_LOOKED_AT):
        if not waiting:
            break
        folder, depth = waiting.popleft()
        try:
            known = _is_checkpoint(root.at(folder))
            if not known and folder != root.path and folder.is_symlink():
                # Followed, it would list what lies elsewhere, or everything here again.
                if not _around_one_another(folder.resolve(), here):
                    yield folder, "it is a link to a folder that is no checkpoint: name that folder itself to list it"
                continue
            folders, files = ([], []) if known or not depth else _inside(folder)
        except OSError:
            known = True  # listed as well, lest it vanish: reading it gives the reason
        if known:
            yield folder, None
        elif own_manifest(root.at(folder))[0].get("kind", MANIFEST_KIND) == MANIFEST_KIND:
            waiting += ((path, depth - 1) for path in folders)
            loose += files
    yield from ((path, None) for path in loose[:MAX_LOOKED_AT])
    if waiting or len(loose) > MAX_LOOKED_AT:
        yield root.path, f"it holds more than {MAX_LOOKED_AT:,} folders or weight files: not all are listed"


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders, and files that may be weights, in the order of their names; hidden ones are left out."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    folders = [Path(entry) for entry in found if _may_be_folder(entry)]
    weights = (Path(entry) for entry in found if entry.name.endswith((".safetensors", *PICKLE_SUFFIXES)))
    return folders, [path for path in weights if os.path.exists(path) and not os.path.isdir(path)]


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or cannot be looked at, as behind a link into a closed folder."""
    try:
        return entry.is_dir()
    except PermissionError:
        return True
    except OSError:  # a link to itself
        return False


def _around_one_another(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _is_checkpoint(folder: ModelFolder) -> bool:
    if folder.is_model or is_adapter(folder.path) or is_graft(folder.path):
        return True
    config = own_manifest(folder)[0].get("config")
    return isinstance(config, dict) and "base" in config


def home_of(path: Path) -> Path:
    """The folder that a checkpoint's file names are relative to."""
    return path if path.is_dir() else path.parent


def manifest_path(path: Path) -> Path:
    return path.with_suffix(f".{MANIFEST_NAME}") if path.is_file() else path / MANIFEST_NAME


def own_manifest(place: ModelFolder) -> tuple[dict[str, Any], str | None]:
    """The manifest, empty if there is none, and what is wrong with it."""
    try:
        path = manifest_path(place.path)
        os.stat(path)
        loose = place.path.is_file()
        return (place.read_json(path) if loose else place.once(path, lambda path: read_manifest(path.parent))), None
    except (FileNotFoundError, NotADirectoryError):
        return {}, None
    except (ManifestError, WeightError) as error:
        return {}, str(error)
    except OSError as error:
        return {}, unreadable_problem(place.path, error)
