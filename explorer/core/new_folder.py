"""Folders that results are written to once: refused, before any work, where they hold something."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explorer.core.provenance import MANIFEST_NAME


def check_new_folder(folder: Path, option: str = "") -> None:
    """Refuse a folder in which something could be overwritten; hidden files do not count.

    Args:
        option: the command line's, by which another folder is chosen; for the error.

    Raises:
        ValueError: naming what lies there, if ``folder`` holds something, or if it or what it would lie in is no
            folder.
    """
    wanted = "choose a new folder" + (f" with {option}" if option else "")
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is no folder: {wanted}")
    if nearest != folder:
        return
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if found:
        named = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise ValueError(f"{folder} already holds {named}: {wanted}, or empty this one")


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` and of its name, which takes its place when the block ends: a kill never leaves half.

    Raises:
        ValueError: if ``folder`` holds something by then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        beside = Path(scratch) / folder.name
        beside.mkdir()
        yield beside
        check_new_folder(folder)
        try:
            beside.replace(folder)
        except OSError:  # hidden files lie there, or it is another file system
            folder.mkdir(exist_ok=True)
            for path in sorted(beside.iterdir(), key=lambda path: path.name == MANIFEST_NAME):
                path.replace(folder / path.name)
