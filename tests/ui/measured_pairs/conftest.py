"""The whole app on a study of made-up pairs, for the screens that show pairs: Graphs and Alignment difficulty."""

import json
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from explorer.studies.results import EVALUATION, GRAPHS, SCORES
from explorer.ui.shell.context import AppSettings
from tests.ui.measured_pairs.made_up_pairs import SPACED, describe_set, write_graphs

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 120_000
MEANS = (0.8, 0.5, 0.3)
"""What the models draw right, of nouns that are not targeted."""
HOW_DRAWN = {"prompt": "a photo of C", "seeds": [0], "steps": 2, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, make_study):
    """A study with results of these two screens only, its graphs and their scores."""
    kept = {}

    def write(place):
        kept["graphs"], kept["scores"], _ = write_graphs(place / "dirty")

    poisoned = np.arange(200) < 60
    names = {"benign": 0, SPACED: 1, "dirty": 3}
    sets = [describe_set(name, concepts, poisoned & (concepts > 0)) for name, concepts in names.items()]
    sets.insert(1, describe_set("theirs", 0, poisoned & False, recorded=False))
    sets.insert(1, {**describe_set("apart", 0, poisoned & False, recorded=False), "extractor": "another"})
    bounds = [{"low": mean - 0.1, "high": mean + 0.2} for mean in MEANS]
    shares = [{"mean": mean, **each, "over_concepts": each} for mean, each in zip(MEANS, bounds, strict=True)]
    del shares[-1]["over_concepts"]  # as of an earlier release
    judged = [{"name": name, "accuracy": {"unpoisoned": share}} for name, share in zip(names, shares, strict=True)]
    results = {
        SCORES: {"alignment.json": json.dumps({"version": 1, "sets": sets})},
        EVALUATION: {"evaluation.json": json.dumps({"models": judged, **HOW_DRAWN})}, GRAPHS: write,
    }  # fmt: skip
    study = make_study(tmp_path_factory.mktemp("studies") / "measured", results=results)
    return study, kept["graphs"], kept["scores"]


@pytest.fixture(scope="module")
def app(drawn):
    """Address of the whole app on that study, and the study."""
    import uvicorn

    from explorer.ui.shell.application import make_application_server

    study, _, _ = drawn
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = AppSettings(studies=(study.folder,), port=port, warm_up=False)
    config = uvicorn.Config(make_application_server(settings), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE / 1000
    while not server.started:
        assert time.monotonic() < deadline, "the app did not start"
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}", study
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.is_file():
        pytest.skip("needs Debian's chromium (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments, timeout=PATIENCE)
        yield chromium
        chromium.close()


@pytest.fixture
def page(app, browser):
    """A page whose console errors and requests beyond this machine fail the test."""
    address, _ = app
    problems = []
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: _is_local(request.url, address) or problems.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert problems == []


def _is_local(url, address):
    return url.startswith((address, "data:", "blob:"))
