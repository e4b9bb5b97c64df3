"""Manifests: where an artefact came from, so that it can be made again and checked.

Below every room: importable from anywhere in the package.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from explorer import __version__
from explorer.core.bounded_files import load_json, open_regular, path_inside

MANIFEST_NAME = "manifest.json"
ROOT = Path(__file__).resolve().parents[2]


class ManifestError(ValueError):
    """A manifest is missing, unreadable, or does not match the files beside it."""


@cache
def code_version() -> str:
    """Package version plus the git commit (``-dirty`` when the tree is changed), where git knows it; a copy of the tree
    without its history is told it by ``EXPLORER_COMMIT``."""
    if told := os.environ.get("EXPLORER_COMMIT"):
        return f"{__version__}+{told}"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit}"


def device_name(device: str) -> str:
    """What a figure was measured on: the GPU's own name, or ``cpu``."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def hash_file(path: Path) -> str:
    """SHA-256 of a regular file's bytes as 64 hex digits; any other kind of file is an OSError."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value in canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """A path beside ``path`` to write to: it takes the place of ``path`` when the block ends.

    A reader never sees half a file, and a block that fails, as on a full disk, leaves nothing behind.

    Args:
        alone: nobody else writes ``path`` meanwhile. Every attempt then has the same name, so that what a killed one
            left is replaced.
    """
    path = Path(path)
    attempt = "" if alone else f".{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}{attempt}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for want of space, quota or allowed file size, whichever library reports it.

    numpy says only how much of an array it could write.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return re.search(r"No space left on device|os error 28|quota exceeded|\d+ requested and \d+ written", str(error),
                     re.IGNORECASE) is not None  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    """Write JSON by atomic rename, so that a reader never sees half a file; a failure leaves nothing behind."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def write_manifest(
    folder: Path,
    *,
    kind: str,
    config: dict[str, Any],
    seed: int | None,
    data_hash: str | None = None,
    files: list[str] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Write ``folder/manifest.json`` and return its content.

    Args:
        kind: what the folder holds, e.g. ``pair-set``, ``checkpoint``, ``features``.
        config: everything that decided the content; JSON-serialisable.
        seed: the seed every random choice hung on; None only where nothing was random.
        data_hash: hash of the data the artefact was made from.
        files: names, relative to ``folder``, whose SHA-256 is recorded.
        extra: further JSON-serialisable facts, e.g. ``metrics``.
    """
    folder = Path(folder)
    manifest = {
        "kind": kind,
        "config": config,
        "seed": seed,
        "data_hash": data_hash,
        "code_version": code_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: hash_file(folder / name) for name in sorted(files or [])},
        **extra,
    }
    write_json(folder / MANIFEST_NAME, manifest)
    return manifest


def read_manifest(folder: Path, *, kind: str | None = None) -> dict[str, Any]:
    """Read ``folder/manifest.json``.

    Raises:
        ManifestError: if there is none, it is not a JSON object within the limits of
            :func:`~explorer.core.bounded_files.load_json`, or its kind is not ``kind``.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest = load_json(path)
    except FileNotFoundError as error:
        raise ManifestError(f"{path} is missing: expected a manifest beside the files") from error
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise ManifestError(f"{path} holds a {type(manifest).__name__}: expected a JSON object")
    if kind is not None and manifest.get("kind") != kind:
        raise ManifestError(f"{path} is of kind {manifest.get('kind')!r}: expected {kind!r}")
    return manifest


def check_files(folder: Path, manifest: dict[str, Any], names: Collection[str] | None = None) -> None:
    """Check files against the SHA-256 that the manifest records.

    Args:
        names: which of them, all of which the manifest must list; None for every file it lists.

    Raises:
        ManifestError: naming the first file that is missing, outside of the folder, of another kind than a regular one
            or whose content changed, or what is wrong with the record.
    """
    files = manifest.get("files", {})
    if not isinstance(files, dict):
        kind = type(files).__name__
        raise ManifestError(f"the manifest in {folder} holds a {kind} of files: expected an object of SHA-256 by name")
    for name in files if names is None else names:
        if name not in files:
            raise ManifestError(f"the manifest in {folder} lists no {name}: expected its SHA-256 under files")
        try:
            path = path_inside(folder, name)
        except ValueError as error:
            raise ManifestError(f"{error}: the manifest lists it") from error
        expected = files[name]
        if not isinstance(expected, str):
            raise ManifestError(f"the manifest gives {expected!r} as SHA-256 of {path}: expected 64 hex digits")
        try:
            found = hash_file(path)
        except FileNotFoundError as error:
            raise ManifestError(f"{path} is missing: the manifest lists it") from error
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror}") from error
        if found != expected and not path.resolve().is_relative_to(Path(folder).resolve()):
            raise ManifestError(f"{path} leads out of its folder, to a file that is not the one of the manifest")
        if found != expected:
            raise ManifestError(f"{path} has SHA-256 {found[:12]}…, the manifest expects {expected[:12]}…")
