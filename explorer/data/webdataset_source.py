"""Webdataset shards as img2dataset writes them: tar files of ``KEY.jpg``, ``KEY.txt`` and ``KEY.json``.

Read with the standard library's ``tarfile`` from the archive itself; nothing is ever extracted to disk, so the names in
an archive can name no other place. The webdataset library is not used because its reader passes over a damaged
archive's end in silence, as ``tarfile`` does unless one looks at where it stopped.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explorer.data.pair_source import (
    IMAGE_EXTENSIONS,
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    PairSource,
    Record,
    caption_of,
    decode_text,
    first_of,
    given_uid,
    named_files,
    parse_metadata,
    printable,
    unreadable_shard,
)
from explorer.data.quarantine import Reason, UnusableError

Members = dict[str, tarfile.TarInfo]
"""The files of one sample by lower-case extension."""


class WebdatasetSource(PairSource):
    """Pairs from tar shards, shard by shard in the order given.

    A sample is a run of files with one key: the path up to the first dot of its last part. Its caption is the
    ``.txt``, or else field ``caption`` of the ``.json``; its uid is the ``.json``'s ``uid`` (as in DataComp), or else
    ``SHARD/KEY``.
    """

    kind = "webdataset"

    def __init__(self, files: list[Path], *, caption_column: str | None = None) -> None:
        """``caption_column`` names a field of the ``.json`` that holds the caption instead of the ``.txt``."""
        self.files = tuple(files)
        self.caption_column = caption_column

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "caption_column": self.caption_column}

    def records(self, start: int = 0) -> Iterator[Record]:
        number = 0
        for path, shard in named_files(self.files):
            try:
                # Only plain tar: a compressed one could not be entered at a later record.
                archive = tarfile.open(path, "r:")  # noqa: SIM115 - closed below, after the problem is told apart
            except (tarfile.TarError, OSError) as error:
                if number >= start:
                    yield unreadable_shard(shard, str(error))
                number += 1
                continue
            with archive:
                for key, members in _samples(archive):
                    if number >= start:
                        yield self._record(archive, shard, key, members)
                    number += 1

    def _record(self, archive: tarfile.TarFile, shard: str, key: str, members: Members | UnusableError) -> Record:
        if isinstance(members, UnusableError):
            return unreadable_shard(shard, members.detail)
        uid, place = f"{shard.removesuffix('.tar')}/{key}", f"{shard}:{key}"
        try:
            metadata = {}
            if "json" in members:
                text = _read(archive, members["json"], MAX_TEXT_BYTES, Reason.UNREADABLE_METADATA)
                metadata = parse_metadata(text, f"{key}.json")
            uid = given_uid(metadata, uid)
            caption = self._caption(archive, key, members, metadata)
            extension = first_of(IMAGE_EXTENSIONS, members)
            if extension is None:
                raise UnusableError(Reason.NO_IMAGE, f"found only {sorted(members) or 'no regular file'}")
            image = _read(archive, members[extension], MAX_IMAGE_BYTES, Reason.LARGE_IMAGE)
        except UnusableError as problem:
            return Record(uid=uid, place=place, problem=problem)
        return Record(uid=uid, place=place, image=image, caption=caption, metadata=metadata)

    def _caption(self, archive: tarfile.TarFile, key: str, members: Members, metadata: dict[str, Any]) -> str:
        if self.caption_column is None and "txt" in members:
            return decode_text(_read(archive, members["txt"], MAX_TEXT_BYTES, Reason.LONG_CAPTION), f"{key}.txt")
        return caption_of(metadata, self.caption_column or "caption")


def _samples(archive: tarfile.TarFile) -> Iterator[tuple[str, Members | UnusableError]]:
    """Runs of files with one key; after a damaged archive's last readable one, the problem in place of a sample."""
    current: str | None = None
    members: Members = {}
    for found in _members(archive):
        if isinstance(found, UnusableError):
            if current is not None:
                yield current, members
            yield "", found
            return
        key, extension = _split_name(found.name)
        # An extension that comes again begins a second sample of the same key, to be set aside as a duplicate.
        if current is not None and (key != current or extension in members):
            yield current, members
            members = {}
        current = key
        if found.isreg():  # a link inside an archive could stand for any other file
            members[extension] = found
    if current is not None:
        yield current, members


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo | UnusableError]:
    """Every member with an extension, and the problem where an archive is damaged."""
    while True:
        try:
            member = archive.next()
        # Headers are untrusted input; tarfile lets more than its own errors out of them.
        except Exception as error:
            yield UnusableError(Reason.UNREADABLE_SHARD, f"{error or type(error).__name__}")
            return
        if member is None:
            break
        archive.members = []  # tarfile would keep every header of the shard
        base = member.name.rpartition("/")[2]
        if "." in base and not base.startswith(".") and not member.isdir():
            yield member
    # tarfile takes a header it cannot read for the end; the true end is a block of zeros.
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        found = "the file ends" if len(block) < tarfile.BLOCKSIZE else "no readable header"
        yield UnusableError(Reason.UNREADABLE_SHARD, f"{found} at byte {archive.offset}: expected the end marker")


def _split_name(name: str) -> tuple[str, str]:
    folder, slash, base = printable(name.removeprefix("./")).rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int, too_long: Reason) -> bytes:
    name = printable(member.name)
    if member.size > limit:  # a sparse member can claim any size
        raise UnusableError(too_long, f"{name} has {member.size} bytes: expected at most {limit}")
    try:
        return archive.extractfile(member).read()
    except (tarfile.TarError, OSError) as error:
        raise UnusableError(Reason.UNREADABLE_SHARD, f"{name}: {error}") from error
