"""Clicks on Generate: at most one a session, waiting or at work, each of which can be stopped at any time."""

from __future__ import annotations

import threading
from typing import Literal

from explorer.ui.messages import RUNNING_HERE


class Clicks:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._working: dict[str, threading.Event] = {}
        self._refused: set[str] = set()

    def accept(self, session: str) -> bool:
        """Note a click that waits for the models; False, and noted as refused, while an earlier one is not over."""
        with self._lock:
            if session in self._waiting or session in self._working:
                self._refused.add(session)
                return False
            self._waiting.add(session)
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

    def is_running(self, session: str) -> bool:
        """Whether a click of the session is waiting or at work."""
        return session in self._waiting or session in self._working

    def is_busy(self) -> bool:
        """Whether a click of any session is waiting or at work."""
        return bool(self._waiting or self._working)

    def begin(self, session: str) -> threading.Event:
        """The session's click, waiting or not announced, is at work from now on; returns the event that stops it.

        Raises:
            ValueError: while an earlier click is at work.
        """
        with self._lock:
            if session in self._working:
                raise ValueError(RUNNING_HERE)
            self._waiting.discard(session)
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
        with self._lock:
            if session in self._waiting:
                self._waiting.remove(session)
                return "waiting"
            stop = self._working.get(session)
        if stop is None:
            return None
        stop.set()
        return "working"
