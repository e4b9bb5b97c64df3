"""What was assumed about the pairs that are used, counted: where captions came from, how pictures were converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from explorer.pairs.sources.base import Record

COUNTED = ("caption_sources", "converted", "splits")
"""The names under which counts are printed and kept in manifests."""


class PairCounts:
    """Counts over the pairs that are used; what is set aside is counted by its reason elsewhere."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}

    def add(self, record: Record, converted: Iterable[str]) -> None:
        """Count a used pair, whose picture was ``converted`` in these ways."""
        self._counts["caption_sources"][record.caption_source or "unknown"] += 1
        self._counts["converted"].update(map(str, converted))
        self._counts["splits"][record.split or "unnamed"] += 1

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Add what :meth:`as_dict` gave for other pairs."""
        for name in COUNTED:
            self._counts[name].update(counted.get(name, {}))

    def as_dict(self) -> dict[str, dict[str, int]]:
        """JSON-serialisable, sorted by name."""
        return {name: dict(sorted(counts.items())) for name, counts in self._counts.items()}
