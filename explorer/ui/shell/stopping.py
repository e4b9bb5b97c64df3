"""A web server that ends within seconds of Ctrl-C or SIGTERM, whatever pages are open and whatever is at work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    import socket
    from types import FrameType

SECONDS_FOR_REQUESTS = 2
SECONDS_IN_ALL = 4.0


class StoppableServer(uvicorn.Server):
    """uvicorn waits for open event streams for ever, and Gradio's end only with the server; this one closes them."""

    def __init__(self, app: Any, host: str, port: int, stop: Callable[[], None]):
        """``stop`` ends what is at work and closes open streams; called on the event loop's thread, once."""
        config = uvicorn.Config(
            app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=SECONDS_FOR_REQUESTS
        )
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On the first signal the process has a few seconds left, even if a model's step takes minutes; the second ends
        it at once."""
        if self.should_exit:
            end_now()
        deadline = threading.Timer(SECONDS_IN_ALL, end_now)
        deadline.daemon = True
        deadline.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See the base class."""
        self._stop()
        await super().shutdown(sockets)


def serve(server: StoppableServer, is_busy: Callable[[], bool]) -> None:
    """Serve until SIGINT or SIGTERM, after which the process has status 0: it was asked to end and did.

    Args:
        is_busy: whether a thread still computes; such a process is ended without the interpreter's own clearing up,
            which would pull the libraries from beneath it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda sig, frame: None)  # uvicorn raises the signal again once it has ended
    server.run()
    if is_busy():
        end_now()


def end_now() -> None:
    """End the process without waiting for any thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
