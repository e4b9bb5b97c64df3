"""Tables beside a folder of pictures, row by row: a row that is not what the header says costs itself and no other."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import decode_text, first_of, parse_metadata, printable
from explorer.pairs.sources.regular_files import read_regular

TABLE_EXTENSIONS = ("csv", "tsv", "jsonl", "parquet")
IMAGE_FIELDS = ("file_name", "filename", "file", "image", "img", "image_path", "image_file", "path")
"""Usual names, in any case, of the field that names a row's picture, relative to the table."""
MAX_TABLE_BYTES = 2**30
MAX_COLUMNS = 2_000
MAX_ROW_LINES = 200
"""Lines that one quoted field may run over."""
_DELIMITERS = (",", ";", "\t", "|")
_CSV_LIMIT = threading.Lock()
"""Held where the csv module's limit is raised, which is the whole process's."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table."""

    place: str
    """Where it lies, as in ``metadata.csv:12``."""
    image: Any = None
    """What names its picture; None where nothing does."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The others."""
    problem: UnusableError | None = None
    """What is wrong with it."""


def read_rows(path: Path, name: str, image_field: str | None = None) -> Iterator[Row]:
    """Every row of the table at ``path``, whole or with what is wrong with it; a table that cannot be read is one row.

    Args:
        name: printable path of the table, for places.
        image_field: the field that names the picture, where it is none of ``IMAGE_FIELDS``.
    """
    try:
        if path.suffix.lower() == ".parquet":
            yield from _parquet_rows(path, name, image_field)
            return
        data = read_regular(path, MAX_TABLE_BYTES, Reason.UNREADABLE_METADATA, Reason.UNREADABLE_METADATA)
        lines = re.split(r"\r\n|\n|\r", decode_text(data, name))
        read = _json_rows if path.suffix.lower() == ".jsonl" else _csv_rows
        yield from read(lines, name, image_field)
    except UnusableError as problem:
        yield Row(place=name, problem=problem)


def _json_rows(lines: list[str], name: str, image_field: str | None) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _row(parse_metadata(line, f"line {number}"), f"{name}:{number}", image_field)
            except UnusableError as problem:
                yield Row(place=f"{name}:{number}", problem=problem)


def _parquet_rows(path: Path, name: str, image_field: str | None) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    try:
        file = parquet.ParquetFile(path)
        columns = file.schema_arrow.names
        _check_header(columns, image_field)
        batches = file.iter_batches(1024)
        number = 0
        for batch in batches:
            for fields in batch.to_pylist():
                plain = {key: value for key, value in fields.items() if isinstance(value, str | int | float | None)}
                yield _row(plain, f"{name}:{number}", image_field)
                number += 1
    # Pages are untrusted input and their decoders raise more than Arrow's own errors.
    except (ArrowException, OSError, ValueError, TypeError) as error:
        raise UnusableError(Reason.UNREADABLE_METADATA, f"{name}: {error}") from error


def _row(fields: dict[str, Any], place: str, image_field: str | None) -> Row:
    named = _image_field(fields, image_field)
    rest = {key: value for key, value in fields.items() if key != named}
    return Row(place=place, image=fields.get(named), fields=rest)


def _image_field(names: Iterable[str], given: str | None) -> str:
    """The field that names the picture.

    Raises:
        UnusableError: if there is none.
    """
    names = list(names)
    usual = {name.strip().casefold(): name for name in reversed(names)}
    found = usual.get(first_of(IMAGE_FIELDS, usual) or "") if given is None else given if given in names else None
    if found is None:
        listed = ", ".join(map(printable, names[:6])) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        expected = repr(given) if given is not None else f"one of {', '.join(IMAGE_FIELDS)}"
        raise UnusableError(Reason.UNREADABLE_METADATA, f"fields are {listed or 'none'}: expected {expected}")
    return found


def _check_header(names: list[str], image_field: str | None) -> int:
    """The position of the field that names the picture.

    Raises:
        UnusableError: if there is none, a field is named twice, or there are too many.
    """
    if len(names) > MAX_COLUMNS:
        raise UnusableError(Reason.UNREADABLE_METADATA, f"{len(names)} columns: expected at most {MAX_COLUMNS}")
    seen: set[str] = set()
    for name in filter(None, (name.strip().casefold() for name in names)):
        if name in seen:
            raise UnusableError(Reason.UNREADABLE_METADATA, f"the header names {name!r} more than once")
        seen.add(name)
    return names.index(_image_field(names, image_field))


def _csv_rows(lines: list[str], name: str, image_field: str | None) -> Iterator[Row]:
    first = next((at for at, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise UnusableError(Reason.UNREADABLE_METADATA, "an empty table: expected a header")
    reader = _CsvLines(lines, first, image_field)
    at = first + 1
    while at < len(lines):
        if lines[at].strip():
            fields, end, problem = reader.read(at)
            yield reader.row(fields, f"{name}:{at + 1}", problem)
            at = end
        else:
            at += 1


class _CsvLines:
    """Rows out of a csv file's lines; where a quotation mark is not closed, reading goes on with the next line."""

    def __init__(self, lines: list[str], first: int, image_field: str | None) -> None:
        self._lines = lines
        header = lines[first]
        # The delimiter is the one by which the header names the pictures' field.
        for delimiter in _DELIMITERS:
            self._options = {"delimiter": delimiter, "skipinitialspace": f"{delimiter} " in header}
            try:
                self._names = [name.strip() for name in self._parsed(header)]
                self._image_at = _check_header(self._names, image_field)
                return
            except csv.Error as error:
                raise UnusableError(Reason.UNREADABLE_METADATA, f"header: {_in_words(error)}") from error
            except UnusableError as found:
                problem = found
                if len(self._names) > 1:
                    break
        raise problem

    def read(self, at: int) -> tuple[list[str], int, UnusableError | None]:
        """Fields of the row that begins in line ``at``, the line behind it, and what is wrong with it."""
        most = min(len(self._lines), at + MAX_ROW_LINES)
        for end in range(at + 1, most + 1):
            text = "\n".join(self._lines[at:end])
            try:
                fields = self._parsed(text)
            except csv.Error as error:
                if "unexpected end" in str(error):
                    continue
                return self._loose(at), at + 1, UnusableError(Reason.UNREADABLE_METADATA, _in_words(error))
            if any(self._is_row(line) for line in self._lines[at + 1 : end]):
                break
            if len(fields) != len(self._names):
                found = f"{len(fields)} fields, where the header has {len(self._names)}"
                hint = ": text with a delimiter in it needs quotation marks" if len(fields) > len(self._names) else ""
                return fields, end, UnusableError(Reason.UNREADABLE_METADATA, found + hint)
            return fields, end, None
        return self._loose(at), at + 1, UnusableError(Reason.UNREADABLE_METADATA, "a quotation mark is not closed")

    def row(self, fields: list[str], place: str, problem: UnusableError | None) -> Row:
        """The row of ``fields``; a broken one names its picture where its first field does."""
        if problem is not None:
            image = fields[0] if fields and self._image_at == 0 else None
            return Row(place=place, image=image, problem=problem)
        named = zip(self._names, fields, strict=True)
        rest = {name: value for at, (name, value) in enumerate(named) if name and at != self._image_at}
        return Row(place=place, image=fields[self._image_at], fields=rest)

    def _is_row(self, line: str) -> bool:
        """Whether a line within quotation marks is a row by itself: then the mark before it was left open."""
        fields = self._loose_fields(line)
        return len(fields) == len(self._names) and bool(re.search(r"\.\w{2,5}$", fields[self._image_at].strip()))

    def _loose(self, at: int) -> list[str]:
        return self._loose_fields(self._lines[at])

    def _loose_fields(self, line: str) -> list[str]:
        return line.split(self._options["delimiter"])

    def _parsed(self, text: str) -> list[str]:
        if len(text) <= csv.field_size_limit():
            return next(csv.reader([text], strict=True, **self._options), [])
        with _CSV_LIMIT:
            limit = csv.field_size_limit(len(text))
            try:
                return next(csv.reader([text], strict=True, **self._options), [])
            finally:
                csv.field_size_limit(limit)


def _in_words(error: csv.Error) -> str:
    return f"quotation marks out of place ({error})"
