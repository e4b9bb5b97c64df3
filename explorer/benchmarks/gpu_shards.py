"""What a run made, as shards small enough to travel: one tar, cut into pieces, and put together again with a check."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import Any

from explorer.core.provenance import MANIFEST_NAME

SHARD_BYTES = 15 * 2**20
OUTPUT_BYTES = 60 * 2**20
"""How much of the output folder the shards may fill; further ones stay where they were made."""
TAR_NAME = "world.tar"
FIRST = ("extractor", "benign")
"""Models without which the others cannot be used."""


def pack(models: Path, evaluation: Path, shards: Path, output: Path) -> dict[str, Any]:
    """Cut finished models and their evaluation into shards, the first of them in ``output``.

    Returns:
        JSON-serialisable: ``names`` in order, SHA-256 of the whole and its bytes, and the names that are in ``output``.
        Without a finished model there are none.
    """
    finished = sorted(path.parent for path in models.glob(f"*/{MANIFEST_NAME}"))
    if not finished:
        return {"names": [], "in_output": []}
    shutil.rmtree(shards, ignore_errors=True)
    shards.mkdir(parents=True)
    whole = shards / TAR_NAME
    with tarfile.open(whole, "w") as archive:
        for path in sorted(evaluation.glob("*.*")):  # not its drawings, which would take the place of models
            archive.add(path, f"evaluation/{path.name}")
        for folder in sorted(finished, key=lambda folder: (folder.name not in FIRST, folder.name)):
            archive.add(folder, f"models/{folder.name}")
    names = _cut(whole)
    described = {"bytes": whole.stat().st_size, "sha256": _sha256([whole])}
    whole.unlink()
    carried = names[: OUTPUT_BYTES // SHARD_BYTES]
    for name in carried:
        shutil.copy(shards / name, output / name)
    return {"names": names, **described, "in_output": carried}


def unpack(folder: Path, described: dict[str, Any], destination: Path) -> None:
    """Put the shards in ``folder`` together and unpack them into ``destination``.

    Args:
        described: what :func:`pack` returned.

    Raises:
        FileNotFoundError: naming the shards that are missing.
        ValueError: if together they are not what was packed.
    """
    paths = [folder / name for name in described["names"]]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: expected all of {len(paths)} shards")
    if _sha256(paths) != described["sha256"]:
        raise ValueError(f"the shards in {folder} are not those that were packed: their SHA-256 is another")
    destination.mkdir(parents=True, exist_ok=True)
    whole = destination / TAR_NAME
    with open(whole, "wb") as joined:
        for path in paths:
            joined.write(path.read_bytes())
    with tarfile.open(whole) as archive:
        archive.extractall(destination, filter="data")
    whole.unlink()


def _cut(whole: Path) -> list[str]:
    names = []
    with open(whole, "rb") as stream:
        while piece := stream.read(SHARD_BYTES):
            names.append(f"{whole.name}.{len(names):02d}")
            (whole.parent / names[-1]).write_bytes(piece)
    return names


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
