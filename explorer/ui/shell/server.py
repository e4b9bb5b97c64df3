"""The web server around the Blocks: health routes, our static files, checked artefacts, live results."""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from explorer.core.provenance import ManifestError
from explorer.ui.screens.compare.live_graft import LiveGraft
from explorer.ui.screens.compare.sensitivity import measured_sensitivity
from explorer.ui.screens.implosion.payload import film_strip_animation
from explorer.ui.shell import routes
from explorer.ui.shell.context import PAYLOAD_ROUTE, STATIC_ROUTE, AppContext
from explorer.ui.shell.open_study import STUDY_ROUTE, OpenStudy, is_told, told
from explorer.ui.shell.permalink import CompareSettings
from explorer.ui.shell.request_guard import Boundary, SameOrigin
from explorer.ui.shell.sub_path import PageAddress, SubPath, read_root_path
from explorer.ui.shell.theme import static_files, style_sheet

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from explorer.ui.screens.compare.live_generation import LiveGeneration
    from explorer.ui.shell.endpoint_inputs import Endpoint

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
RESULT_SUFFIXES = (".png", ".json", ".bin")
FILE = "application/octet-stream"
OPEN_PATHS = ("/livez", "/readyz")


class BasicAuthentication:
    """Asks every request but the health routes for a user name and password (RFC 7617)."""

    def __init__(self, app: ASGIApp, credentials: tuple[str, str]):
        self.app = app
        self.expected = base64.b64encode(":".join(credentials).encode()).decode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            headers = {name.lower(): value for name, value in scope["headers"]}
            given = headers.get(b"authorization", b"").decode("latin-1")
            if not secrets.compare_digest(given.encode(), f"Basic {self.expected}".encode()):
                refusal = Response(
                    "A user name and password are needed.",
                    status_code=401,
                    headers={"WWW-Authenticate": 'Basic realm="Implosion Explorer"'},
                )
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def make_server(
    context: AppContext, live: LiveGeneration, endpoints: Mapping[int, Endpoint] | None = None
) -> fastapi.FastAPI:
    """The FastAPI application that the Blocks are mounted in.

    Args:
        endpoints: what may be called of the Blocks; nothing if None.

    Raises:
        ValueError: if the address is not a loopback address and no credentials are set, or the root path is none.
    """
    settings = context.settings
    prefix, public_url = read_root_path(settings.root_path)
    server = fastapi.FastAPI(title="Implosion Explorer", docs_url=None, redoc_url=None, openapi_url=None)
    # The last one added sees a request first.
    server.add_middleware(PageAddress)
    server.add_middleware(CORSMiddleware)  # grants nothing; without one, Gradio grants every port of this machine
    server.add_middleware(Boundary, endpoints=endpoints or {}, connections=live.connections)
    server.add_middleware(SameOrigin, public_url=public_url)
    if settings.credentials is not None:
        server.add_middleware(BasicAuthentication, credentials=settings.credentials)
    if settings.host in LOOPBACK_HOSTS:
        # A page on another site that resolves to 127.0.0.1 (DNS rebinding) is refused by its Host header.
        hosts = ["127.0.0.1", "localhost", "[::1]", *([urlsplit(public_url).hostname] if public_url else [])]
        server.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    elif settings.credentials is None:
        raise ValueError(
            f"host {settings.host!r} is reachable from other machines: expected a user name and password "
            "(--user and EXPLORER_PASSWORD), or --host 127.0.0.1"
        )
    if prefix:
        server.add_middleware(SubPath, prefix=prefix)
    _add_health(server)
    _add_static(server)
    _add_pictures(server, context)
    _add_measurements(server, context, live)
    _add_artefacts(server, context, live)
    _add_exports(server, context)
    return server


def _add_health(server: fastapi.FastAPI) -> None:
    @server.get("/livez")
    def live() -> dict[str, str]:
        return {"status": "live"}

    @server.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}


class Scripts(StaticFiles):
    """Every screen's scripts under one address, so that they import one another by name alone."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.files = static_files(".js")

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Path and status of the script called ``path``."""
        found = self.files.get(path)
        return ("", None) if found is None else (str(found), found.stat())


def _add_static(server: fastapi.FastAPI) -> None:
    sheet = style_sheet()

    @server.get(f"{STATIC_ROUTE}/explorer.css")
    def styles() -> Response:
        return Response(sheet, media_type="text/css", headers={"Cache-Control": "no-cache"})

    @server.get(f"{STATIC_ROUTE}/plotly.min.js")
    def plotly() -> FileResponse:
        # find_spec does not import plotly, which would cost a second.
        package = Path(importlib.util.find_spec("plotly").origin).parent
        return FileResponse(package / "package_data" / "plotly.min.js", media_type="text/javascript")

    server.mount(STATIC_ROUTE, Scripts(check_dir=False))


def _add_measurements(server: fastapi.FastAPI, context: AppContext, live: LiveGeneration) -> None:
    """Before :func:`_add_artefacts`, whose live results these are not."""
    grafts = LiveGraft(live)

    answered = partial(_answered, context)

    @server.get(routes.SENSITIVITY)
    def sensitivity(word: int, step: int, token: str = "", model: str = "", study: str = "") -> Response:
        return answered(
            study,
            lambda opened: measured_sensitivity(live, opened, token=token, model=model, word=word, step=step),
        )

    @server.get(routes.GIVEN)
    def given(model: str, prompt: str, seed: int, study: str = "") -> Response:
        from explorer.ui.screens.compare.given_picture import shown_picture

        return answered(study, lambda opened: shown_picture(live, opened, model=model, prompt=prompt, seed=seed))

    @server.get(routes.GRAFT)
    def graft(
        recipient: str, donor: str, prompt: str, seed: int, steps: int, guidance_scale: float,
        negative_prompt: str = "", weights: str = "", column: bool = False, study: str = "",
    ) -> Response:  # fmt: skip
        settings = CompareSettings(
            prompt=prompt, seed=seed, steps=steps, guidance_scale=guidance_scale, negative_prompt=negative_prompt,
            models=(recipient, donor),
        )  # fmt: skip
        draw = grafts.column if column else grafts.picture
        return answered(study, lambda opened: draw(opened, settings, weights))


def _add_artefacts(server: fastapi.FastAPI, context: AppContext, live: LiveGeneration) -> None:
    @server.get(PAYLOAD_ROUTE + "/{name}.json")
    def payload(name: str, study: str = "") -> Response:
        make = context.payloads.get(name)
        if make is None:
            return _json({"problem": f"There is no payload named {name!r}."}, status_code=404)

        def made(opened: OpenStudy) -> Mapping[str, Any]:
            try:
                return make(opened)
            except ManifestError as error:
                return told(opened, error)

        return _answered(context, study, made)

    @server.get("/live/{token}.json")
    def live_result(token: str) -> Response:
        try:
            return _json(live.results.payload(token))
        except ValueError as error:
            return _json({"problem": str(error)}, status_code=404)

    @server.get(STUDY_ROUTE + "/{slug}/{step}/{name:path}")
    def result(slug: str, step: str, name: str) -> Response:
        if not name.endswith(RESULT_SUFFIXES):
            return Response("not a result that is shown", status_code=404)
        try:
            opened = context.study(slug)
        except ValueError as error:
            return Response(str(error), status_code=404, media_type="text/plain")
        try:
            path = opened.result_file(step, name)
        except ValueError as error:
            return Response(_in_words(opened, error), status_code=404, media_type="text/plain")
        return FileResponse(path, headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})


def _add_pictures(server: fastapi.FastAPI, context: AppContext) -> None:
    @server.get(STUDY_ROUTE + "/{slug}/thumbnails/{arm}")
    def pictures(
        slug: str, arm: str, rows: Annotated[str, fastapi.Query(pattern=f"^{routes.ROWS}$")], data: str = ""
    ) -> Response:
        from explorer.ui.shell.pair_pictures import NoPicturesError, pair_pictures

        try:
            opened = context.study(slug)
            sheet = pair_pictures(opened, arm, [int(row) for row in rows.split(",")], data)
        except NoPicturesError as error:
            return _json({"problem": f"{error}.", "command": error.command}, status_code=404)
        except ValueError as error:
            return _json({"problem": str(error), "command": ""}, status_code=404)
        return Response(sheet, media_type="image/png", headers={"Cache-Control": "no-cache"})


def _add_exports(server: fastapi.FastAPI, context: AppContext) -> None:
    @server.exception_handler(RequestValidationError)
    def refuse(request: fastapi.Request, error: RequestValidationError) -> Response:
        names = ", ".join(sorted({str(problem["loc"][1]) for problem in error.errors()}))
        return _json({"detail": f"{names}: missing or of the wrong kind."}, status_code=422)

    @server.get(routes.FILM_STRIP_GIF)
    def film_strip(
        row: Annotated[list[int], fastapi.Query()], kinds: str = "images", theme: str = "light", study: str = ""
    ) -> Response:
        return _exported(context, study, lambda opened: film_strip_animation(opened, row, kinds, theme), "image/gif")

    @server.get(routes.SELECTION + ".{form}")
    def selection(
        form: str, stamp: str, rows: str, name: Annotated[str, fastapi.Query(alias="set")], study: str = ""
    ) -> Response:
        from explorer.ui.screens.graphs.export import export_selection

        return _exported(context, study, lambda opened: export_selection(opened, name, stamp, rows, form))

    @server.get(routes.FILTERED + ".{form}")
    def filtered(form: str, arm: str, stamp: str, recipe: str, which: str, study: str = "") -> Response:
        from explorer.ui.screens.defence.answers import export_filtered

        return _exported(
            context, study, lambda opened: export_filtered(opened, arm, stamp, recipe, form=form, which=which)
        )

    @server.get(routes.FILTER_ANSWER)
    def answer(arm: str, stamp: str, recipe: str, study: str = "") -> Response:
        from explorer.ui.screens.defence.answers import filter_answer

        return _answered(
            context, study, lambda opened: context.models.do(lambda: filter_answer(opened, arm, recipe, stamp))
        )

    @server.get(routes.FILTER_HALVES)
    def halves(arm: str, stamp: str, recipe: str, criterion: str, study: str = "") -> Response:
        from explorer.ui.screens.defence.answers import held_out_answer

        return _answered(context, study, lambda opened: held_out_answer(opened, arm, stamp, recipe, criterion))

    @server.get(routes.BLAME)
    def blamed(arm: str, concept: str, study: str = "") -> Response:
        from explorer.ui.screens.implosion.stored_blame import stored_blame

        return _answered(context, study, lambda opened: stored_blame(opened, arm, concept))


def _answered(context: AppContext, study: str, make: Callable[[OpenStudy], Mapping[str, Any]]) -> Response:
    """What a page asks of a study, or why it cannot be answered."""
    try:
        opened = context.study(study)
    except ValueError as error:
        return _json({"problem": str(error)})
    try:
        return _json(make(opened))
    except Exception as error:
        # Whatever it is, the page must not go on waiting, and says it in words; what nobody foresaw is logged.
        if not (is_told(error) or isinstance(error, KeyError)):
            logging.getLogger(__name__).error("What a page asked for could not be answered", exc_info=error)
        return _json({"problem": _in_words(opened, error)})


def _exported(context: AppContext, study: str, make: Callable[[OpenStudy], bytes], media_type: str = FILE) -> Response:
    """A file that is made for whoever asks, or why it cannot be."""
    try:
        opened = context.study(study)
    except ValueError as error:
        return Response(str(error), status_code=404, media_type="text/plain")
    try:
        return Response(make(opened), media_type=media_type)
    except ValueError as error:
        return Response(_in_words(opened, error), status_code=404, media_type="text/plain")


def _json(value: Mapping[str, Any], status_code: int = 200) -> Response:
    return Response(
        json.dumps(value, separators=(",", ":"), allow_nan=False),
        status_code=status_code,
        media_type="application/json",
        headers={"Cache-Control": "no-cache"},
    )


def _in_words(opened: OpenStudy, error: Exception) -> str:
    return f"a field is missing: {error}" if isinstance(error, KeyError) else opened.in_words(error)
