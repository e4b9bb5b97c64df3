"""What a client may ask: every way into every endpoint of the app, and every route that Gradio has."""

import asyncio
import base64
import itertools
import json
import os
import random
import re

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.shell.application import build_application, make_application_server
from explorer.ui.shell.connections import Connections
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.endpoint_inputs import KINDS, Endpoint, Input, RefusedCall, endpoints_of
from explorer.ui.shell.request_guard import NO_ROUTE, Boundary

HERE = "http://127.0.0.1"
API = "/gradio_api"
PASSWORD = ("ann", "secret")
FITTING = {"string": "x", "integer": 1, "number": 0.5, "boolean": True, "array of string": ["x"], "nothing": None}
PYTHONS_WORDS = re.compile(
    r"Traceback|\w+(Error|Exception)\b|object has no|not supported between|NoneType|unhashable|Errno|'\w+' object|"
    r"argument of type|codec can't|needed: \d|literal for|\bpydantic\b"
)
WAYS = 13
NEEDED = {
    "/", "/config", "/config/", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", "/assets/x", "/static/x",
    *(f"{API}/{name}" for name in ("info", "info/", "openapi.json", "app_id", "app_id/", "user", "user/", "login_check",
                                   "login_check/", "theme.css", "queue/status", "queue/data", "heartbeat/x", "call/x/x",
                                   "call/v2/x/x")),
    *(f"{API}/{name}{end}" for name in ("run/x", "api/x", "call/x", "call/v2/x", "reset") for end in ("", "/")),
    f"{API}/queue/join", f"{API}/cancel",
}  # fmt: skip
"""Gradio's routes that the page and programs need, with x for what is chosen; all others are closed."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints and Gradio's own folder, all empty."""
    root = tmp_path_factory.mktemp("guard")
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(root / "gradio")
    yield root
    os.environ.pop("GRADIO_TEMP_DIR") if before is None else os.environ.update(GRADIO_TEMP_DIR=before)


@pytest.fixture(scope="module")
def server(folders):
    return make_application_server(AppSettings(checkpoints=folders / "checkpoints"))


@pytest.fixture(scope="module")
def client(server):
    with TestClient(server, base_url=HERE) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(folders):
    settings = AppSettings(checkpoints=folders / "checkpoints", credentials=PASSWORD)
    with TestClient(make_application_server(settings), base_url=HERE) as client:
        client.auth = PASSWORD
        yield client


@pytest.fixture(scope="module")
def endpoints(folders):
    context = AppContext(settings=AppSettings(checkpoints=folders / "checkpoints"))
    return endpoints_of(build_application(context, LiveGeneration(context)))


def ways(endpoint, values):
    """Path and body of every way to call an endpoint with these inputs."""
    names = [wanted.name for wanted in endpoint.inputs]
    numbered = {"data": values, "fn_index": endpoint.index, "session_hash": "abc"}
    for way in ("run", "api"):
        yield f"{API}/{way}/{endpoint.name}", {"data": values}
        yield f"{API}/{way}/{endpoint.name}/", {"data": values, "session_hash": "abc"}
        yield f"{API}/{way}/{endpoint.name}", numbered
        yield f"{API}/{way}/predict", {**numbered, "batched": True, "simple_format": True}
    yield f"{API}/call/{endpoint.name}", {"data": values}
    yield f"{API}/call/{endpoint.name}/", {**numbered, "event_id": "abc"}
    yield f"{API}/call/v2/{endpoint.name}", dict(zip(names, values, strict=True))
    yield f"{API}/queue/join", {**numbered, "event_data": values[:1], "trigger_id": 1}
    yield f"{API}/queue/join", {"data": values, "fn_index": endpoint.index}


def file_values(path):
    plain = {"path": path, "meta": {"_type": "gradio.FileData"}}
    yield plain
    yield [plain]
    yield {"path": path, "url": f"file://{path}", "orig_name": "x", "is_stream": True, "meta": plain["meta"]}
    yield {"video": plain, "value": [{"x": plain}]}


@pytest.mark.parametrize("with_password", [False, True])
def test_no_endpoint_takes_a_file_by_any_way(request, endpoints, folders, with_password):
    client = request.getfixturevalue("guarded" if with_password else "client")
    secret = folders / "secret.txt"
    secret.write_text("the secret")
    os.mkfifo(pipe := folders / f"pipe-{with_password}")
    files = itertools.cycle(value for path in (secret, pipe) for value in file_values(str(path)))
    tried = 0
    for endpoint in endpoints.values():
        places = [place for place in range(len(endpoint.inputs)) for _ in range(4)]
        for turn in range(max(len(places), WAYS) if places else 0):
            values = [FITTING[each.kind] for each in endpoint.inputs]
            place = places[turn % len(places)]
            values[place] = next(files)
            path, body = list(ways(endpoint, values))[turn % WAYS]
            answer = client.post(path, json=body)
            assert answer.status_code in (404, 422), (path, body, answer.text)
            told = answer.json()["detail"]
            assert any(
                words in told for words in (NO_ROUTE, "no such endpoint", "of the wrong kind", "none of the choices")
            )
            assert str(folders) not in told
            tried += 1
    assert tried > 300
    assert not [found for found in (folders / "gradio").rglob("*") if found.is_file()], "nothing was copied"
    assert client.get(f"{API}/file={secret}").status_code == 404


def test_beneath_the_guard_gradio_refuses_files_too(server, folders):
    (folders / "secret.txt").write_text("the secret")
    beneath = next(route.app for route in server.routes if isinstance(route, Mount) and route.path == "")
    with TestClient(beneath, base_url=HERE) as client:
        for value in file_values(str(folders / "secret.txt")):
            answer = client.post(f"{API}/run/inspect_pair", json={"data": [value, "", ""]})
            assert answer.status_code == 500
            assert "was not uploaded by a user" in answer.text


def test_an_endpoint_that_takes_anything_but_plain_values_cannot_be_added():
    import gradio as gr

    with gr.Blocks() as blocks:
        gr.Button().click(print, inputs=gr.File(label="Set"))
    with pytest.raises(ValueError, match=r"Set takes .*: expected a plain value, string, integer"):
        endpoints_of(blocks)


def test_only_the_routes_that_are_needed_are_open(server, client):
    beneath = next(route.app for route in server.routes if isinstance(route, Mount) and route.path == "")
    seen = set()
    included = [route.original_router.routes for route in beneath.routes if hasattr(route, "original_router")]
    for route in itertools.chain(beneath.routes, *included):
        path = re.sub(r"\{[^}]*\}", "x", getattr(route, "path", ""))
        for method in getattr(route, "methods", None) or ():
            if path in NEEDED:
                seen.add(path)
                continue
            answer = client.request(method, path)
            assert (answer.status_code, method == "HEAD" or answer.json()["detail"]) in (
                (404, NO_ROUTE),
                (404, True),
            ), path
    assert seen ^ NEEDED == set()
    for path in ("/?deep_link=x", "/config?deep_link=x", f"{API}/upload", f"{API}/component_server", f"{API}/proxy=x"):
        assert client.get(path).status_code == client.post(path, json={}).status_code == 404


def test_nothing_can_be_uploaded(client, folders):
    for path in (
        "upload",
        "component_server",
        "process_recording",
        "run/inspect_pair",
        "call/inspect_pair",
        "queue/join",
    ):
        answer = client.post(f"{API}/{path}", files={"files": ("big.bin", b"x" * 1000)})
        assert answer.status_code in (404, 415), path
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.post(f"{API}/run/inspect_pair", content='{"data": ["x"]}', headers={"Content-Type": kind})
        assert answer.status_code == 415
    assert client.post(f"{API}/run/inspect_pair", json={"data": ["x" * 70_000]}).status_code == 413
    assert not [found for found in (folders / "gradio").rglob("*") if found.is_file()]


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "http://localhost:80"},
    {"Origin": "https://127.0.0.1"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_origin_starts_changes_and_reads_nothing(client, headers):
    for path in ("run/inspect_pair", "call/inspect_pair", "queue/join", "upload", "cancel", "reset"):
        answer = client.post(f"{API}/{path}", json={"data": ["x"]}, headers=headers)
        assert (answer.status_code, "another address" in answer.text) == (403, True)
    for path in ("/config", f"{API}/info", "/payload/compare.json", f"{API}/heartbeat/abc"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9999", "http://127.0.0.1"])
def test_cors_is_granted_to_nobody(client, origin):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for answer in (
        client.options(f"{API}/run/inspect_pair", headers=asked),
        client.get("/config", headers={"Origin": origin}),
    ):
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": HERE},
        {"Origin": "http://127.0.0.1:80"},
        {"Origin": "https://lab.example", "X-Forwarded-Host": "lab.example", "X-Forwarded-Proto": "https"},
        {"Origin": "http://lab.example:8000", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_the_apps_own_page_and_programs_are_answered(client, headers):
    assert (
        "not measured" in client.post(f"{API}/run/inspect_pair", json={"data": ["x"]}, headers=headers).json()["error"]
    )
    assert client.get("/config", headers=headers).status_code == 200


def test_a_link_on_another_page_opens_the_app(client):
    assert (
        client.get("/?v=1", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200
    )


def test_no_value_of_a_wrong_kind_is_answered_in_pythons_words(client, endpoints, caplog, capfd):
    """Random bodies, 300 of them: wrong kinds, missing and surplus inputs, odd numbers and texts, broken JSON."""
    chance = random.Random(11)
    odd = [None, True, -1, 1.5, 10**30, -(10**400), 1e308, 2**53, "", "x" * 9000, "\0", "\ud800", "~root", "٣",
           "benign", ["benign", "benign"], [], [[]], [None], ["x"] * 99, {}, {"a": 1}, {"__type__": "x"}]  # fmt: skip
    callable_here = [
        endpoint for endpoint in endpoints.values() if endpoint.name not in ("checkpoints", "show_study", "tell_origin")
    ]
    for _ in range(300):
        endpoint = chance.choice(callable_here)
        values = [chance.choice(odd) if chance.random() < 0.6 else FITTING[wanted.kind] for wanted in endpoint.inputs]
        if chance.random() < 0.2:
            values = values[: chance.randrange(len(values) + 1)] + [chance.choice(odd)] * chance.randrange(2)
            values += [None] * max(0, len(endpoint.inputs) - len(values))
        path, body = chance.choice(
            [way for way in ways(endpoint, values[: len(endpoint.inputs)]) if "queue" not in way[0]]
        )
        if chance.random() < 0.2:
            body[chance.choice(["data", "fn_index", "session_hash", "trigger_id"])] = chance.choice(odd)
        text = json.dumps(body)
        if chance.random() < 0.1:
            text = chance.choice([text[:-1], "[" * 5000, "NaN", "null", '"x"', "[]", "\ufeff{}", "{" * 30])
        answer = client.post(
            path, content=text.encode("utf-8", "surrogatepass"), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (200, 400, 404, 415, 422, 500), (path, text, answer.text)
        if "event_id" in answer.json():
            result = client.get(f"{API}/call/x/{answer.json()['event_id']}").text
            assert not PYTHONS_WORDS.search(result), (path, text, result)
        told = answer.json().get("error") if answer.status_code == 500 else answer.json().get("detail", "")
        assert told is not None, (path, text, answer.text)
        assert not PYTHONS_WORDS.search(told), (path, text, told)
    printed = capfd.readouterr()
    assert not PYTHONS_WORDS.search(printed.out + printed.err + caplog.text)


def test_kinds_are_read_as_json_means_them():
    def read(kind, value):
        return Input(name="it", kind=kind, empty=False).read(value)

    assert (read("integer", 7.0), type(read("integer", 7.0))) == (7, int)
    assert read("array of string", ["a", ""]) == ["a", ""]
    for kind in KINDS:
        for value in (None, True, 7, 7.5, "x", ["x"], {"x": 1}, float("nan"), 10**400, "\ud800", ["x", None]):
            fits = type(value) in {
                "string": {str}, "integer": {int}, "number": {int, float}, "boolean": {bool}, "nothing": {type(None)},
                "array of string": {list},
            }[kind] and value not in (10**400, "\ud800", ["x", None]) and value == value  # fmt: skip
            if fits:
                assert read(kind, value) == value
            else:
                with pytest.raises(
                    RefusedCall, match=f"^it is of the wrong kind: expected {re.escape(KINDS[kind][0])}.$"
                ):
                    read(kind, value)


def test_a_password_is_asked_before_a_call_is_read(guarded):
    wrong = base64.b64encode(b"ann:wrong").decode()
    answer = guarded.post(
        f"{API}/run/inspect_pair", json={"data": [{}]}, headers={"Authorization": f"Basic {wrong}"}, auth=None
    )
    assert answer.status_code == 401


def test_a_call_whose_client_leaves_is_known_to_have_been_left(monkeypatch):
    monkeypatch.setattr("explorer.ui.shell.connections.SECONDS_TO_COME_BACK", -1.0)
    connections, seen = Connections(), []

    async def application(scope, receive, send):
        session = json.loads((await receive())["body"])["session_hash"]
        seen.append(connections.has_left(session))
        seen.append((await receive())["type"])
        seen.append(connections.has_left(session))

    async def call():
        body = json.dumps({"data": []}).encode()
        messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": body}]

        async def receive():
            return messages.pop()

        scope = {"type": "http", "method": "POST", "path": f"{API}/run/x", "query_string": b"",
                 "headers": [(b"content-type", b"application/json")]}  # fmt: skip
        known = {1: Endpoint(index=1, name="x", public=True, inputs=())}
        await Boundary(application, known, connections)(scope, receive, None)

    asyncio.run(call())
    assert seen == [False, "http.disconnect", True]


def test_who_never_listens_is_waited_for_and_then_given_up(monkeypatch):
    connections = Connections()
    assert not connections.has_left("a")
    assert not connections.has_left("a")
    monkeypatch.setattr("explorer.ui.shell.connections.SECONDS_TO_COME", -1.0)
    assert not connections.has_left("b")
    assert connections.has_left("b")
    for number in range(2000):
        connections.has_left(f"s{number}")
    assert len(connections._absent_until) == 1000
