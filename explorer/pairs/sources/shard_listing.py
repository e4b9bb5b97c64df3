"""Which files of a location are the shards asked for, and what else lies there: told, not passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import IMAGE_EXTENSIONS, OTHER_IMAGE_EXTENSIONS, Record, printable

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")


def all_files(found: Iterable[Path]) -> list[tuple[Path, str]]:
    """Every file among ``found`` and in the folders among them, with its path from there; linked folders as files.

    Hidden files are passed over, unless they are shards.
    """
    listed = []
    for path in found:
        if not path.is_dir():
            listed.append((path, path.name))
            continue
        unread: list[OSError] = []
        for folder, folders, names in os.walk(path, onerror=unread.append):
            folders.sort()
            linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in sorted([*names, *linked]):
                file = Path(folder, name)
                relative = file.relative_to(path)
                if not _is_hidden(relative) or file.suffix.lower() in (".tar", ".parquet"):
                    listed.append((file, relative.as_posix()))
        listed += [(Path(error.filename), Path(error.filename).relative_to(path).as_posix()) for error in unread]
    return listed


def is_shard(file: Path, relative: str, suffix: str) -> bool:
    """Whether a file can be read as a shard of this kind."""
    return file.suffix.lower() == suffix and file.is_file() and not _is_hidden(Path(relative))


def is_picture_name(file: Path) -> bool:
    """Whether a file is a picture by its name."""
    return file.suffix.removeprefix(".").lower() in (*IMAGE_EXTENSIONS, *OTHER_IMAGE_EXTENSIONS)


def companions(files: Iterable[tuple[Path, str]]) -> set[Path]:
    """What img2dataset writes beside every shard or folder of pictures: a table and statistics of the same name."""
    files = [path for path, _ in files]
    stems = {path.with_suffix("") for path in files if path.suffix.lower() == ".tar"}
    stems |= {path.parent for path in files if is_picture_name(path)}
    tables = {path for path in files if path.suffix == ".parquet" and path.with_suffix("") in stems}
    return tables | {path for path in files if path.name.endswith("_stats.json") and _without_stats(path) in stems}


def not_read(files: Iterable[tuple[Path, str]], read: Iterable[Path]) -> list[Record]:
    """A record for every other file, with the reason why it is not read."""
    known = set(read)
    return [
        Record(uid=printable(name), place=printable(name), problem=_problem(file, name))
        for file, name in files
        if file not in known
    ]


def _problem(file: Path, name: str) -> UnusableError:
    if _is_hidden(Path(name)):
        return UnusableError(Reason.HIDDEN, "its name or its folder's begins with a dot")
    if file.is_symlink() and file.is_dir():
        return UnusableError(Reason.LINK, "is a link: expected a regular folder")
    if file.is_dir():
        return UnusableError(Reason.UNREADABLE_FOLDER, "expected a folder that can be listed")
    if not file.is_file():
        return UnusableError(Reason.NOT_REGULAR, "expected a regular file")
    if name.lower().endswith(_COMPRESSED):
        return UnusableError(Reason.UNREADABLE_SHARD, "is compressed: expected a plain .tar")
    return UnusableError(Reason.UNKNOWN_FILE, "lies beside the shards and is none")


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _without_stats(path: Path) -> Path:
    return path.with_name(path.name.removesuffix("_stats.json"))
