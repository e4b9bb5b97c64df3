"""Arms that a step has finished before it ends: a run that is cut off goes on with the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.core.provenance import hash_file, replacing
from explorer.studies.results import RECEIPTS


class FinishedArms:
    """The arms that are finished in the folder that a step is being written to.

    Beside an arm's files lies a receipt: what they were made from, their SHA-256, and what the step has to say of the
    arm. Receipts are written last, so that an arm that has one is whole; they are no part of the step's results.
    """

    def __init__(self, folder: Path, identities: Mapping[str, str]) -> None:
        """Keep what an earlier run finished of these arms in ``folder``, and clear all else away.

        Args:
            folder: of :func:`~explorer.studies.results.writing_step`.
            identities: arm to a hash of everything that decides its results.
        """
        self._folder, self._identities, self._told = folder, identities, {}
        kept: set[Path] = set()
        for path in sorted((folder / RECEIPTS).glob("*.json")):
            if (receipt := self._holding(path)) is not None:
                self._told[receipt["arm"]] = receipt["told"]
                kept |= {path, *(folder / name for name in receipt["files"])}
        _clear(folder, kept)

    def __contains__(self, arm: str) -> bool:
        return arm in self._told

    def told(self, arm: str) -> Any:
        """What the step said of a finished arm, as JSON brings it back."""
        return self._told[arm]

    def add(self, arm: str, place: Path, told: Any = None) -> None:
        """The arm is finished: ``place``, a file or a folder, holds all of its results.

        Args:
            told: JSON-serialisable: what else the step has to say of the arm.
        """
        paths = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        receipt = self._folder / RECEIPTS / f"{arm}.json"
        receipt.parent.mkdir(exist_ok=True)
        files = {path.relative_to(self._folder).as_posix(): hash_file(path) for path in paths}
        text = json.dumps({"arm": arm, "identity": self._identities[arm], "files": files, "told": told})
        with replacing(receipt) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._told[arm] = json.loads(text)["told"]  # the same whether this run made it or an earlier one

    def _holding(self, path: Path) -> dict[str, Any] | None:
        """A receipt of this arm as it is now, whose files are there and unchanged; None otherwise."""
        receipt = json.loads(path.read_text(encoding="utf-8"))
        if self._identities.get(receipt["arm"]) != receipt["identity"]:
            return None
        files = {self._folder / name: digest for name, digest in receipt["files"].items()}
        return receipt if all(file.is_file() and hash_file(file) == digest for file, digest in files.items()) else None


def _clear(folder: Path, kept: set[Path]) -> None:
    """Remove every file below ``folder`` but these, and the folders that this leaves empty."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()
