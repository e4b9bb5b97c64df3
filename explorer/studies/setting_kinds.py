"""What every setting of ``study.toml`` has to be, by the type of its field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

from explorer.pairs.sources.base import is_address


def check_settings(found: Any, kind: type, where: str, known: tuple[str, ...]) -> None:
    """Refuse a table that holds anything but settings of ``kind``, a dataclass, or lacks one of them.

    Args:
        known: the fields that the table may have.

    Raises:
        ValueError: naming the setting, what it is, and what was expected.
    """
    if not isinstance(found, dict):
        raise ValueError(f"{where} is {found!r}: expected a table")
    if unknown := sorted(set(found) - set(known)):
        raise ValueError(f"{where} has the unknown setting {', '.join(unknown)}: expected some of {', '.join(known)}")
    for each in fields(kind):
        if each.name not in known:
            continue
        expected, is_sound = _KINDS[each.type.removesuffix(" | None")]
        if each.name in found and not is_sound(value := found[each.name]):
            raise ValueError(f"{each.name} of {where} is {value!r}: expected {expected}")
        if each.name not in found and each.default is each.default_factory is MISSING:
            raise ValueError(f"{where} has no {each.name}: expected {expected}")


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and value != ""  # which would be the study's own folder


def _is_path(value: Any) -> bool:
    return _is_place(value) and not is_address(value)


def _list_of(is_sound: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_sound, value))


_TABLES = ("Reading", "Fields", "PoisonFields", "PoisonRecord")
_KINDS = {
    **dict.fromkeys(_TABLES, ("a table, as { kind = ... }", lambda value: isinstance(value, dict))),
    "str": ("text", _is_text),
    "bool": ("true or false, without quotes", lambda value: isinstance(value, bool)),
    "int": ("a whole number", lambda value: type(value) is int),
    "float": ("a number", _is_number),
    "Path": ("a path of this machine", _is_path),
    "Path | str": ("a path or an address", _is_place),
    "tuple[str, ...]": ("a list of texts", _list_of(_is_text)),
    "tuple[int, ...]": ("a list of whole numbers", _list_of(lambda value: type(value) is int)),
    "tuple[Path, ...]": ("a list of paths of this machine", _list_of(_is_path)),
    "tuple[float, float]": ("two numbers", lambda value: _list_of(_is_number)(value) and len(value) == 2),
}
"""By the type that a field is annotated with, in words and as a test."""
