"""How far a piece of work is: one report from every loop, for a terminal's bar, a line of JSON or a screen alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of a running piece of work: how much of it is done, or something to tell about it, or both."""

    task: str = ""
    """What is being worked on, e.g. a model's name; empty where the report is a message alone."""
    done: int = 0
    """Units that are finished."""
    total: int | None = None
    """Units in all; None where nobody knows it beforehand."""
    unit: str = "step"
    """What is counted, in the singular."""
    part: int = 0
    """Which of several such tasks it is, from 0."""
    parts: int = 1
    """How many such tasks there are."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What was measured on the way, by name, e.g. the loss."""
    message: str = ""
    """A sentence for whoever waits; a terminal keeps it above the bar."""

    @property
    def share(self) -> float:
        """Of all parts, how much is done, 0 to 1; a task whose size nobody knows counts as not begun."""
        return (self.part + (self.done / self.total if self.total else 0)) / self.parts


OnProgress = Callable[[Progress], None]
"""Takes the reports, on the thread that works."""


def unheard(progress: Progress) -> None:
    """Takes reports nobody asked for."""


def note(message: str) -> Progress:
    """A report that is a message alone."""
    return Progress(message=message)


class Tally:
    """Counts towards one task what one loop or several do, and reports it from 0 on.

    Args:
        task: as in :class:`Progress`, and so are ``total`` and ``unit``.
    """

    def __init__(self, on_progress: OnProgress, task: str, total: int | None, unit: str = "step") -> None:
        self._on_progress, self._latest = on_progress, Progress(task=task, total=total, unit=unit)
        on_progress(self._latest)

    def add(self, count: int = 1, message: str = "") -> None:
        """``count`` more are done."""
        self._latest = replace(self._latest, done=self._latest.done + count, message=message)
        self._on_progress(self._latest)


def counted(items: Sequence[Item], on_progress: OnProgress, task: str, unit: str = "step") -> Iterator[Item]:
    """``items`` one after the other; each counts once the loop that takes them is done with it."""
    tally = Tally(on_progress, task, len(items), unit)
    for item in items:
        yield item
        tally.add()
