"""Parquet files of encoded pictures and captions, as dataset hubs publish them and img2dataset can write them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.data.pair_source import (
    MAX_IMAGE_BYTES,
    PairSource,
    Record,
    first_of,
    given_uid,
    named_files,
    unreadable_shard,
)
from explorer.data.quarantine import Reason, UnusableError

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp", "image_bytes", "bytes")
CAPTION_COLUMNS = ("caption", "text", "TEXT", "prompt", "label", "labels", "fine_label")
"""Text columns come first: a label is taken only where there is no caption."""
ROWS_AT_ONCE = 64


class ParquetSource(PairSource):
    """Pairs from parquet files, a few rows at a time, in the order of files and rows.

    The image column holds encoded pictures: ``struct<bytes, path>`` or plain binary. The caption column holds text, or
    class numbers whose names the file's Hugging Face metadata or ``label_names`` give. Other columns of plain values
    become metadata, unless several have one name.
    """

    def __init__(
        self,
        files: list[Path],
        *,
        caption_column: str | None = None,
        label_names: tuple[str, ...] | None = None,
        kind: str = "parquet",
    ) -> None:
        """Open nothing but the first readable file's schema, which decides the columns.

        Raises:
            ValueError: if no image or caption column is found, or it holds something else, or several have its name.
        """
        self.kind = kind
        self.files = tuple(files)
        self.label_names = label_names
        self.image_column, self.caption_column = self._columns(caption_column)

    def settings(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "image_column": self.image_column,
            "caption_column": self.caption_column,
            "label_names": None if self.label_names is None else list(self.label_names),
        }

    def records(self, start: int = 0) -> Iterator[Record]:
        from pyarrow import ArrowException

        number = 0
        for path, shard in named_files(self.files):
            try:
                file = _open(path)
                self._check_columns(file.schema_arrow)
            except (ArrowException, OSError, ValueError) as error:
                if number >= start:
                    yield unreadable_shard(shard, str(error))
                number += 1
                continue
            with file:
                yield from self._file_records(file, shard, max(start - number, 0))
                number += file.metadata.num_rows

    def _file_records(self, file: ParquetFile, shard: str, start: int) -> Iterator[Record]:
        first_row = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first_row + rows > start:
                yield from self._group_records(file, shard, group, first_row, max(start - first_row, 0))
            first_row += rows

    def _group_records(self, file: ParquetFile, shard: str, group: int, first_row: int, skip: int) -> Iterator[Record]:
        rows, done, problem = file.metadata.row_group(group).num_rows, 0, None
        batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=self._wanted(file), use_threads=False)
        while done < rows and problem is None:
            try:
                batch = next(batches)
            # Pages are untrusted input and their decoders raise more than Arrow's own errors.
            except Exception as error:
                problem = UnusableError(Reason.UNREADABLE_SHARD, f"row group {group}: {error or 'ends early'}")
                break
            if done + batch.num_rows > skip:
                for index in range(max(skip - done, 0), batch.num_rows):
                    yield self._record(batch, index, shard, first_row + done + index)
            done += batch.num_rows
        # Every row keeps its number, so that a damaged row group costs its own rows and shifts no others.
        for row in range(first_row + max(done, skip), first_row + rows):
            yield Record(uid=_uid(shard, row), place=f"{shard}:{row}", problem=problem)

    def _record(self, batch: pyarrow.RecordBatch, index: int, shard: str, row: int) -> Record:
        uid, place = _uid(shard, row), f"{shard}:{row}"
        try:
            metadata = {name: _plain(batch.column(name)[index]) for name in batch.schema.names if self._is_extra(name)}
            uid = given_uid(metadata, uid)
            caption = self._caption(batch.column(self.caption_column)[index])
            image = _encoded(batch.column(self.image_column)[index])
        except UnusableError as problem:
            return Record(uid=uid, place=place, problem=problem)
        return Record(uid=uid, place=place, image=image, caption=caption, metadata=metadata)

    def _is_extra(self, name: str) -> bool:
        return name not in (self.image_column, self.caption_column)

    def _caption(self, cell: pyarrow.Scalar) -> str:
        if not cell.is_valid:
            raise UnusableError(Reason.NO_CAPTION, f"column {self.caption_column!r} is null")
        value = _text(cell)
        if isinstance(value, str):
            return value
        if self.label_names is None or not 0 <= value < len(self.label_names):
            known = 0 if self.label_names is None else len(self.label_names)
            raise UnusableError(Reason.NO_CAPTION, f"label {value} has no name: expected 0 to {known - 1}")
        return self.label_names[value]

    def _check_columns(self, schema: pyarrow.Schema) -> None:
        """Refuse a file whose columns are not those of the first."""
        from pyarrow import types

        _check_once(schema, self.image_column, self.caption_column)
        image, caption = (
            _stored_type(schema.field(name).type) if name in schema.names else None
            for name in (self.image_column, self.caption_column)
        )
        numbers = caption is not None and types.is_integer(caption) and self.label_names is not None
        if image is None or not _holds_bytes(image) or not (numbers or (caption is not None and _is_text(caption))):
            raise ValueError(
                f"columns {_described(schema)}: expected {self.image_column!r} and {self.caption_column!r} as in the "
                "first file"
            )

    def _columns(self, caption_column: str | None) -> tuple[str, str]:
        """Names of image and caption column, by the first file that can be opened."""
        import pyarrow

        schema, path = _first_schema(self.files)
        image = first_of(IMAGE_COLUMNS, schema.names)
        caption = caption_column or first_of(CAPTION_COLUMNS, schema.names)
        _check_once(schema, image, caption, place=f"{path}: ")
        if image is None or not _holds_bytes(schema.field(image).type):
            raise ValueError(
                f"{path} has the columns {_described(schema)}: expected encoded pictures (binary, or a struct with "
                f"bytes) in one of {', '.join(IMAGE_COLUMNS)}"
            )
        if caption is None or caption not in schema.names:
            expected = caption_column or f"one of {', '.join(CAPTION_COLUMNS)}; name another as the caption column"
            raise ValueError(f"{path} has the columns {_described(schema)}: expected captions in {expected}")
        kind = _stored_type(schema.field(caption).type)
        if pyarrow.types.is_integer(kind):
            self.label_names = self.label_names or _class_names(schema, caption)
            if self.label_names is None:
                raise ValueError(
                    f"{path}: column {caption!r} holds class numbers without names: expected captions, a ClassLabel "
                    "column, or kind cifar10"
                )
        elif not _is_text(kind):
            raise ValueError(f"{path}: column {caption!r} holds {kind}: expected text or class numbers")
        return image, caption

    def _wanted(self, file: ParquetFile) -> list[str]:
        uses = Counter(file.schema_arrow.names)
        plain = [field.name for field in file.schema_arrow if _is_plain(field.type) and uses[field.name] == 1]
        return [self.image_column, self.caption_column, *(name for name in plain if self._is_extra(name))]


def _open(path: Path) -> ParquetFile:
    from pyarrow import parquet

    return parquet.ParquetFile(path)


def _first_schema(files: tuple[Path, ...]) -> tuple[pyarrow.Schema, Path]:
    from pyarrow import ArrowException

    problems = []
    for path in files:
        try:
            with _open(path) as file:
                return file.schema_arrow, path
        except (ArrowException, OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
    raise ValueError(f"no readable parquet file: {problems[0]}")


def _check_once(schema: pyarrow.Schema, *names: str | None, place: str = "") -> None:
    """Refuse columns of one name: which of them is meant nobody can say."""
    for name in names:
        if (count := schema.names.count(name)) > 1:
            raise ValueError(f"{place}{count} columns are named {name!r}: expected one")


def _described(schema: pyarrow.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _stored_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    from pyarrow import types

    return kind.value_type if types.is_dictionary(kind) else kind


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind)


def _is_plain(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    kind = _stored_type(kind)
    return _is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _class_names(schema: pyarrow.Schema, column: str) -> tuple[str, ...] | None:
    """Names of a ClassLabel column by the metadata that Hugging Face's datasets library writes."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _text(cell: pyarrow.Scalar) -> Any:
    """A plain cell's value.

    Raises:
        UnusableError: if it is text but no UTF-8, which Arrow does not check when it reads.
    """
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        raise UnusableError(Reason.NOT_UTF8, f"{error.reason} at byte {error.start}") from error


def _plain(cell: pyarrow.Scalar) -> Any:
    return _text(cell) if cell.is_valid else None


def _encoded(cell: pyarrow.Scalar) -> bytes:
    import pyarrow

    if cell.is_valid and pyarrow.types.is_struct(cell.type):
        cell = cell["bytes"]  # a path beside it would lead out of the file
    if not cell.is_valid:
        raise UnusableError(Reason.NO_IMAGE, "the picture is null: expected its bytes in the file")
    buffer = cell.as_buffer()
    if buffer.size > MAX_IMAGE_BYTES:
        raise UnusableError(Reason.LARGE_IMAGE, f"{buffer.size} bytes: expected at most {MAX_IMAGE_BYTES}")
    return buffer.to_pybytes()


def _uid(shard: str, row: int) -> str:
    return f"{shard.removesuffix('.parquet')}/{row:06d}"
