"""Clicks on Generate: at most one a session, waiting or at work, each with what was asked and each to be stopped."""

from __future__ import annotations

import threading
from typing import Any, Literal

from explorer.ui.messages import RUNNING_HERE


class Clicks:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[Any, ...]] = {}
        self._working: dict[str, threading.Event] = {}
        self._refused: set[str] = set()

    def accept(self, session: str, asked: tuple[Any, ...]) -> bool:
        """Note a click that waits for the models, with the values of the inputs at that moment.

        Returns:
            False, and noted as refused, while an earlier click of the session is not over.
        """
        with self._lock:
            if session in self._waiting or session in self._working:
                self._refused.add(session)
                return False
            self._waiting[session] = asked
            return True

    def take_refused(self, session: str) -> bool:
        """Whether a click of the session was refused since the last call."""
        with self._lock:
            refused = session in self._refused
            self._refused.discard(session)
            return refused

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

    def take(self, session: str) -> tuple[tuple[Any, ...], threading.Event] | None:
        """The session's waiting click is at work from now on.

        Returns:
            What it asked for and the event that stops it; None if none waits, as after a second click or Stop.
        """
        with self._lock:
            if session not in self._waiting:
                return None
            asked = self._waiting.pop(session)
            stop = self._working[session] = threading.Event()
            return asked, stop

    def begin(self, session: str) -> threading.Event:
        """Work that no click announced, a program's, has begun; returns the event that stops it.

        Raises:
            ValueError: while an earlier click is waiting or at work.
        """
        with self._lock:
            if session in self._waiting or session in self._working:
                raise ValueError(RUNNING_HERE)
            stop = self._working[session] = threading.Event()
            return stop

    def end(self, session: str, stop: threading.Event) -> None:
        """The click that ``stop`` belongs to is over."""
        with self._lock:
            if self._working.get(session) is stop:
                del self._working[session]

    def stop(self, session: str) -> Literal["waiting", "working"] | None:
        """Forget the session's click if it waits, ask it to end if it is at work.

        Returns:
            Which of them; None if there is no click.
        """
        if self.drop_waiting(session):
            return "waiting"
        with self._lock:
            stop = self._working.get(session)
        if stop is None:
            return None
        stop.set()
        return "working"
