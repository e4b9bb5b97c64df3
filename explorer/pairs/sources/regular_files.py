"""Regular files alone: what else lies in a user's folder (links, pipes, devices) could lead anywhere or never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import IMAGE_EXTENSIONS, OTHER_IMAGE_EXTENSIONS, picture_format, printable

_HEAD = 32
"""Bytes by which a picture is known."""


def read_regular(path: Path, limit: int, too_long: Reason, unreadable: Reason) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        UnusableError: for ``too_long`` a file, or for ``unreadable`` if it is none or cannot be read.
    """
    name = printable(path.name)
    try:
        # Opening a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnusableError(Reason.NOT_REGULAR, f"{name}: expected a regular file")
            data = stream.read(limit + 1)
    except OSError as error:
        raise UnusableError(unreadable, f"{name}: {error.strerror}") from error
    if len(data) > limit:
        raise UnusableError(too_long, f"{name} has more than {limit} bytes")
    return data


def walk(root: Path) -> tuple[list[str], dict[str, UnusableError]]:
    """What lies below ``root`` as paths relative to it, both sorted by them.

    Hidden files are passed over, unless they are pictures.

    Returns:
        Regular files, and what is set aside: links, pipes, devices, hidden pictures, folders that cannot be listed.

    Raises:
        OSError: if ``root`` cannot be listed.
    """
    found: list[str] = []
    aside: dict[str, UnusableError] = {}

    def set_aside(error: OSError) -> None:
        if Path(error.filename) == root:
            raise error
        aside[Path(error.filename).relative_to(root).as_posix()] = UnusableError(
            Reason.UNREADABLE_FOLDER, f"{error.strerror}: expected a folder that can be listed"
        )

    for folder, folders, names in os.walk(root, onerror=set_aside):
        relative = Path(folder).relative_to(root)
        for name in (*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))):
            path = (relative / name).as_posix()
            hidden = any(part.startswith(".") for part in Path(path).parts)
            problem = _problem(Path(folder, name))
            if hidden and problem is None and is_picture(root, path):
                problem = UnusableError(Reason.HIDDEN, "its name or its folder's begins with a dot")
            if problem is not None and not (hidden and problem.reason != Reason.HIDDEN):
                aside[path] = problem
            elif not hidden:
                found.append(path)
    return sorted(found), dict(sorted(aside.items()))


def is_picture(root: Path, name: str) -> bool:
    """Whether ``name`` below ``root`` is a picture by its extension or, where that says nothing, its first bytes."""
    kind = extension(name)
    if kind in IMAGE_EXTENSIONS or kind in OTHER_IMAGE_EXTENSIONS:
        return True
    try:
        with open(root / name, "rb") as stream:
            return picture_format(stream.read(_HEAD)) is not None
    except OSError:
        return False


def extension(name: str) -> str:
    """The lower-case extension of a path, without its dot."""
    return os.path.splitext(name)[1].removeprefix(".").lower()


def _problem(path: Path) -> UnusableError | None:
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        return UnusableError(Reason.NOT_REGULAR, f"{error.strerror}: expected a regular file")
    if stat.S_ISLNK(mode):
        return UnusableError(Reason.LINK, f"is a link: expected a regular {'folder' if path.is_dir() else 'file'}")
    if not stat.S_ISREG(mode):
        return UnusableError(Reason.NOT_REGULAR, "is a pipe, socket or device: expected a regular file")
    return None
