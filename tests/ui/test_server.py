from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from explorer.studies.results import GRAPHS, SCORES
from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.shell.application import make_application_server
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.server import make_server

BASE = "http://127.0.0.1"


@pytest.fixture
def settings(tmp_path, make_study):
    files = {"sheet.png": b"png", "page.html": "<script>1</script>"}
    make_study(tmp_path / "Mine & Ours", results={GRAPHS: files})
    (tmp_path / "secret.png").write_bytes(b"secret")
    return AppSettings(studies=(tmp_path / "Mine & Ours",))


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
    assert client.get("/study/mine-ours/graphs/sheet.png").content == b"png"
    assert client.get("/study/mine-ours/graphs/page.html").status_code == 404
    for path in ("../secret.png", "%2e%2e/secret.png", "..%2fsecret.png", "manifest.json"):
        assert client.get(f"/study/mine-ours/graphs/{path}").status_code == 404
    for path in ("other/graphs/sheet.png", "mine-ours/%2e%2e/sheet.png", "mine-ours/scores/sheet.png"):
        assert client.get(f"/study/{path}").status_code == 404
    outside = settings.studies[0].parent / "secret.png"
    assert client.get(f"/gradio_api/file={outside}").status_code in (403, 404)


def test_a_wrong_query_is_answered_in_words_without_repeating_it(settings):
    client = TestClient(make_application_server(settings), base_url=BASE)
    for query in ("", "?row=mine", "?row=1&row="):
        answer = client.get(f"/export/film-strip.gif{query}")
        assert (answer.status_code, answer.json()) == (422, {"detail": "row: missing or of the wrong kind."})


def test_problems_are_served_in_words(settings):
    context = AppContext(settings=settings)
    context.add_payload("broken", lambda opened: opened.result_json(GRAPHS, "facts.json"))
    context.add_payload("missing", lambda opened: opened.result_json(SCORES, "facts.json"))
    client = TestClient(make_server(context, LiveGeneration(context)), base_url=BASE)
    assert "does not list facts.json" in client.get("/payload/broken.json").json()["problem"]
    missing = client.get("/payload/missing.json?study=mine-ours").json()["missing"]
    folder = settings.studies[0]
    assert missing["command"] == f"python -m explorer study run '{folder}' scores"
    assert missing["lacks"].startswith("It cannot be done yet: ")
    other = client.get("/payload/missing.json?study=<b>other").json()["problem"]
    assert other == "There is no study “<b>other” here: expected one of mine-ours."
    assert client.get("/payload/nothing.json").status_code == 404
    answer = client.get("/live/unknown.json")
    assert answer.status_code == 404
    assert "press Generate" in answer.json()["problem"]


def test_what_nobody_foresaw_is_answered_in_words_and_logged(settings, monkeypatch, caplog):
    def shown(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("explorer.ui.screens.compare.given_picture.shown_picture", shown)
    context = AppContext(settings=settings)
    context.add_payload("unforeseen", shown)
    client = TestClient(make_server(context, LiveGeneration(context)), base_url=BASE)
    asked = {"model": "benign", "prompt": "a dog", "seed": 1}
    for address in ("/live/given.json", "/payload/unforeseen.json"):
        assert client.get(address, params=asked).json() == {"problem": "RuntimeError: out of memory"}
        assert "could not be answered" in caplog.text
        caplog.clear()


def test_another_host_name_is_refused(settings):
    context = AppContext(settings=settings)
    client = TestClient(make_server(context, LiveGeneration(context)), base_url="http://evil.example")
    assert client.get("/livez").status_code == 400


def test_another_address_needs_credentials(settings):
    exposed = replace(settings, host="0.0.0.0")
    context = AppContext(settings=exposed)
    with pytest.raises(ValueError, match="expected a user name and password"):
        make_server(context, LiveGeneration(context))


def test_credentials_are_asked_of_everything_but_health(settings):
    guarded = replace(settings, host="0.0.0.0", credentials=("ann", "secret"))
    client = TestClient(make_application_server(guarded), base_url="http://example.org")
    assert client.get("/livez").status_code == 200
    for path in ("/", "/config", "/study/mine-ours/graphs/sheet.png", "/explorer-static/compare.js"):
        assert client.get(path).status_code == 401
        assert client.get(path, auth=("ann", "wrong")).status_code == 401
    assert client.get("/", auth=("ann", "secret")).status_code == 200
