"""Shards at an address: whatever fsspec can open, read where they lie and never fetched unasked.

``file://`` is this machine and ``memory://`` this process; others, as ``s3://``, need the package of their kind.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, BinaryIO

import fsspec

VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
"""Under one of these names file systems say which version of a file there is."""


class RemoteFile(PurePosixPath):
    """A file that was found at an address, as a path: ``s3://bucket/a.tar`` is ``s3:/bucket/a.tar``.

    It has what is asked of a local shard, and is one path among others wherever names are compared.
    """

    @property
    def address(self) -> str:
        """As fsspec opens it."""
        protocol, _, place = str(self).partition(":/")
        return f"{protocol}://{place}"

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open for reading; the stream can be sought in.

        Raises:
            OSError: if it cannot be opened.
        """
        return fsspec.open(self.address, mode).open()

    def stat(self) -> Any:
        """Its size and, in place of the time of change, what its file system says of its version; None for nothing."""
        system, path = fsspec.url_to_fs(self.address)
        found = system.info(path)
        version = next((str(found[name]) for name in VERSIONS if found.get(name) is not None), None)
        return SimpleNamespace(st_size=found["size"], st_mtime_ns=version)

    def is_file(self) -> bool:
        """It was found as one."""
        return True

    def is_dir(self) -> bool:
        """It was found as a file."""
        return False

    def is_symlink(self) -> bool:
        """Addresses have no links."""
        return False


def find_remote(pattern: str) -> list[RemoteFile]:
    """The files that an address names: itself, all below a folder, or what a glob matches, sorted; none if none.

    Raises:
        ValueError: if the address is of no kind that is known here, naming the package that is missing.
    """
    try:
        system, path = fsspec.url_to_fs(pattern)
    except (ValueError, ImportError) as error:
        raise ValueError(f"{pattern} cannot be opened: {error}; expected an address that fsspec knows") from error
    if any(sign in path for sign in "*?["):
        found = [name for name in system.glob(path) if system.isfile(name)]
    else:
        found = system.find(path) if system.isdir(path) else [path] if system.isfile(path) else []
    return [RemoteFile(system.unstrip_protocol(name)) for name in sorted(found)]
