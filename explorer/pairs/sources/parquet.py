"""Parquet files of encoded pictures and captions, as dataset hubs publish them and img2dataset can write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import (
    CAPTION_FIELDS,
    LABEL_FIELDS,
    MAX_IMAGE_BYTES,
    Fields,
    FoundCaptions,
    PairSource,
    Record,
    aside_settings,
    given_uid,
    named_files,
    unreadable_shard,
)
from explorer.pairs.sources.parquet_columns import (
    check_once,
    class_names,
    described,
    holds_bytes,
    is_plain,
    is_text,
    of_names,
    split_column,
    stored_type,
)
from explorer.pairs.sources.remote import RemoteFile
from explorer.pairs.sources.splits import SPLIT_FIELD, canonical, choose_split, labelled, left_out

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp", "image_bytes", "bytes")
"""Usual names, in any case, of the column of pictures."""
ROWS_AT_ONCE = 64


class ParquetSource(PairSource):
    """Pairs from parquet files, a few rows at a time, in the order of files and rows.

    The image column holds encoded pictures: ``struct<bytes, path>`` or plain binary. The caption column holds text, or
    class numbers whose names the file's Hugging Face metadata or ``label_names`` give. Other columns of plain values
    become metadata, unless several have one name.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        fields: Fields | None = None,
        split: str | None = None,
        splits: Mapping[Path, str] | None = None,
        aside: Sequence[Record] = (),
        label_names: tuple[str, ...] | None = None,
        kind: str = "parquet",
    ) -> None:
        """Open nothing but the first readable file's schema, which decides the columns, and a column of splits.

        Args:
            fields: names of columns, where they are not the usual ones.
            split: which was asked for; of the files' own splits, and of the rows' where a column says them.
            splits: those of the files.
            aside: what else lies there.

        Raises:
            ValueError: if no image or caption column is found, or several are, or it holds something else, or several
                have its name; if the rows belong to several splits and none is chosen.
        """
        self.kind = kind
        self.files, self.aside = tuple(files), tuple(aside)
        self.fields, self.split, self._splits = fields or Fields(), split, splits or {}
        self.label_names = label_names
        self.image_column, self.caption_column = self._columns()
        self._kept, self.left_out = self._choose_rows()

    def settings(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "image_column": self.image_column,
            "caption_column": self.caption_column,
            "uid_column": self.fields.uid,
            "split": self.split,
            "label_names": None if self.label_names is None else list(self.label_names),
            **aside_settings(self.aside),
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
                split = self._splits.get(path, "")
                yield from self._file_records(file, shard, split, max(start - number, 0))
                number += file.metadata.num_rows
        yield from self.aside[max(start - number, 0) :]

    def _choose_rows(self) -> tuple[set[str] | None, dict[str, int]]:
        """Which splits of a column of them are read, and how many rows of others there are; None where none says."""
        from pyarrow import ArrowException

        found: Counter[str] = Counter()
        for path in self.files:
            try:
                with _open(path) as file:
                    name = split_column(file.schema_arrow)
                    if name is not None:
                        cells = file.read(columns=[name])[name].to_pylist()
                        found.update(canonical(cell) if cell else "" for cell in cells)
            except (ArrowException, OSError, ValueError):
                continue  # records() says what is wrong with it
        if not any(found):
            return None, {}
        kept = choose_split(found, self.split, f"column {SPLIT_FIELD!r}")
        return kept, left_out(found, kept)

    def _file_records(self, file: ParquetFile, shard: str, split: str, start: int) -> Iterator[Record]:
        first_row = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first_row + rows > start:
                yield from self._group_records(file, shard, split, group, first_row, max(start - first_row, 0))
            first_row += rows

    def _group_records(
        self, file: ParquetFile, shard: str, split: str, group: int, first_row: int, skip: int
    ) -> Iterator[Record]:
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
                    yield self._record(batch, index, shard, split, first_row + done + index)
            done += batch.num_rows
        # Every row keeps its number, so that a damaged row group costs its own rows and shifts no others.
        for row in range(first_row + max(done, skip), first_row + rows):
            yield Record(uid=_uid(shard, row), place=f"{shard}:{row}", problem=problem)

    def _record(self, batch: pyarrow.RecordBatch, index: int, shard: str, split: str, row: int) -> Record:
        uid, place = _uid(shard, row), f"{shard}:{row}"
        try:
            metadata = {name: _plain(batch.column(name)[index]) for name in batch.schema.names if self._is_extra(name)}
            uid = given_uid(metadata, uid, self.fields.uid)
            split = self._split(metadata, split)
            caption, source = self._caption(batch.column(self.caption_column)[index])
            image = _encoded(batch.column(self.image_column)[index])
        except UnusableError as problem:
            return Record(uid=uid, place=place, problem=problem)
        return Record(
            uid=uid, place=place, image=image, caption=caption, caption_source=source, metadata=metadata, split=split
        )

    def _split(self, metadata: dict[str, Any], of_file: str) -> str:
        if self._kept is None:
            return labelled(of_file, self.split)
        name = next((name for name in metadata if name.strip().casefold() == SPLIT_FIELD), None)
        found = canonical(metadata[name]) if name and metadata[name] else ""
        if found not in self._kept:
            raise UnusableError(Reason.OTHER_SPLIT, f"{found or 'no split'}: expected {', '.join(sorted(self._kept))}")
        return found

    def _is_extra(self, name: str) -> bool:
        return name not in (self.image_column, self.caption_column)

    def _caption(self, cell: pyarrow.Scalar) -> tuple[str, str]:
        value = _text(cell) if cell.is_valid else None
        if isinstance(value, int):
            if self.label_names is None or not 0 <= value < len(self.label_names):
                known = 0 if self.label_names is None else len(self.label_names)
                raise UnusableError(Reason.NO_CAPTION, f"label {value} has no name: expected 0 to {known - 1}")
            return self.label_names[value], f"column {self.caption_column}: class names"
        found = FoundCaptions(self.fields.caption)
        found.add_fields("column", {self.caption_column: value})
        return found.chosen()

    def _check_columns(self, schema: pyarrow.Schema) -> None:
        """Refuse a file whose columns are not those of the first."""
        from pyarrow import types

        check_once(schema, self.image_column, self.caption_column)
        image, caption = (
            stored_type(schema.field(name).type) if name in schema.names else None
            for name in (self.image_column, self.caption_column)
        )
        numbers = caption is not None and types.is_integer(caption) and self.label_names is not None
        if image is None or not holds_bytes(image) or not (numbers or (caption is not None and is_text(caption))):
            raise ValueError(
                f"columns {described(schema)}: expected {self.image_column!r} and {self.caption_column!r} as in the "
                "first file"
            )

    def _columns(self) -> tuple[str, str]:
        """Names of image and caption column, by the first file that can be opened."""
        import pyarrow

        schema, path = _first_schema(self.files)
        named = self.fields
        once = [name for name in of_names(schema, IMAGE_COLUMNS) if schema.names.count(name) == 1]
        pictures = [name for name in once if holds_bytes(schema.field(name).type)]
        pictures += [name for name in of_names(schema, IMAGE_COLUMNS) if name not in once]
        texts = of_names(schema, CAPTION_FIELDS) or of_names(schema, LABEL_FIELDS)[:1]
        for what, given, found in (("image", named.image, pictures), ("caption", named.caption, texts)):
            if given is None and len(found) > 1:
                raise ValueError(f"{path} has the columns {', '.join(found)}: expected one; name it with --{what}")
        image = named.image or next(iter(pictures), None)
        caption = named.caption or next(iter(texts), None)
        check_once(schema, image, caption, place=f"{path}: ")
        if image is None or image not in schema.names or not holds_bytes(schema.field(image).type):
            usual = named.image or f"one of {', '.join(IMAGE_COLUMNS)}; name another with --image"
            raise ValueError(
                f"{path} has the columns {described(schema)}: expected encoded pictures (binary, or a struct with "
                f"bytes) in {usual}"
            )
        if caption is None or caption not in schema.names:
            usual = (
                named.caption or f"one of {', '.join((*CAPTION_FIELDS, *LABEL_FIELDS))}; name another with --caption"
            )
            raise ValueError(f"{path} has the columns {described(schema)}: expected captions in {usual}")
        if named.uid is not None and named.uid not in schema.names:
            raise ValueError(f"{path} has the columns {described(schema)}: expected uids in {named.uid!r}")
        kind = stored_type(schema.field(caption).type)
        if pyarrow.types.is_integer(kind):
            self.label_names = self.label_names or class_names(schema, caption)
            if self.label_names is None:
                raise ValueError(
                    f"{path}: column {caption!r} holds class numbers without names: expected captions, a ClassLabel "
                    "column, or kind cifar10"
                )
        elif not is_text(kind):
            raise ValueError(f"{path}: column {caption!r} holds {kind}: expected text or class numbers")
        return image, caption

    def _wanted(self, file: ParquetFile) -> list[str]:
        uses = Counter(file.schema_arrow.names)
        plain = [field.name for field in file.schema_arrow if is_plain(field.type) and uses[field.name] == 1]
        return [self.image_column, self.caption_column, *(name for name in plain if self._is_extra(name))]


def _open(path: Path) -> ParquetFile:
    from pyarrow import parquet

    return parquet.ParquetFile(path.open("rb") if isinstance(path, RemoteFile) else path)


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
