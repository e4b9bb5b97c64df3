"""Columns of a parquet file: which there are, and what they hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from explorer.pairs.sources.splits import SPLIT_FIELD

if TYPE_CHECKING:
    import pyarrow


def of_names(schema: pyarrow.Schema, usual: tuple[str, ...]) -> list[str]:
    """Columns of these names in any case, in the order of ``usual``; one that appears twice is listed once."""
    names = dict.fromkeys(schema.names)
    return [name for known in usual for name in names if name.strip().casefold() == known]


def split_column(schema: pyarrow.Schema) -> str | None:
    """The column that says the rows' splits, if there is one of text."""
    names = [name for name in schema.names if name.strip().casefold() == SPLIT_FIELD]
    return names[0] if len(names) == 1 and is_text(stored_type(schema.field(names[0]).type)) else None


def check_once(schema: pyarrow.Schema, *names: str | None, place: str = "") -> None:
    """Refuse columns of one name: which of them is meant nobody can say."""
    for name in names:
        if (count := schema.names.count(name)) > 1:
            raise ValueError(f"{place}{count} columns are named {name!r}: expected one")


def described(schema: pyarrow.Schema) -> str:
    """Names and types of the columns, for errors."""
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def holds_bytes(kind: pyarrow.DataType) -> bool:
    """Whether a column of this type holds encoded pictures."""
    from pyarrow import types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and holds_bytes(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def stored_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type of a column's values, which a dictionary may hold."""
    from pyarrow import types

    return kind.value_type if types.is_dictionary(kind) else kind


def is_text(kind: pyarrow.DataType) -> bool:
    """Whether a column of this type holds text."""
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind)


def is_plain(kind: pyarrow.DataType) -> bool:
    """Whether a column of this type can be metadata: text, numbers or truth values."""
    from pyarrow import types

    kind = stored_type(kind)
    return is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def class_names(schema: pyarrow.Schema, column: str) -> tuple[str, ...] | None:
    """Names of a ClassLabel column by the metadata that Hugging Face's datasets library writes."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None
