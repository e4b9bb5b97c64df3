"""Short names for things that lie in folders, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from explorer.core.bounded_files import printable


def unique_names(places: Sequence[Path]) -> list[str]:
    """The last part of each path; where several are called so, with the folder around it before it; and where these
    agree as well, with ``-2`` behind it."""
    counts, names = Counter(place.name for place in places), []
    for place in places:
        name = printable(place.name if counts[place.name] == 1 else f"{place.parent.name}-{place.name}")
        while name in names:
            name += "-2"
        names.append(name)
    return names
