"""Who is listening: open connections, so that work whose client has left ends, and all are closed with the app."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Receive

SECONDS_TO_COME_BACK = 5.0
SECONDS_TO_COME = 20.0
MAX_REMEMBERED = 1000


class Connections:
    """Open connections by the name of the session or call they belong to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._absent_until: OrderedDict[str, float] = OrderedDict()
        self._gone: set[asyncio.Event] = set()
        self._closed = False

    def has_left(self, name: str) -> bool:
        """Whether nobody listens any more: all connections have been closed for a few seconds, or none was ever opened
        since this was first asked. May be called from any thread."""
        with self._lock:
            if self._open[name] > 0:
                return False
            limit = self._absent_until.get(name)
            if limit is None:
                self._expect(name, SECONDS_TO_COME)
                return False
            return time.monotonic() > limit

    @contextlib.asynccontextmanager
    async def listening(self, name: str, receive: Receive) -> AsyncIterator[Receive]:
        """While a connection of ``name`` is served.

        Yields:
            What its application receives from: nothing but that the client has left, once it has or all were closed.
        """
        gone, here = asyncio.Event(), [name]
        if self._closed:
            gone.set()

        def leave() -> None:
            if here:  # once: the client may leave before its request is over
                self._leave(here.pop())

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            leave()

        async def wait() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        self._gone.add(gone)
        with self._lock:
            self._open[name] += 1
        watcher = asyncio.create_task(watch())
        try:
            yield wait
        finally:
            watcher.cancel()
            self._gone.discard(gone)
            leave()

    def close(self) -> None:
        """Tell every application that its client has left, now and from now on; on the event loop's thread."""
        self._closed = True
        for gone in list(self._gone):
            gone.set()

    def _leave(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1
            if self._open[name] <= 0:
                del self._open[name]
                self._expect(name, SECONDS_TO_COME_BACK)

    def _expect(self, name: str, seconds: float) -> None:
        self._absent_until[name] = time.monotonic() + seconds
        self._absent_until.move_to_end(name)
        while len(self._absent_until) > MAX_REMEMBERED:
            self._absent_until.popitem(last=False)
