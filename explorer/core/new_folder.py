"""Folders that results are written to once: refused, before any work, where they hold something."""

from __future__ import annotations

import os
from pathlib import Path


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
