"""A folder of picture files with captions from a metadata table, from text files beside them or from class folders."""

from __future__ import annotations

import csv
import io
import os
import threading
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
    parse_metadata,
    printable,
)
from explorer.data.quarantine import Reason, UnusableError
from explorer.provenance import hash_json

TABLE_NAMES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv")
"""Tables as Hugging Face's imagefolder reads them: ``file_name``, relative to the table, and a caption."""
CAPTION_FIELDS = ("text", "caption", "prompt", "label")
SPLIT_FOLDERS = {"train", "test", "val", "valid", "validation"}
"""Folder names that say where a picture belongs, not what it shows."""
_CSV_LIMIT = threading.Lock()
"""Held where the csv module's limit is raised, which is the whole process's."""


class ImageFolderSource(PairSource):
    """Pairs of a folder, pictures in the order of their paths, then what a table names but the folder lacks, then what
    is set aside: links and folders that cannot be listed.

    Captions come from one place for the whole folder, the first there is of: tables (``TABLE_NAMES``), a ``.txt``
    beside each picture (with img2dataset's ``.json`` where there is one), the name of the folder a picture lies in.
    Links are not followed, since they could lead anywhere.
    """

    kind = "imagefolder"

    def __init__(self, root: Path, *, caption_column: str | None = None) -> None:
        """List the folder; ``caption_column`` names the caption's field in the tables.

        Raises:
            OSError: if the folder cannot be listed.
            ValueError: if the folder holds no pictures, or no captions.
        """
        self.root = root
        self.caption_column = caption_column
        found, links, self._unread = _list_files(root)
        self._images = [name for name in found if _extension(name) in IMAGE_EXTENSIONS]
        self._tables = [name for name in found if _is_table(name)]
        beside = {os.path.splitext(name)[0] for name in self._images}
        texts = (name for name in [*found, *links] if name.endswith((".txt", ".json")))
        self._texts = {name for name in texts if os.path.splitext(name)[0] in beside}
        self._linked_texts = self._texts.intersection(links)
        self._unread |= {
            name: _link("file") for name in links if _extension(name) in IMAGE_EXTENSIONS or _is_table(name)
        }
        self.captions = self._captions_from()
        read = [*self._images, *self._tables, *(self._texts - self._linked_texts)]
        self.files = tuple(root / name for name in sorted(read))

    def settings(self) -> dict[str, Any]:
        settings = {"kind": self.kind, "captions": self.captions, "caption_column": self.caption_column}
        if unread := sorted(map(printable, {*self._unread, *self._linked_texts})):
            settings["unread"] = hash_json(unread)
        return settings

    def records(self, start: int = 0) -> Iterator[Record]:
        entries, strays = self._read_tables() if self.captions == "table" else ({}, [])
        known = set(self._images)
        strays += [
            Record(uid=printable(name), place=printable(name), problem=UnusableError(Reason.NO_IMAGE, "no such file"))
            for name in entries
            if name not in known and name not in self._unread
        ]
        strays += [
            Record(uid=printable(name), place=printable(name), problem=self._unread[name])
            for name in sorted(self._unread)
        ]
        for name in self._images[start:]:
            yield self._record(name, entries)
        yield from strays[max(start - len(self._images), 0) :]

    def _captions_from(self) -> str:
        aside = f" besides {len(self._unread)} links or unreadable folders" if self._unread else ""
        if not self._images:
            raise ValueError(
                f"{self.root} holds no pictures{aside}: expected files named {', '.join(IMAGE_EXTENSIONS)}"
            )
        # Captions whose files are links are missing: to take them from elsewhere would give other captions unsaid.
        if self._tables or any(map(_is_table, self._unread)):
            return "table"
        if any(name.endswith(".txt") for name in self._texts):
            return "text"
        folders = {name.rpartition("/")[0].rpartition("/")[2] for name in self._images}
        if len(folders) < 2 or folders & {"", *SPLIT_FOLDERS}:
            raise ValueError(
                f"{self.root} holds {len(self._images)} pictures without captions{aside}: expected "
                f"{' or '.join(TABLE_NAMES)}, a .txt beside each picture, or a folder for each class"
            )
        return "folder"

    def _record(self, name: str, entries: dict[str, dict[str, Any] | UnusableError]) -> Record:
        place = printable(name)
        try:
            caption, metadata = self._caption(name, entries)
            image = _read(self.root / name, MAX_IMAGE_BYTES, Reason.LARGE_IMAGE, Reason.NO_IMAGE)
        except UnusableError as problem:
            return Record(uid=place, place=place, problem=problem)
        return Record(uid=place, place=place, image=image, caption=caption, metadata=metadata)

    def _caption(self, name: str, entries: dict[str, dict[str, Any] | UnusableError]) -> tuple[str, dict[str, Any]]:
        if self.captions == "folder":
            return name.rpartition("/")[0].rpartition("/")[2], {}
        if self.captions == "text":
            return self._text_beside(name)
        entry = entries.get(name)
        if entry is None:
            raise UnusableError(Reason.NO_CAPTION, "no table names this picture")
        if isinstance(entry, UnusableError):
            raise entry
        field = self.caption_column or first_of(CAPTION_FIELDS, entry)
        return caption_of(entry, field or CAPTION_FIELDS[0]), entry

    def _text_beside(self, name: str) -> tuple[str, dict[str, Any]]:
        stem, metadata = os.path.splitext(name)[0], {}
        if f"{stem}.json" in self._texts:
            data = self._read_text(f"{stem}.json", *[Reason.UNREADABLE_METADATA] * 2)
            metadata = parse_metadata(data, printable(f"{stem}.json"))
        if f"{stem}.txt" not in self._texts:
            raise UnusableError(Reason.NO_CAPTION, "no .txt beside the picture")
        data = self._read_text(f"{stem}.txt", Reason.LONG_CAPTION, Reason.NO_CAPTION)
        return decode_text(data, printable(f"{stem}.txt")), metadata

    def _read_text(self, name: str, too_long: Reason, unreadable: Reason) -> bytes:
        if name in self._linked_texts:
            raise UnusableError(Reason.LINK, f"{printable(name)} {_link('file').detail}")
        return _read(self.root / name, MAX_TEXT_BYTES, too_long, unreadable)

    def _read_tables(self) -> tuple[dict[str, dict[str, Any] | UnusableError], list[Record]]:
        """Rows by the picture they name, and rows that name none as records of their own."""
        entries: dict[str, dict[str, Any] | UnusableError] = {}
        strays: list[Record] = []
        for table in self._tables:
            folder = table.rpartition("/")[0]
            for number, row in _rows(self.root / table):
                place = f"{printable(table)}:{number}"
                if isinstance(row, UnusableError):
                    strays.append(Record(uid=place, place=place, problem=row))
                    continue
                try:
                    name = _inside(folder, row.get("file_name"))
                    if name in entries:
                        raise UnusableError(Reason.DUPLICATE_UID, f"{name} is named by an earlier row")
                except UnusableError as problem:
                    strays.append(Record(uid=place, place=place, problem=problem))
                    continue
                entries[name] = {key: value for key, value in row.items() if key != "file_name"}
        return entries, strays


def _list_files(root: Path) -> tuple[list[str], list[str], dict[str, UnusableError]]:
    """What lies below ``root``, hidden names left out, as paths relative to it.

    Returns:
        Regular files and links to files, both sorted, and the folders that are not entered, with the reason.
    """
    found: list[str] = []
    links: list[str] = []
    unread: dict[str, UnusableError] = {}

    def set_aside(error: OSError) -> None:
        if Path(error.filename) == root:
            raise error
        unread[Path(error.filename).relative_to(root).as_posix()] = UnusableError(
            Reason.UNREADABLE_FOLDER, f"{error.strerror}: expected a folder that can be listed"
        )

    for folder, folders, names in os.walk(root, onerror=set_aside):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        unread |= {(relative / name).as_posix(): _link("folder") for name in linked}
        for name in names:
            if not name.startswith("."):
                kind = links if os.path.islink(os.path.join(folder, name)) else found
                kind.append((relative / name).as_posix())
    return sorted(found), sorted(links), unread


def _link(expected: str) -> UnusableError:
    return UnusableError(Reason.LINK, f"is a link: expected a regular {expected}")


def _is_table(name: str) -> bool:
    return name.rpartition("/")[2] in TABLE_NAMES


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].removeprefix(".").lower()


def _inside(folder: str, name: Any) -> str:
    """A table's ``file_name`` as a path relative to the root.

    Raises:
        UnusableError: if it is missing or leads out of the folder.
    """
    if not isinstance(name, str) or not name:
        raise UnusableError(Reason.UNREADABLE_METADATA, f"file_name is {name!r}: expected a path")
    path = os.path.normpath(os.path.join(folder, name))
    if os.path.isabs(name) or path.split(os.sep)[0] == os.pardir:
        raise UnusableError(Reason.OUTSIDE_FOLDER, f"file_name is {printable(name)!r}: expected a path in the folder")
    return Path(path).as_posix()


def _read(path: Path, limit: int, too_long: Reason, unreadable: Reason) -> bytes:
    try:
        with open(path, "rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UnusableError(unreadable, str(error)) from error
    if len(data) > limit:
        raise UnusableError(too_long, f"{printable(path.name)} has more than {limit} bytes")
    return data


def _rows(table: Path) -> Iterator[tuple[int, dict[str, Any] | UnusableError]]:
    """Numbered rows of a table from 1 on, or what is wrong with one; a table that is no text is one problem."""
    try:
        text = decode_text(table.read_bytes(), printable(table.name))
    except (OSError, UnusableError) as error:
        yield 0, UnusableError(Reason.UNREADABLE_METADATA, str(error))
        return
    if table.suffix == ".csv":
        yield from enumerate(_csv_rows(text), start=1)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, parse_metadata(line, f"line {number}")
            except UnusableError as problem:
                yield number, problem


def _csv_rows(text: str) -> list[dict[str, Any] | UnusableError]:
    """All rows; one with a field of any length is read, since the reader could not go on behind a field it refused."""
    with _CSV_LIMIT:
        limit = csv.field_size_limit()
        csv.field_size_limit(max(limit, len(text)))
        try:
            return list(_parsed_rows(text))
        finally:
            csv.field_size_limit(limit)


def _parsed_rows(text: str) -> Iterator[dict[str, Any] | UnusableError]:
    reader = csv.DictReader(io.StringIO(text))
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield UnusableError(Reason.UNREADABLE_METADATA, str(error))
            return
        yield {key: value for key, value in row.items() if key is not None}
