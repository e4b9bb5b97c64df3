"""What the judge says of a cell of a film strip, in the marks and words of the screens (``implosion_film.js``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.generation.sureness import BOUNDS

RIGHT, DOUBT, WRONG = "right", "doubt", "wrong"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``kind`` is one of ``RIGHT``, ``DOUBT`` and ``WRONG``, whose marks are ✓, ? and ✗."""

    kind: str
    words: str


def bounds_of(description: dict[str, Any]) -> dict[str, Any] | None:
    """From which ``clip_similarity`` and ``margin`` on a verdict is sure: the strip's own bounds, tau alone (``margin``
    is None) of a strip of an earlier release, and None where it is not known."""
    if "sure" in description:
        return description["sure"]
    tau = description.get("tau")
    return None if tau is None else {"clip_similarity": tau, "margin": None}


def verdict_of(cell: dict[str, Any], concept: str, bounds: dict[str, Any] | None) -> Verdict | None:
    """None where no judge looked."""
    top, fit = cell.get("top_concept"), cell.get("clip_similarity")
    if not top:
        return None
    if top != concept:
        rank = cell.get("rank") or 0
        return Verdict(kind=WRONG, words=f"{top}, {_ordinal(rank)}" if rank > 1 else top)
    sure = bounds is not None and all(bounds[name] is None or (cell.get(name) or 0) >= bounds[name] for name in BOUNDS)
    return Verdict(kind=RIGHT if sure else DOUBT, words=f"{fit:.2f}")


def _ordinal(place: int) -> str:
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
