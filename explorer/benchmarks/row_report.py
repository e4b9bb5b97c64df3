"""A row's figures as they come in: each is saved at once, so that a run which is cut off keeps what it had."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from explorer.benchmarks.device_figures import device_conditions

Save = Callable[[dict[str, Any]], None]
"""Takes a row's whole report so far, JSON-serialisable."""


class RowReport:
    """The report of one row, and how much of its time is left."""

    def __init__(self, save: Save, device: str, limit_seconds: float, **conditions: Any) -> None:
        """Saves the conditions, among them the device, before anything is measured.

        Args:
            limit_seconds: what the row may take; what would take longer is left out, and the report says so.
        """
        self._save, self._started, self.limit_seconds = save, time.perf_counter(), limit_seconds
        self.figures: dict[str, Any] = {**device_conditions(device), **conditions}
        self.add()

    def add(self, **figures: Any) -> None:
        """Add figures, or put newer ones in place of earlier ones of the same name, and save."""
        self.figures |= figures
        self.figures["row_seconds"] = round(time.perf_counter() - self._started, 2)
        self._save(dict(self.figures))

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """What ``work`` returns; where it fails, None, and the report says why under ``errors``: the other figures of
        a row do not depend on it."""
        try:
            return work()
        except Exception as error:
            told = f"{type(error).__name__}: {error}"[:1000]
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])[-2000:]
            self.add(errors={**self.figures.get("errors", {}), name: {"error": told, "where": where}})
            return None

    def left(self) -> float:
        """Seconds that are left."""
        return self.limit_seconds - (time.perf_counter() - self._started)
