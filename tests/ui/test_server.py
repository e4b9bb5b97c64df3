import pytest
from fastapi.testclient import TestClient

from explorer.core.provenance import write_manifest
from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.shell.application import make_application_server
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.server import make_server

BASE = "http://127.0.0.1"


@pytest.fixture
def settings(tmp_path):
    folder = tmp_path / "precomputed"
    folder.mkdir()
    (folder / "sheet.png").write_bytes(b"png")
    (folder / "page.html").write_text("<script>1</script>")
    write_manifest(folder, kind="precomputed", config={}, seed=0, files=["sheet.png", "page.html"])
    (tmp_path / "secret.png").write_bytes(b"secret")
    return AppSettings(checkpoints=tmp_path / "checkpoints", precomputed=folder)


def test_the_page_and_its_parts_answer(settings):
    client = TestClient(make_application_server(settings), base_url=BASE)
    assert client.get("/livez").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert "Implosion Explorer" in client.get("/").text
    assert "--poisoned" in client.get("/explorer-static/explorer.css").text
    for module in ("compare", "implosion", "header", "graphs_screen"):
        assert "export" in client.get(f"/explorer-static/{module}.js").text
    assert client.get("/explorer-static/plotly.min.js").status_code == 200


def test_the_page_asks_nothing_of_other_machines(settings):
    client = TestClient(make_application_server(settings), base_url=BASE)
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    assert "fonts.googleapis" not in client.get("/").text + client.get("/theme.css").text


def test_only_what_the_manifest_lists_is_served(settings):
    client = TestClient(make_application_server(settings), base_url=BASE)
    assert client.get("/precomputed/sheet.png").content == b"png"
    assert client.get("/precomputed/page.html").status_code == 404
    for path in ("../secret.png", "%2e%2e/secret.png", "..%2fsecret.png", "manifest.json"):
        assert client.get(f"/precomputed/{path}").status_code == 404
    outside = settings.precomputed.parent / "secret.png"
    assert client.get(f"/gradio_api/file={outside}").status_code in (403, 404)


def test_a_wrong_query_is_answered_in_words_without_repeating_it(settings):
    client = TestClient(make_application_server(settings), base_url=BASE)
    for query in ("", "?row=mine", "?row=1&row="):
        answer = client.get(f"/export/film-strip.gif{query}")
        assert (answer.status_code, answer.json()) == (422, {"detail": "row: missing or of the wrong kind."})


def test_problems_are_served_in_words(settings):
    context = AppContext(settings=settings)
    context.add_payload("broken", lambda: context.precomputed_json("facts.json"))
    client = TestClient(make_server(context, LiveGeneration(context)), base_url=BASE)
    assert "does not list facts.json" in client.get("/payload/broken.json").json()["problem"]
    assert client.get("/payload/nothing.json").status_code == 404
    answer = client.get("/live/unknown.json")
    assert answer.status_code == 404
    assert "press Generate" in answer.json()["problem"]


def test_another_host_name_is_refused(settings):
    context = AppContext(settings=settings)
    client = TestClient(make_server(context, LiveGeneration(context)), base_url="http://evil.example")
    assert client.get("/livez").status_code == 400


def test_another_address_needs_credentials(settings):
    exposed = AppSettings(checkpoints=settings.checkpoints, precomputed=settings.precomputed, host="0.0.0.0")
    context = AppContext(settings=exposed)
    with pytest.raises(ValueError, match="expected a user name and password"):
        make_server(context, LiveGeneration(context))


def test_credentials_are_asked_of_everything_but_health(settings):
    guarded = AppSettings(
        checkpoints=settings.checkpoints,
        precomputed=settings.precomputed,
        host="0.0.0.0",
        credentials=("ann", "secret"),
    )
    client = TestClient(make_application_server(guarded), base_url="http://example.org")
    assert client.get("/livez").status_code == 200
    for path in ("/", "/config", "/precomputed/sheet.png", "/explorer-static/compare.js"):
        assert client.get(path).status_code == 401
        assert client.get(path, auth=("ann", "wrong")).status_code == 401
    assert client.get("/", auth=("ann", "secret")).status_code == 200
