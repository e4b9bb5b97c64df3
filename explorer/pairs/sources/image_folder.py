"""A folder of picture files with captions from tables, from text files beside them or from class folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explorer.core.provenance import hash_json
from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import (
    IMAGE_EXTENSIONS,
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    Fields,
    FoundCaptions,
    PairSource,
    Record,
    decode_text,
    given_uid,
    parse_metadata,
    printable,
)
from explorer.pairs.sources.caption_tables import TABLE_EXTENSIONS, Row, read_rows
from explorer.pairs.sources.folder_listing import FolderListing, composed
from explorer.pairs.sources.regular_files import extension, read_regular
from explorer.pairs.sources.splits import (
    SPLIT_FIELD,
    WORDS,
    canonical,
    choose_split,
    labelled,
    left_out,
    split_in,
    split_of_file,
    split_of_folders,
)

CAPTIONS = ("auto", "table", "sidecar", "folder")
"""Where captions may be taken from; ``auto`` takes tables and files beside pictures, or else, where nothing that may
hold captions lies there, the names of folders."""


class ImageFolderSource(PairSource):
    """Pairs of a folder, pictures in the order of their paths, then rows that name no picture, then every file that is
    neither a picture nor read for one.

    A picture's caption is what a table (any csv, tsv, jsonl or parquet file whose header names pictures) or a file
    beside it (``.txt``, ``.caption``, ``.text``, or a field of a ``.json``) says; where both do and differ, the picture
    is set aside. Where there is neither in the whole folder, it is the name of the folder that the picture lies in.
    Links are not followed, since they could lead anywhere.
    """

    kind = "imagefolder"

    def __init__(
        self, root: Path, *, split: str | None = None, captions: str = "auto", fields: Fields | None = None
    ) -> None:
        """List the folder and read its tables.

        Args:
            split: read only this one, or all; None where there is but one.
            captions: one of ``CAPTIONS``.
            fields: of the tables and ``.json`` files, where they have none of the usual names.

        Raises:
            OSError: if the folder cannot be listed.
            ValueError: if the folder holds no pictures or no captions, or several splits of which none is chosen.
        """
        if captions not in CAPTIONS:
            raise ValueError(f"captions is {captions!r}: expected one of {', '.join(CAPTIONS)}")
        self.root, self.fields, self._asked = root, fields or Fields(), split
        self._listing = FolderListing.of(root)
        self._images, self._aside = self._listing.images, self._listing.aside
        self._check_pictures()
        self._rows: dict[str, Row] = {}
        self._problems: list[Row] = []
        if captions in ("auto", "table"):
            self._read_tables()
        self._leave_out_carriers(captions)
        self.captions = self._taken_from() if captions == "auto" else (captions,)
        self._keep_split(split)
        beside = {name for names in self._listing.beside.values() for name in names} - self._listing.linked
        self.files = tuple(root / name for name in sorted({*self._listing.images, *self._listing.tables, *beside}))

    def settings(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "captions": list(self.captions),
            "fields": self.fields.as_dict(),
            "split": self._asked,
            "set_aside": hash_json(sorted(map(printable, {*self._aside, *self._listing.linked}))),
        }

    def records(self, start: int = 0) -> Iterator[Record]:
        for name in self._images[start:]:
            yield self._record(name)
        strays = [Record(uid=row.place, place=row.place, problem=row.problem) for row in self._problems]
        strays += [
            Record(uid=printable(name), place=printable(name), problem=problem)
            for name, problem in sorted(self._aside.items())
        ]
        yield from strays[max(start - len(self._images), 0) :]

    def _check_pictures(self) -> None:
        if not self._images:
            besides = f" besides {len(self._aside)} files that are not read" if self._aside else ""
            raise ValueError(
                f"{self.root} holds no pictures{besides}: expected files named {', '.join(IMAGE_EXTENSIONS)}"
            )

    def _leave_out_carriers(self, captions: str) -> None:
        """Set aside what could hold captions and was not asked for."""
        listing = self._listing
        problem = UnusableError(Reason.UNKNOWN_FILE, f"captions are taken from {captions} only, as asked for")
        if captions in ("sidecar", "folder"):
            self._aside |= dict.fromkeys(listing.tables, problem)
            listing.tables = []
        if captions in ("table", "folder"):
            self._aside |= {name: problem for names in listing.beside.values() for name in names}
            listing.beside.clear()
            listing.linked.clear()

    def _read_tables(self) -> None:
        """Rows by the picture they name, and rows that name none."""
        known = {composed(name): name for name in self._images} | {name: name for name in self._images}
        for table in self._listing.tables:
            for row in read_rows(self.root / table, printable(table), self.fields.image):
                try:
                    if row.problem is not None and row.image is None:
                        raise row.problem
                    name = self._picture_of(row.image, table, known)
                    if name in self._aside:
                        continue  # a record already
                    if name in self._rows:
                        raise UnusableError(Reason.DUPLICATE_UID, f"{printable(name)} is named by an earlier row")
                except UnusableError as problem:
                    self._problems.append(Row(place=row.place, problem=row.problem or problem))
                else:
                    self._rows[name] = row

    def _picture_of(self, image: Any, table: str, known: dict[str, str]) -> str:
        """The picture that a row names, with whatever slashes and composition of letters.

        Raises:
            UnusableError: if there is none, or the row names none.
        """
        folder = table.rpartition("/")[0]
        name = _inside(folder, image)
        if name not in known and "\\" in image:
            name = _inside(folder, image.replace("\\", "/"))
        name = known.get(name) or known.get(composed(name)) or name
        if name not in known and name not in self._aside:
            raise UnusableError(Reason.NO_IMAGE, f"{printable(name)}: no such picture")
        return name

    def _taken_from(self) -> tuple[str, ...]:
        # Captions whose table is a link are missing: to take them from elsewhere would give other captions unsaid.
        if self._listing.has_linked_table():
            return ("table",)
        if self._rows or any(self._listing.beside.values()):
            return ("table", "sidecar")
        folders = {_folder_of(name) for name in self._images}
        named = all(map(split_in, folders)) or any(canonical(name) in WORDS for name in folders)
        carrier = next(iter(self._listing.carriers()), None)
        if len(folders) < 2 or "" in folders or named or carrier is not None:
            row = next((f" ({row.place}: {row.problem.detail})" for row in self._problems), "")
            beside = "" if carrier is None else f", though {printable(carrier)} lies there and is not read{row}"
            raise ValueError(
                f"{self.root} holds {len(self._images)} pictures without captions{beside}: expected a table "
                f"({', '.join(TABLE_EXTENSIONS)}) with a header such as file_name,text; a .txt or .caption beside each "
                "picture; or a folder for each class (--captions folder takes the folders' names regardless)"
            )
        return ("folder",)

    def _keep_split(self, asked: str | None) -> None:
        """Leave out pictures of the splits that were not asked for."""
        self._split_of = {name: self._split(name) for name in self._images}
        if not any(self._split_of.values()):  # or by the pictures' own names, if all of them name one
            by_name = {name: split_in(os.path.splitext(os.path.basename(name))[0]) for name in self._images}
            self._split_of = by_name if all(by_name.values()) else self._split_of
        found = Counter(self._split_of.values())
        kept = choose_split(found, asked, str(self.root))
        self.left_out = left_out(found, kept)
        self._images = [name for name in self._images if self._split_of[name] in kept]

    def _split(self, name: str) -> str:
        if self.captions == ("folder",):
            return split_of_folders(os.path.dirname(name))  # the last folder is the class
        row = self._rows.get(name)
        fields = {} if row is None else {key.strip().casefold(): value for key, value in row.fields.items()}
        if isinstance(given := fields.get(SPLIT_FIELD), str) and given.strip():
            return canonical(given)
        return split_of_folders(name) or ("" if row is None else split_of_file(_table_of(row)))

    def _record(self, name: str) -> Record:
        place = printable(name)
        try:
            found, metadata = self._found(name)
            caption, source = found.chosen()
            uid = given_uid(metadata, place, self.fields.uid) if self.fields.uid else place
            image = read_regular(self.root / name, MAX_IMAGE_BYTES, Reason.LARGE_IMAGE, Reason.NO_IMAGE)
        except UnusableError as problem:
            return Record(uid=place, place=place, problem=problem)
        return Record(
            uid=uid, place=place, image=image, caption=caption, caption_source=source, metadata=metadata,
            split=labelled(self._split_of[name], self._asked),
        )  # fmt: skip

    def _found(self, name: str) -> tuple[FoundCaptions, dict[str, Any]]:
        """What is said of a picture: captions by their source, and everything else."""
        found, metadata = FoundCaptions(self.fields.caption), {}
        if self.captions == ("folder",):
            found.add("folder name", _folder_of(name))
            return found, metadata
        unknown = self._listing.unknown_beside.get(name)
        found.otherwise(f"found only {unknown}" if unknown else "found no table's row and no file beside the picture")
        if (row := self._rows.get(name)) is not None:
            if row.problem is not None:
                raise UnusableError(row.problem.reason, f"{row.place}: {row.problem.detail}")
            metadata |= row.fields
            found.add_fields(_table_of(row).rpartition("/")[2], row.fields)
        if "sidecar" in self.captions:
            for beside in self._listing.beside.get(name, ()):
                self._read_beside(beside, found, metadata)
        return found, metadata

    def _read_beside(self, name: str, found: FoundCaptions, metadata: dict[str, Any]) -> None:
        shown, kind = printable(name), extension(name)
        if name in self._listing.linked:
            raise UnusableError(Reason.LINK, f"{shown} is a link: expected a regular file")
        too_long = Reason.UNREADABLE_METADATA if kind == "json" else Reason.LONG_CAPTION
        data = read_regular(self.root / name, MAX_TEXT_BYTES, too_long, Reason.NO_CAPTION)
        if kind == "json":
            fields = parse_metadata(data, shown)
            metadata |= fields
            found.add_fields("sidecar .json", fields)
        else:
            found.add(f"sidecar .{kind}", decode_text(data, shown))


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _table_of(row: Row) -> str:
    return row.place.rpartition(":")[0]


def _inside(folder: str, name: Any) -> str:
    """A table's ``file_name`` as a path relative to the root.

    Raises:
        UnusableError: if it is missing or leads out of the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise UnusableError(Reason.UNREADABLE_METADATA, f"file_name is {name!r}: expected a path")
    path = os.path.normpath(os.path.join(folder, name))
    if os.path.isabs(name) or path.split(os.sep)[0] == os.pardir:
        raise UnusableError(Reason.OUTSIDE_FOLDER, f"file_name is {printable(name)!r}: expected a path in the folder")
    return Path(path).as_posix()
