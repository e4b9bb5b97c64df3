"""Whom a filter hits beside the poison: concepts that it nearly erases, captions of some lengths and scripts."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.core.intervals import CONFIDENCE, wilson_interval

NEARLY_ERASED = 10
"""Concepts that are listed."""
LENGTHS = ((1, "up to 15 characters"), (16, "16 to 31 characters"), (32, "32 to 63 characters"),
           (64, "64 to 127 characters"), (128, "128 characters and more"))  # fmt: skip
"""Least length and name of each group of captions."""
LATIN, NO_LETTERS = "Latin", "none"


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionGroups:
    """Of N captions, names of the groups they belong to."""

    lengths: np.ndarray
    """str `[N]`, one of ``LENGTHS``."""
    scripts: np.ndarray
    """str `[N]` of :func:`main_script`."""

    @staticmethod
    def of(captions: Sequence[str]) -> CaptionGroups:
        """From N texts."""
        least, names = zip(*LENGTHS, strict=True)
        lengths = np.searchsorted(least, [max(len(text), 1) for text in captions], side="right") - 1
        return CaptionGroups(
            lengths=np.array(names)[lengths], scripts=np.array([main_script(text) for text in captions])
        )


def collateral(
    removed: np.ndarray,
    counted: np.ndarray,
    *,
    main_concept: np.ndarray,
    concepts: Sequence[str],
    captions: CaptionGroups,
) -> dict[str, Any]:
    """What a filter costs, by concept and by caption; JSON-serialisable.

    Args:
        removed: bool `[N]`.
        counted: bool `[N]`, the pairs whose loss is a cost: the benign ones where that is known.
        main_concept: int `[N]`, -1 for none.
        concepts: names of these numbers.
        captions: of which length and script each caption is.

    Returns:
        ``pairs`` and ``lost`` in all; ``concepts``, those that lost most, as ``{concept, pairs, removed, lost_share}``;
        ``lengths`` and ``scripts``, each ``{uneven, groups}``, where uneven says that some group lost more or less than
        chance allows (Wilson intervals, Bonferroni's correction).
    """
    return {
        "pairs": int(counted.sum()),
        "lost": int((removed & counted).sum()),
        "concepts": _erased(removed[counted], main_concept[counted], concepts),
        "lengths": _groups(removed[counted], captions.lengths[counted], [name for _, name in LENGTHS]),
        "scripts": _groups(removed[counted], captions.scripts[counted], sorted(set(captions.scripts.tolist()))),
    }


def lost_by_concept(removed: np.ndarray, main_concept: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of each of ``count`` concepts, and how many of them are removed, int `[count]` each."""
    listed = main_concept >= 0
    pairs = np.bincount(main_concept[listed], minlength=count)
    return pairs, np.bincount(main_concept[listed & removed], minlength=count)


def main_script(text: str) -> str:
    """The script that most letters of a text are of, as Unicode's names of characters begin: ``Latin``, ``Cjk``,
    ``Cyrillic``; ``none`` for a text without letters."""
    if text.isascii():  # nearly all captions of most sets, and a hundred times as fast
        return LATIN if any(map(str.isalpha, text)) else NO_LETTERS
    found = Counter(unicodedata.name(letter, "unknown").split()[0] for letter in text if letter.isalpha())
    return found.most_common(1)[0][0].capitalize() if found else NO_LETTERS


def _erased(removed: np.ndarray, main_concept: np.ndarray, concepts: Sequence[str]) -> list[dict[str, Any]]:
    pairs, lost = lost_by_concept(removed, main_concept, len(concepts))
    share = np.divide(lost, pairs, out=np.zeros(len(pairs)), where=pairs > 0)
    # The largest share first, of equal ones the concept with more pairs, then as they are listed.
    order = np.lexsort((-pairs, -share))[:NEARLY_ERASED]
    return [
        {"concept": concepts[at], "pairs": int(pairs[at]), "removed": int(lost[at]), "lost_share": float(share[at])}
        for at in order.tolist() if lost[at]
    ]  # fmt: skip


def _groups(removed: np.ndarray, names: np.ndarray, listed: Sequence[str]) -> dict[str, Any]:
    present = [(name, removed[names == name]) for name in listed if (names == name).any()]
    overall = float(removed.mean()) if len(removed) else 0.0
    groups, uneven = [], False
    for name, lost in present:
        share = wilson_interval(int(lost.sum()), len(lost))
        strict = wilson_interval(int(lost.sum()), len(lost), confidence=1 - (1 - CONFIDENCE) / len(present))
        uneven |= not strict.low <= overall <= strict.high
        groups.append({"name": name, "pairs": len(lost), "removed": int(lost.sum()), "lost_share": share.as_json()})
    return {"uneven": bool(uneven and len(present) > 1), "groups": groups}
