"""The app behind a reverse proxy, at whatever path it is shown there.

A proxy that takes a prefix off the path need not say which, so the server cannot know its own address. The browser
does: the page is told to ask for everything relative to where it was opened. A prefix that is left on must be named.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = (
    rb"""<script>window.gradio_config.root = new URL('.', document.baseURI).href.replace(/\/$/, '')</script>"""
    b"""<link rel="icon" href="./favicon.ico">"""
)
AFTER_CONFIG = b"<script data-gradio-mode>"
REPLACED = (
    (re.compile(re.escape(AFTER_CONFIG)), HERE + AFTER_CONFIG),
    (re.compile(rb"""const root = "[^"\n]*";"""), b"const root = window.gradio_config.root;"),
    (re.compile(rb"""href="/manifest\.json\""""), b'href="./manifest.json"'),
)
"""What is absolute in Gradio's page, and what stands there instead; each occurs once (a test counts them)."""


class SubPath:
    """Takes a prefix off the path where the proxy has left it there."""

    def __init__(self, app: ASGIApp, prefix: str):
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self.prefix:
            query = scope["query_string"].decode("latin-1")
            to_folder = RedirectResponse(f"{self.prefix}/" + (f"?{query}" if query else ""))
            await to_folder(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"].startswith(f"{self.prefix}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self.prefix)}
            scope["raw_path"] = scope["path"].encode()
        await self.app(scope, receive, send)


class PageAddress:
    """Makes Gradio's page ask for everything relative to its own address."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        start: Message = {}
        body = b""

        async def gather(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            if message["type"] != "http.response.body":
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                page = relative_page(body)
                headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(page)).encode())]})
                await send({"type": "http.response.body", "body": page})

        await self.app({**scope, "headers": plain}, receive, gather)


def relative_page(page: bytes) -> bytes:
    """Gradio's page with its absolute addresses made relative."""
    for absolute, relative in REPLACED:
        page = absolute.sub(lambda _, relative=relative: relative, page)
    return page


def read_root_path(text: str) -> tuple[str, str | None]:
    """The prefix and the origin of an address that a proxy shows the app under.

    Args:
        text: a path, ``/explorer``, or a URL, ``https://host/explorer``.

    Returns:
        The prefix without a slash at its end, empty if there is none; and ``scheme://host[:port]``, None for a path.

    Raises:
        ValueError: if it is neither.
    """
    if not text:
        return "", None
    parts = urlsplit(text)
    url = parts.scheme in ("http", "https") and bool(parts.hostname)
    path = not parts.scheme and not parts.netloc and text.startswith("/")
    if not (url or path) or parts.query or parts.fragment:
        raise ValueError(
            f"root path is {text!r}: expected a path such as /explorer or a URL such as https://host/explorer"
        )
    return parts.path.rstrip("/"), f"{parts.scheme}://{parts.netloc}" if url else None
