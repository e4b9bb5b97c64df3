"""A running app in a process of its own, and a page of a real chromium whose complaints are collected.

Fixtures only: ``serve_app(*options)`` gives a context manager of the app's address, ``watch_page(address)`` one of a
page. ``world``, ``address`` and ``page`` are those of an app on random models that many tests share, so that nobody
may change its folders, unless a module has its own; ``own_world`` and ``own_page`` are for one test that does.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import pytest

from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.provenance import ROOT, write_json, write_manifest
from explorer.generation.columns import compare_checkpoints, write_comparison
from explorer.generation.film_strip import FilmStripConfig, write_film_strip
from explorer.generation.generate import GenerationRequest
from explorer.pairs.concept_list import Concept, ConceptList
from explorer.ui.screens.implosion.payload import QUANTITIES

CHROMIUM = Path("/usr/bin/chromium")
TIMEOUT_SECONDS = 60
LOCAL = {"127.0.0.1", "localhost"}
# What is out of sight is not drawn before it is scrolled to.
NOTHING_LOADING = """() => {
  const left = [...document.querySelectorAll('[role=tabpanel] .loading')].filter((element) => element.offsetParent);
  left[0]?.scrollIntoView();
  return left.length === 0;
}"""
# A missing artefact is answered with a message; the browser logs the failed request itself as well.
HARMLESS = re.compile(r"Failed to load resource: .* 404")


@pytest.fixture(scope="session")
def serve_app():
    """``with serve_app("--checkpoints", folder) as address``: ``app.py`` with these options on a free port."""

    @contextmanager
    def serve(*options):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        command = [sys.executable, "app.py", "--port", str(port), *map(str, options)]
        with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}) as process:
            try:
                _wait_until_ready(f"http://127.0.0.1:{port}/readyz", process)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()

    return serve


@pytest.fixture(scope="module")
def browser():
    """A chromium. One a module, not one a session: while it runs, its event loop is the main thread's, and no other
    test can start one."""
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is not installed")
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"],
        )
        playwright_api.expect.set_options(timeout=TIMEOUT_SECONDS * 1000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def watch_page(browser):
    """``with watch_page(address) as page``: 1440 x 900, with nothing stored or cached; what goes wrong is listed in
    ``page.complaints``, and ``page.wait_until_drawn()`` scrolls over the open screen until nothing on it is loading."""

    @contextmanager
    def watch(address):
        page = browser.new_page(viewport={"width": 1440, "height": 900}, base_url=address)
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        page.complaints = []
        page.wait_until_drawn = lambda: page.wait_for_function(NOTHING_LOADING)
        page.on("console", lambda message: _note_console(page, message))
        page.on("pageerror", lambda error: page.complaints.append(f"error: {error}"))
        page.on("request", lambda request: _note_request(page, request))
        try:
            yield page
        finally:
            for context in browser.contexts:
                context.close()

    return watch


@pytest.fixture(scope="session")
def world(checkpoint_template, tmp_path_factory):
    """Folders of checkpoints and of precomputed artefacts, and a prompt the models know."""
    folder = tmp_path_factory.mktemp("shared") / "precomputed"
    checkpoints = scan_checkpoints(checkpoint_template)
    concepts = ("dog", "hat", "turtle")
    listed = ConceptList(concepts=tuple(Concept(name=name) for name in concepts))
    request = GenerationRequest(prompt="a dog and hat", seed=7, steps=2, guidance_scale=2.0)
    names = write_comparison(folder / "compare", compare_checkpoints(checkpoints, request, concepts=concepts))
    strip = write_film_strip(folder / "implosion", checkpoints, FilmStripConfig(concepts=listed, steps=1))
    write_json(folder / "evaluation.json", _evaluation())
    files = ["evaluation.json", *(f"compare/{name}" for name in names), *(f"implosion/{name}" for name in strip)]
    write_manifest(folder, kind="precomputed", config={}, seed=7, files=files)
    return checkpoint_template, folder, "a photo of a dog"


@pytest.fixture(scope="session")
def address(world, serve_app):
    """URL of the running app."""
    with serve_app("--checkpoints", world[0], "--no-warm-up", "--precomputed", world[1]) as address:
        yield address


@pytest.fixture
def page(watch_page, address):
    with watch_page(address) as page:
        yield page


@pytest.fixture
def own_world(world, tmp_path):
    """A copy of ``world`` that a test may change."""
    models, view, prompt = world
    return shutil.copytree(models, tmp_path / "models"), shutil.copytree(view, tmp_path / "view"), prompt


@pytest.fixture
def own_page(watch_page, own_world, serve_app):
    options = ("--checkpoints", own_world[0], "--no-warm-up", "--precomputed", own_world[1])
    with serve_app(*options) as address, watch_page(address) as page:
        yield page


def _evaluation():
    """Of the control alone: enough for the charts of the screen Implosion."""
    groups = {name: {"mean": 0.5, "low": 0.4, "high": 0.6} for name in ("all", "pool", "unpoisoned", "poisoned")}
    model = {"name": "benign", "poisoned_concept_count": 0, **dict.fromkeys(QUANTITIES, groups)}
    facts = {"seeds": [0], "steps": 1, "guidance_scale": 2.0, "tau": 0.3, "utility_definition": "u"}
    return {**facts, "models": [model]}


def _wait_until_ready(url, process):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the app ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"{url} did not answer within {TIMEOUT_SECONDS} s")


def _note_console(page, message):
    if message.type == "error" and not HARMLESS.search(message.text):
        page.complaints.append(f"console: {message.text}")


def _note_request(page, request):
    address = urlparse(request.url)
    if address.scheme not in ("data", "blob") and address.hostname not in LOCAL:
        page.complaints.append(f"left the machine: {request.url}")
