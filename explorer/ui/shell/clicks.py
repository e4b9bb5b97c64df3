"""Clicks on Generate: at most one a session, waiting or at work, each with what was asked and each to be stopped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Literal

from explorer.ui.shell.messages import ENDING, RUNNING_HERE, TOO_MANY

MAX_SESSIONS = 64
"""Clicks of so many sessions are kept; the queue is shorter, so more are of pages that have left."""
MAX_AT_WORK = 16
"""Each occupies a thread of the server until the models have come to it; the page needs some of the 40 as well."""


class StopEvent(threading.Event):
    """Set once work is to end."""

    unseen: bool = False
    """Whether the page shows something else by now, and is to be told nothing more of this work."""


class Clicks:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, tuple[Any, ...]] = OrderedDict()
        self._working: dict[str, StopEvent] = {}
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._closed = False

    def accept(self, session: str, asked: tuple[Any, ...]) -> bool:
        """Note a click that waits for the models, with the values of the inputs at that moment.

        Returns:
            False, and noted as refused, while an earlier click of the session is not over.
        """
        with self._lock:
            if self._closed or session in self._waiting or session in self._working:
                self._refused[session] = None
                _keep_newest(self._refused)
                return False
            self._waiting[session] = asked
            _keep_newest(self._waiting)
            return True

    def take_refused(self, session: str) -> bool:
        """Whether a click of the session was refused since the last call."""
        with self._lock:
            return self._refused.pop(session, False) is None

    def is_waiting(self, session: str) -> bool:
        """Whether an accepted click of the session has not begun."""
        return session in self._waiting

    def drop_waiting(self, session: str) -> bool:
        """Forget the session's click if it waits; whether it did."""
        with self._lock:
            return self._waiting.pop(session, None) is not None

    def is_busy(self) -> bool:
        """Whether a click of any session is waiting or at work."""
        return bool(self._waiting or self._working)

    def take(self, session: str) -> tuple[tuple[Any, ...], StopEvent] | None:
        """The session's waiting click is at work from now on.

        Returns:
            What it asked for and the event that stops it; None if none waits, as after a second click or Stop.
        """
        with self._lock:
            if session not in self._waiting:
                return None
            asked = self._waiting.pop(session)
            stop = self._working[session] = StopEvent()
            return asked, stop

    def begin(self, session: str) -> StopEvent:
        """Work that no click announced, a program's, has begun; returns the event that stops it.

        Raises:
            ValueError: while an earlier click is waiting or at work, or too many others are.
        """
        with self._lock:
            if self._closed:
                raise ValueError(ENDING)
            if len(self._working) >= MAX_AT_WORK:
                raise ValueError(TOO_MANY)
            if session in self._waiting or session in self._working:
                raise ValueError(RUNNING_HERE)
            stop = self._working[session] = StopEvent()
            return stop

    def end(self, session: str, stop: threading.Event) -> None:
        """The click that ``stop`` belongs to is over."""
        with self._lock:
            if self._working.get(session) is stop:
                del self._working[session]

    def stop(self, session: str, *, unseen: bool = False) -> Literal["waiting", "working"] | None:
        """Forget the session's click if it waits, ask it to end if it is at work.

        Args:
            unseen: whether the page shows something else by now (see :class:`StopEvent`).

        Returns:
            Which of them; None if there is no click.
        """
        if self.drop_waiting(session):
            return "waiting"
        with self._lock:
            stop = self._working.get(session)
        if stop is None:
            return None
        stop.unseen |= unseen
        stop.set()
        return "working"

    def close(self) -> bool:
        """Forget what waits, ask all work to end and accept no more; whether any was at work."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            for stop in self._working.values():
                stop.set()
            return bool(self._working)


def _keep_newest(sessions: OrderedDict[str, Any]) -> None:
    while len(sessions) > MAX_SESSIONS:
        sessions.popitem(last=False)
