"""What may be asked of the server, and by whom: refused here before Gradio or any of our own routes sees it.

* Only the routes that the app needs: none of Gradio's that take or serve files, proxy, or store something.
* Calls with plain values only (:mod:`explorer.ui.shell.endpoint_inputs`).
* No page of another origin, other ports of this machine included, may start, change or read anything.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from explorer.ui.shell.endpoint_inputs import (
    CANCEL,
    MAX_BODY_BYTES,
    RESET,
    SESSION,
    Endpoint,
    RefusedCall,
    parse_json,
    read_call,
    read_fields,
)
from explorer.ui.shell.event_streams import EventStreams

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from explorer.ui.shell.connections import Connections

API = "/gradio_api"
NAME, EVENT = r"(?P<name>[A-Za-z0-9_-]{1,64})", r"(?P<session>[A-Za-z0-9_-]{1,64})"
READ = re.compile(
    "|".join(
        [
            r"/(livez|readyz|config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)?",
            r"/(explorer-static|payload|live|study|export|assets|static)/.*",
            rf"{API}/(info|openapi\.json|app_id|user|login_check|theme\.css|queue/status)/?",
        ]
    )
)
QUEUE_DATA = f"{API}/queue/data"
LISTEN = re.compile(
    rf"{API}/(heartbeat/{EVENT}|queue/data|call/(v2/)?[A-Za-z0-9_-]{{1,64}}/(?P<call>[A-Za-z0-9_-]{{1,64}}))"
)
CALL = re.compile(rf"{API}/((?P<way>run|api|call|call/v2)/{NAME}|(?P<join>queue/join))/?")
SAY = re.compile(rf"{API}/(?P<what>cancel|reset)/?")
NO_ROUTE = "The app has nothing here."
DEFAULT_PORTS = {"http": 80, "https": 443}


class SameOrigin:
    """Refuses what a page of another origin asks for, but for opening the app by a link."""

    def __init__(self, app: ASGIApp, public_url: str | None = None):
        """``public_url``: the address under which a proxy shows the app, if it does not forward its own host's name."""
        self.app = app
        self.public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_foreign(scope, Headers(scope=scope)):
            words = "Refused: this was asked for by a page of another address than the app's."
            if "x-forwarded-for" in Headers(scope=scope) and self.public_url is None:
                words += " Behind a proxy, start the app with --root-path and the address that browsers use."
            await _refusal(words, 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_foreign(self, scope: Scope, headers: Headers) -> bool:
        # The browser's own word, which no page can forge; sent on https and to this machine.
        site = headers.get("sec-fetch-site")
        if site in ("same-origin", "none"):
            return False
        if site is not None:
            opened = scope["method"] in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            return not (opened and scope["path"] == "/")
        origin = headers.get("origin")
        if origin is None:
            return False  # a program, or an old browser that opens the page
        # No page can set these headers without being granted it, which none is.
        host = _first(headers.get("x-forwarded-host", headers.get("host", "")))
        scheme = _first(headers.get("x-forwarded-proto", scope["scheme"]))
        own = [f"{scheme}://{host}", *([] if self.public_url is None else [self.public_url])]
        return _place(origin) not in [_place(url) for url in own]


class Boundary:
    """Passes on the routes that the app needs, and of calls what ``endpoint_inputs`` makes of them."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[int, Endpoint], connections: Connections):
        self.app = app
        self.endpoints = endpoints
        self.connections = connections
        self.streams = EventStreams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                await self._serve(scope, receive, send)
            except RefusedCall as refused:
                await _refusal(str(refused), refused.status)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, reads = scope["path"], scope["method"] in ("GET", "HEAD")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if "deep_link" in query:
            raise RefusedCall(NO_ROUTE, 404)
        if reads and READ.fullmatch(path):
            await self.app(scope, receive, send)
        elif scope["method"] == "GET" and (found := LISTEN.fullmatch(path)):
            name = found["session"] or found["call"] or query.get("session_hash", [""])[0]
            if not SESSION.fullmatch(name):
                raise RefusedCall("session_hash is missing or of the wrong kind.")
            if path == QUEUE_DATA:
                send = self.streams.stream(name, send)
            async with self.connections.listening(name, receive) as wait:
                await _whole_answer(self.app, scope, wait, send)
        elif scope["method"] == "POST" and (found := CALL.fullmatch(path)):
            body = await _read_body(scope, receive)
            way = found["way"] or "queue/join"
            call = read_call(self.endpoints, way, found["name"], body)
            if way in ("run", "api"):
                # Who gave no name for itself gets one, so that its leaving is noticed.
                call["session_hash"] = call["session_hash"] or secrets.token_hex(16)
                async with self.connections.listening(call["session_hash"], receive) as wait:
                    await self.app(*_with_body(scope, call, wait), send)
            else:
                answer = self.streams.answer(call.get("session_hash"), send) if found["join"] else send
                await self.app(*_with_body(scope, call, receive), answer)
        elif scope["method"] == "POST" and (found := SAY.fullmatch(path)):
            said = read_fields(await _read_body(scope, receive), CANCEL if found["what"] == "cancel" else RESET)
            await self.app(*_with_body(scope, said, receive), send)
        else:
            raise RefusedCall(NO_ROUTE, 404)


def _refusal(words: str, status: int) -> JSONResponse:
    return JSONResponse({"detail": words, "error": words}, status_code=status)


async def _read_body(scope: Scope, receive: Receive) -> Any:
    """The JSON body.

    Raises:
        RefusedCall: if it is announced as something else, too long, or not JSON.
    """
    kind = Headers(scope=scope).get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedCall("The body is of another kind: expected Content-Type: application/json.", 415)
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedCall("The client has left.", 400)
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise RefusedCall(f"The body is too long: expected at most {MAX_BODY_BYTES} bytes.", 413)
        if not message.get("more_body", False):
            return parse_json(body)


async def _whole_answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a stream and end it properly, even if the application was told that its client has left."""
    open_ended = False

    async def watched(message: Message) -> None:
        nonlocal open_ended
        open_ended = message["type"] == "http.response.start" or message.get("more_body", False)
        await send(message)

    await app(scope, receive, watched)
    if open_ended:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _with_body(scope: Scope, value: Any, then: Receive) -> tuple[Scope, Receive]:
    """Scope and receive of the same request with ``value`` as its JSON body; after that, what ``then`` receives."""
    body = json.dumps(value).encode()
    length = str(len(body)).encode()
    dropped = (b"content-length", b"content-encoding", b"transfer-encoding")
    headers = [(name, text) for name, text in scope["headers"] if name.lower() not in dropped]
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return left.pop() if left else await then()

    return {**scope, "headers": [*headers, (b"content-length", length)]}, receive


def _first(listed: str) -> str:
    return listed.split(",")[0].strip()


def _place(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URL; no two that cannot be read are alike."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return url, None, secrets.randbits(32)
