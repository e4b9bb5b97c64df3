"""Webdataset shards as img2dataset writes them: tar files of ``KEY.jpg``, ``KEY.txt`` and ``KEY.json``.

Read with the standard library's ``tarfile`` from the archive itself; nothing is ever extracted to disk, so the names in
an archive can name no other place. The webdataset library is not used because its reader passes over a damaged
archive's end in silence, as ``tarfile`` does unless one looks at where it stopped.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import (
    CAPTION_EXTENSIONS,
    IMAGE_EXTENSIONS,
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    OTHER_IMAGE_EXTENSIONS,
    Fields,
    FoundCaptions,
    PairSource,
    Record,
    aside_settings,
    decode_text,
    given_uid,
    named_files,
    parse_metadata,
    printable,
    unreadable_shard,
)
from explorer.pairs.sources.splits import check_split, labelled, split_of_folders

Members = dict[str, tarfile.TarInfo]
"""The files of one sample by lower-case extension."""
LONGEST_RUN = 4096
"""Files of one key that are looked at together."""
_TEXTS = (*CAPTION_EXTENSIONS, "json")
_PICTURES = (*IMAGE_EXTENSIONS, *OTHER_IMAGE_EXTENSIONS)


class WebdatasetSource(PairSource):
    """Pairs from tar shards, shard by shard in the order given.

    A sample is a run of files with one key: the path up to the first dot of its last part, or, where keys hold dots
    themselves, up to the last one: what has a caption's file of its own is a sample of its own. Its caption is the
    ``.txt`` (``.caption``, ``.text``) or a field of the ``.json``; its uid is the ``.json``'s ``uid`` (as in DataComp),
    or else ``SHARD/KEY``. Every file of a shard belongs to a record; of further pictures beside the sample's own, each
    is one.
    """

    kind = "webdataset"

    def __init__(
        self,
        files: Sequence[Path],
        *,
        fields: Fields | None = None,
        split: str | None = None,
        splits: Mapping[Path, str] | None = None,
        aside: Sequence[Record] = (),
    ) -> None:
        """``fields`` name the picture's extension and the ``.json``'s fields; ``splits`` are those of the files, of
        which ``split`` was asked for; ``aside`` is what else lies there."""
        self.files, self.aside = tuple(files), tuple(aside)
        self.fields, self.split, self._splits = fields or Fields(), split, splits or {}

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "fields": self.fields.as_dict(), "split": self.split, **aside_settings(self.aside)}

    def records(self, start: int = 0) -> Iterator[Record]:
        number, first = 0, None
        for path, shard in named_files(self.files):
            opened = ExitStack()
            try:
                stream = opened.enter_context(path.open("rb"))
                # Only plain tar: a compressed one could not be entered at a later record.
                archive = opened.enter_context(tarfile.open(fileobj=stream, mode="r:"))  # noqa: SIM115
            except (tarfile.TarError, OSError) as error:
                opened.close()
                if number >= start:
                    yield unreadable_shard(shard, str(error))
                number += 1
                continue
            with opened:
                for key, members in _samples(archive, self.fields.image):
                    split = self._splits.get(path, "") or split_of_folders(key)
                    first = split if first is None else first
                    if number >= start:
                        yield self._record(archive, shard, key, members, split, first)
                    number += 1
        yield from self.aside[max(start - number, 0) :]

    def _record(
        self, archive: tarfile.TarFile, shard: str, key: str, members: Members | UnusableError, split: str, first: str
    ) -> Record:
        if isinstance(members, UnusableError) and members.reason == Reason.UNREADABLE_SHARD:
            return unreadable_shard(shard, members.detail)
        uid, place = f"{shard.removesuffix('.tar')}/{key}", f"{shard}:{key}"
        try:
            if isinstance(members, UnusableError):
                raise members
            check_split(split, self.split, first, named=any(self._splits.values()))
            metadata = {}
            if "json" in members:
                text = _read(archive, members["json"], MAX_TEXT_BYTES, Reason.UNREADABLE_METADATA)
                metadata = parse_metadata(text, f"{key}.json")
            uid = given_uid(metadata, uid, self.fields.uid)
            caption, source = self._captions(archive, key, members, metadata).chosen()
            extension = _image_extension(members, self.fields.image)
            image = _read(archive, members[extension], MAX_IMAGE_BYTES, Reason.LARGE_IMAGE)
        except UnusableError as problem:
            return Record(uid=uid, place=place, problem=problem)
        return Record(
            uid=uid, place=place, image=image, caption=caption, caption_source=source, metadata=metadata,
            split=labelled(split, self.split),
        )  # fmt: skip

    def _captions(
        self, archive: tarfile.TarFile, key: str, members: Members, metadata: dict[str, Any]
    ) -> FoundCaptions:
        found = FoundCaptions(self.fields.caption)
        found.otherwise(f"found only {sorted(members) or 'no regular file'}")
        for extension in CAPTION_EXTENSIONS:
            if extension in members:
                data = _read(archive, members[extension], MAX_TEXT_BYTES, Reason.LONG_CAPTION)
                found.add(f"member .{extension}", decode_text(data, f"{key}.{extension}"))
        if "json" in members:
            found.add_fields("member .json", metadata)
        return found


def _image_extension(members: Members, named: str | None) -> str:
    if named is not None:
        pictures = [extension for extension in members if extension == named.removeprefix(".").lower()]
    else:
        pictures = [extension for extension in members if extension in IMAGE_EXTENSIONS]
    if not pictures:
        raise UnusableError(Reason.NO_IMAGE, f"found only {sorted(members) or 'no regular file'}")
    if len(pictures) > 1:
        raise UnusableError(Reason.SEVERAL_IMAGES, f"{', '.join(sorted(pictures))}: expected one; name the extension")
    return pictures[0]


def _samples(archive: tarfile.TarFile, image: str | None) -> Iterator[tuple[str, Members | UnusableError]]:
    """Runs of files with one key, taken apart; after a damaged archive's last readable one, the problem instead."""
    current: str | None = None
    run: dict[str, tarfile.TarInfo] = {}
    for found in _members(archive):
        if isinstance(found, UnusableError):
            yield from _taken_apart(current, run, image)
            yield "", found
            return
        key, extension = _split_name(found.name)
        if key.rpartition("/")[2] == "":
            yield printable(found.name), UnusableError(Reason.HIDDEN, "its name begins with a dot")
            continue
        # An extension that comes again begins a second sample of the same key, to be set aside as a duplicate.
        if key != current or extension in run:
            yield from _taken_apart(current, run, image)
            run = {}
        elif len(run) >= LONGEST_RUN:
            last = extension_stem(next(reversed(run)))  # which may be unfinished
            begun = {name: member for name, member in run.items() if extension_stem(name) == last}
            begun = begun if len(begun) < LONGEST_RUN // 2 else {}
            whole = _taken_apart(current, run, image)
            yield from (sample for sample in whole if not begun or sample[0] != _joined(current, last))
            run = begun
        current = key
        run[extension] = found
    yield from _taken_apart(current, run, image)


def extension_stem(extension: str) -> str:
    """What stands before the last dot: ``mask`` in ``mask.png``."""
    return extension.rpartition(".")[0]


def _joined(key: str | None, stem: str) -> str:
    return f"{key}.{stem}" if stem else f"{key}"


def _taken_apart(
    key: str | None, run: dict[str, tarfile.TarInfo], image: str | None
) -> Iterator[tuple[str, Members | UnusableError]]:
    """The samples in a run of files whose names agree up to their first dot."""
    stems: dict[str, Members] = {}
    for extension, member in run.items():
        stems.setdefault(extension_stem(extension), {})[extension.rpartition(".")[2]] = member
    own = [stem for stem, members in stems.items() if any(text in members for text in _TEXTS)]
    if not own:
        own = [""] if "" in stems else list(stems)
    compound = image is not None and "." in image.removeprefix(".") and own == [""]
    for stem, members in stems.items():
        regular = {extension: member for extension, member in members.items() if member.isreg()}
        if stem in own:
            if compound:
                regular |= {name.lower(): member for name, member in run.items() if member.isreg()}
            yield _joined(key, stem), regular  # a link inside an archive could stand for any other file
        elif compound:
            continue  # named or not, further pictures are part of their sample
        elif any(extension in _PICTURES for extension in members):
            said = "a further picture of its sample, or one without a caption: name its extension to read it"
            yield _joined(key, stem), UnusableError(Reason.SEVERAL_IMAGES, said)
        elif "" not in own:
            yield _joined(key, stem), regular


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo | UnusableError]:
    """Every member but folders, and the problem where an archive is damaged."""
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
        if not member.isdir():
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
    middle, dot, last = extension.rpartition(".")
    return f"{folder}{slash}{stem}", f"{middle}{dot}{last.lower()}"


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int, too_long: Reason) -> bytes:
    name = printable(member.name)
    if member.size > limit:  # a sparse member can claim any size
        raise UnusableError(too_long, f"{name} has {member.size} bytes: expected at most {limit}")
    try:
        return archive.extractfile(member).read()
    except (tarfile.TarError, OSError) as error:
        raise UnusableError(Reason.UNREADABLE_SHARD, f"{name}: {error}") from error
