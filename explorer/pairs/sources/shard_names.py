"""Shards named as img2dataset's and webdataset's users name them: ``{00000..00099}.tar`` for a hundred files."""

from __future__ import annotations

import itertools
import re

MOST_NAMES = 1_000_000
"""More names than this are a slip of the pen."""

_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")


def expand_braces(pattern: str) -> list[str]:
    """Every name that ``pattern`` stands for, in the order it is written; a pattern without groups is one name.

    A group is a range ``{00000..00099}`` or ``{0..90..10}`` of numbers, padded to the longer end's width where either
    end begins with a zero, or a list ``{a,b}``. Other braces belong to the name, as in a shell; groups inside
    groups are not read.

    Raises:
        ValueError: on a range with step 0, or more than ``MOST_NAMES`` names.
    """
    pieces: list[list[str]] = []
    end, count = 0, 1
    for group in _GROUP.finditer(pattern):
        choices = _choices(group[1], pattern)
        pieces += [[pattern[end : group.start()]], [group[0]] if choices is None else choices]
        count, end = count * len(pieces[-1]), group.end()
        _check_count(count, pattern)
    return ["".join(parts) for parts in itertools.product(*pieces, [pattern[end:]])]


def _choices(content: str, pattern: str) -> list[str] | None:
    """What a group stands for; None where it is no group."""
    found = _RANGE.fullmatch(content)
    if found is None:
        return content.split(",") if "," in content else None
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    if step == 0:
        raise ValueError(f"{pattern} counts by 0: expected a step of at least 1")
    _check_count(abs(last - first) // step + 1, pattern)
    padded = any(end.startswith("0") and len(end) > 1 for end in found.group(1, 2))
    width = max(len(found[1]), len(found[2])) if padded else 0
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]


def _check_count(count: int, pattern: str) -> None:
    if count > MOST_NAMES:
        raise ValueError(f"{pattern} stands for {count} names: expected at most {MOST_NAMES}")
