"""The page behind reverse proxies that show it under a path of their own."""

import contextlib
import http.client
import http.server
import re
import threading

import pytest
from fastapi.testclient import TestClient

from explorer.ui.shell.application import make_application_server
from explorer.ui.shell.context import AppSettings
from explorer.ui.shell.sub_path import REPLACED, read_root_path

PREFIX = "/explorer"
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy(http.server.BaseHTTPRequestHandler):
    """nginx's ``location /explorer/ { proxy_pass http://app/; }``: the Host header becomes the app's."""

    protocol_version = "HTTP/1.0"
    app, strips, says, outside = "", True, False, ()

    def forward(self):
        if not self.path.startswith(f"{PREFIX}/"):
            self.outside.append(self.path)
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {*HOP_BY_HOP, "host"}}
        if self.says:
            headers |= {
                "X-Forwarded-Host": self.headers["Host"],
                "X-Forwarded-Prefix": PREFIX,
                "X-Forwarded-Proto": "http",
            }
        upstream = http.client.HTTPConnection(self.app, timeout=60)
        path = self.path.removeprefix(PREFIX) if self.strips else self.path
        upstream.request(self.command, path, body or None, headers)
        answer = upstream.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            while chunk := answer.read1(65536):
                self.wfile.write(chunk)
        upstream.close()

    do_GET = do_POST = do_HEAD = forward

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def proxy_of(address, strips, says):
    """Its own address, and what was asked for outside of the prefix."""
    outside = []
    facts = {"app": address.removeprefix("http://"), "strips": strips, "says": says, "outside": outside}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Proxy,), facts)) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}", outside
        proxy.shutdown()


@pytest.mark.parametrize(
    ("options", "proxies"),
    [
        ((), [(True, False), (True, True)]),
        pytest.param(("--root-path", PREFIX), [(False, False)], marks=pytest.mark.slow),
    ],
    ids=["prefix taken off, said and not", "prefix left on and named"],
)
def test_the_page_works_behind_a_proxy(options, proxies, world, address, serve_app, watch_page):
    own = serve_app("--study", world[1], "--no-warm-up", *options)
    with own if options else contextlib.nullcontext(address) as address:
        for strips, says in proxies:
            asked = []
            with proxy_of(address, strips, says) as (front, outside), watch_page(front) as page:
                page.on("request", lambda request, asked=asked: asked.append(request.url))
                page.goto(f"{PREFIX}/")
                page.wait_until_drawn()
                page.locator("#prompt :is(input, textarea)").fill(world[2])
                page.locator("#steps input").fill("2")
                page.locator("#generate").click()
                page.locator(".prompt-words .origin", has_text="Live").wait_for()
                page.get_by_role("tab", name="Implosion").click()
                page.wait_until_drawn()
                assert page.complaints == []
            assert outside == []
            assert [url for url in asked if not url.startswith((f"{front}{PREFIX}/", "data:", "blob:"))] == []


def test_gradios_page_has_each_absolute_address_once(tmp_path):
    from gradio.routes import templates

    page = (templates.env.loader.get_source(templates.env, "frontend/index.html")[0]).encode()
    page = page.replace(b"{{ config.get('root', '') | toorjson }}", b'"http://127.0.0.1:7860"')
    assert [len(absolute.findall(page)) for absolute, _ in REPLACED] == [1, 1, 1]
    client = TestClient(make_application_server(AppSettings(checkpoints=tmp_path)), base_url="http://127.0.0.1")
    served = client.get("/", headers={"Accept-Encoding": "br"}).text
    assert not re.findall(r"""(?:src|href)=["']/""", served)
    assert "const root = window.gradio_config.root;" in served


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("", None)),
        ("/", ("", None)),
        ("/explorer/", ("/explorer", None)),
        ("https://lab.example:8443/x/y", ("/x/y", "https://lab.example:8443")),
        ("http://lab", ("", "http://lab")),
    ],
)
def test_a_root_path_is_a_path_or_a_url(text, expected):
    assert read_root_path(text) == expected


@pytest.mark.parametrize("text", ["explorer", "//lab/x", "ftp://lab/x", "http://", "/x?y", "https://lab/#x"])
def test_anything_else_is_no_root_path(text):
    with pytest.raises(ValueError, match=re.escape(f"root path is {text!r}: expected a path such as /explorer")):
        read_root_path(text)


def test_a_named_address_is_the_apps_own(tmp_path):
    settings = AppSettings(checkpoints=tmp_path, root_path="http://lab.example/explorer")
    client = TestClient(make_application_server(settings), base_url="http://127.0.0.1")
    call = {"data": ["x"]}
    own = {"Origin": "http://lab.example", "X-Forwarded-For": "10.0.0.1"}
    assert client.post("/gradio_api/run/inspect_pair", json=call, headers=own).status_code == 500
    assert client.get("/livez", headers={"Host": "lab.example"}).status_code == 200
    assert client.get("/livez", headers={"Host": "other.example"}).status_code == 400
    assert client.get("/explorer/livez").json() == {"status": "live"}
    assert client.get("/explorer?v=1", follow_redirects=False).headers["location"] == "/explorer/?v=1"
    other = make_application_server(AppSettings(checkpoints=tmp_path))
    told = TestClient(other, base_url="http://127.0.0.1").post("/gradio_api/run/inspect_pair", json=call, headers=own)
    assert (told.status_code, "--root-path" in told.text) == (403, True)
