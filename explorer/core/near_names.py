"""What is expected in place of a name that is not known: by name where that says something."""

from __future__ import annotations

from collections.abc import Sequence

NEAR = 2
"""Letters that may be wrong, as in the field of concepts on the screen Implosion (``implosion_choice.js``)."""
MOST_LISTED = 20
SHOWN = 3


def expected_names(word: str, names: Sequence[str]) -> str:
    """After "expected": all names where there are few, else how many, and those that ``word`` may have meant; where
    there are none of these either, the first."""
    if len(names) <= MOST_LISTED:
        return f"one of {', '.join(names)}"
    if near := nearest_names(word, names):
        return f"one of {len(names)}, perhaps {', '.join(near)}"
    return f"one of {len(names)}: {', '.join(names[:SHOWN])}, ..."


def nearest_names(word: str, names: Sequence[str]) -> list[str]:
    """Up to ``SHOWN`` of the names that a mistyped word may have meant, the nearest first."""
    wrong = {name: _letters_between(word.lower(), name.lower()) for name in names}
    near = [name for name in names if wrong[name] <= min(NEAR, len(name) / 2)]
    return sorted(near, key=wrong.__getitem__)[:SHOWN]


def _letters_between(one: str, other: str) -> int:
    """How many letters have to be put in, left out or replaced (Levenshtein)."""
    before = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for at, own in enumerate(other):
            now.append(min(now[at] + 1, before[at + 1] + 1, before[at] + (own != letter)))
        before = now
    return before[-1]
