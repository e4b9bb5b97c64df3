"""Which of a page's event streams the server has ended, told with the answer to every call (``event_stream.js``)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Send

STREAM = b"x-event-stream"
"""Header of a stream: its number within the session, from 1."""
ENDED = b"x-ended-event-stream"
"""Header of the answer to a call: the number of the last stream that the server had ended by then, 0 for none."""
END = b'"msg":"close_stream"'
MAX_SESSIONS = 1000


class EventStreams:
    """On the event loop's thread: what is sent of a stream is noted in the same turn in which Gradio decides to end it,
    so that a call that Gradio took after that is always answered with the stream's number."""

    def __init__(self) -> None:
        self._opened: OrderedDict[str, int] = OrderedDict()
        self._ended: dict[str, int] = {}

    def stream(self, session: str, send: Send) -> Send:
        """What a new stream of the session sends through."""
        number = self._opened[session] = self._opened.pop(session, 0) + 1
        while len(self._opened) > MAX_SESSIONS:
            self._ended.pop(self._opened.popitem(last=False)[0], None)

        async def watched(message: Message) -> None:
            if END in message.get("body", b""):
                self._ended[session] = number
            await send(_with_header(message, STREAM, number))

        return watched

    def answer(self, session: str | None, send: Send) -> Send:
        """What the answer to a call of the session is sent through."""

        async def marked(message: Message) -> None:
            await send(_with_header(message, ENDED, self._ended.get(session or "", 0)))

        return marked


def _with_header(message: Message, name: bytes, number: int) -> Message:
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [*message.get("headers", []), (name, str(number).encode())]}
