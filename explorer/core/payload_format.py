"""What a JSON file that a screen draws must hold: said once, for what writes it and for what reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from explorer.core.provenance import ManifestError


@dataclass(frozen=True, kw_only=True)
class PayloadFormat:
    """One version of one file."""

    name: str
    """Of the file."""
    version: int
    fields: tuple[str, ...]
    """What it holds beside its version."""
    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Fields that are lists, never empty -> what each of their entries holds."""

    def written(self, **content: Any) -> dict[str, Any]:
        """``content`` with the version, as the file holds it.

        Raises:
            ManifestError: if it lacks something.
        """
        return self.checked({"version": self.version, **content})

    def checked(self, payload: Any, hint: str = "") -> dict[str, Any]:
        """``payload``, if it is of this version and whole.

        Args:
            hint: added to the error: how the file is made again.

        Raises:
            ManifestError: naming the version or what is missing.
        """
        end = f" {hint}".rstrip()
        found = payload.get("version") if isinstance(payload, dict) else None
        if found != self.version:
            raise ManifestError(f"{self.name} has format version {found}: expected {self.version}.{end}")
        self._require(payload, self.fields, "it", end)
        for name, wanted in self.entries.items():
            if not payload[name]:
                raise ManifestError(f"{self.name} describes no {name}: expected at least one.{end}")
            for number, entry in enumerate(payload[name]):
                self._require(entry, wanted, f"entry {number} of {name}", end)
        return payload

    def _require(self, holder: Any, wanted: tuple[str, ...], who: str, end: str) -> None:
        if missing := [each for each in wanted if each not in holder]:
            raise ManifestError(f"{self.name}: {who} lacks {', '.join(missing)}.{end}")
