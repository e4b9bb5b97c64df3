"""A running app in a process of its own, and a page of a real chromium whose complaints are collected.

Fixtures only: ``serve_app(*options)`` gives a context manager of the app's address, ``watch_page(address)`` one of a
page. ``world``, ``address`` and ``page`` are those of an app on a study of random models that many tests share, so that
nobody may change its folders, unless a module has its own; ``own_world`` and ``own_page`` are for one test that does.
``make_study`` writes a study with results, ``open_study`` opens one as the app does.
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
from explorer.core.provenance import ROOT, write_json
from explorer.generation.columns import compare_checkpoints, write_comparison
from explorer.generation.film_strip import FilmStripConfig, write_film_strip
from explorer.generation.generate import GenerationRequest
from explorer.meter.payload_formats import METER as METER_FORMAT
from explorer.pairs.concept_list import Concept, ConceptList
from explorer.studies.results import COMPARISON, EVALUATION, FILM_STRIP, METER, RETRAINED, writing_step
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import CONCEPTS_NAME, Arm, Study
from explorer.ui.screens.implosion.payload import QUANTITIES
from explorer.ui.shell.context import AppContext, AppSettings

# The shell is the same engine without windows, which take a sixth of the whole browser's time.
CHROMIUM = next(filter(Path.is_file, map(Path, ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium"))), None)
TIMEOUT_SECONDS = 60
READY_SECONDS = 240  # what an app may take on a machine that does much else besides
STEP_SETTINGS = {RETRAINED: {"seeds": [0], "steps": 2, "guidance_scale": 2.0, "size": None}}
LOCAL = {"127.0.0.1", "localhost"}
# What is out of sight is not drawn before it is scrolled to.
NOTHING_LOADING = """() => {
  const left = [...document.querySelectorAll('[role=tabpanel] .loading')].filter((element) => element.offsetParent);
  left[0]?.scrollIntoView();
  return left.length === 0;
}"""
# A missing artefact is answered with a message; the browser logs the failed request itself as well. Gradio logs its own
# stream of events when it closes it as the page is left.
HARMLESS = re.compile(r"Failed to load resource: .* 404|AbortError: signal is aborted without reason")


TALK_SIZES = """(pictures) => {
  const seen = [...document.querySelectorAll(pictures)].filter((each) => each.offsetParent);
  const { scrollHeight, scrollWidth } = document.documentElement;
  return { least: Math.min(...seen.map((each) => Math.min(each.clientWidth, each.clientHeight))),
    within: seen.every((each) => each.getBoundingClientRect().bottom <= innerHeight),
    fits: scrollHeight <= innerHeight && scrollWidth <= innerWidth };
}"""


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
    if CHROMIUM is None:
        pytest.skip("neither chromium-headless-shell nor chromium is in /usr/bin")
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
    """``with watch_page(address) as page``: 1440 x 900, with nothing stored; what goes wrong is listed in
    ``page.complaints``, and ``page.wait_until_drawn()`` scrolls over the open screen until nothing on it is loading.
    ``page.check_talk_fits(".film-table canvas")``: pictures in sight are of 110 pixels and more, none is cut off.

    The pages of one address share the browser's cache: what Gradio brings along takes half of a first visit."""
    contexts = {}

    @contextmanager
    def watch(address):
        if address not in contexts:
            contexts[address] = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=address)
        page = contexts[address].new_page()
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        page.complaints = []
        page.wait_until_drawn = lambda: page.wait_for_function(NOTHING_LOADING)
        page.check_talk_fits = lambda pictures: _check_talk_fits(page, pictures)
        page.on("console", lambda message: _note_console(page, message))
        page.on("pageerror", lambda error: page.complaints.append(f"error: {error}"))
        page.on("request", lambda request: _note_request(page, request))
        try:
            yield page
        finally:
            _forget(contexts[address], address)

    return watch


def _forget(context, address):
    """Close all pages, and what they stored."""
    session = context.new_cdp_session(context.pages[0] if context.pages else context.new_page())
    session.send("Storage.clearDataForOrigin", {"origin": address, "storageTypes": "all"})
    context.clear_cookies()
    for page in context.pages:
        page.close()


def _check_talk_fits(page, pictures):
    found = page.evaluate(TALK_SIZES, pictures)
    assert found["least"] >= 110
    assert found["within"], "every row is visible"
    assert found["fits"], "nothing scrolls"


def make_study(folder, *, checkpoints=None, concepts=(), results=(), inputs=(), **settings):
    """A study with an arm for each checkpoint in a folder, the benign one as its control.

    ``results`` gives for each step its files' contents by name, as text, bytes, or a function that writes a folder.
    """
    arms = [Arm(name=path.name, checkpoint=path, control=path.name == "benign")
            for path in sorted(checkpoints.iterdir()) if path.name != "extractor"] if checkpoints else []  # fmt: skip
    facts = {"name": folder.name, "extractor": ExtractorSpec(), "arms": tuple(arms)}
    study = Study(folder=folder, **(facts | settings))
    study.write()
    if concepts:
        ConceptList(concepts=tuple(Concept(name=name) for name in concepts)).write(folder / CONCEPTS_NAME)
    for step, files in dict(results).items():
        with writing_step(study, step, settings=STEP_SETTINGS.get(step, {}), inputs=dict(inputs)) as place:
            if callable(files):
                files(place)
                continue
            for name, content in files.items():
                (place / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return study


def open_study(folder):
    """A study's folder, as the app has it open."""
    return AppContext(settings=AppSettings(studies=(folder,))).study()


def open_checkpoints(folder):
    """A folder of checkpoints, as the app has it open."""
    return AppContext(settings=AppSettings(checkpoints=folder)).study()


@pytest.fixture(scope="session", name="make_study")
def make_study_fixture():
    return make_study


@pytest.fixture(scope="session", name="open_study")
def open_study_fixture():
    return open_study


@pytest.fixture(scope="session", name="open_checkpoints")
def open_checkpoints_fixture():
    return open_checkpoints


@pytest.fixture(scope="session")
def world(checkpoint_template, tmp_path_factory):
    """Folders of checkpoints and of a study of them, and a prompt the models know."""
    checkpoints = scan_checkpoints(checkpoint_template)
    concepts = ("dog", "hat", "turtle", "shirt")
    listed = ConceptList(concepts=tuple(Concept(name=name) for name in concepts[:3]))
    request = GenerationRequest(prompt="a dog and hat", seed=7, steps=2, guidance_scale=2.0)
    results = {
        COMPARISON: lambda place: write_comparison(place, compare_checkpoints(checkpoints, request, concepts=concepts)),
        FILM_STRIP: lambda place: write_film_strip(place, checkpoints, FilmStripConfig(concepts=listed, steps=1)),
        EVALUATION: lambda place: write_json(place / "evaluation.json", _evaluation()),
        METER: lambda place: write_json(place / METER_FORMAT.name, metered({"dirty-002": 0.5, "dirty-004": 0.25})),
    }
    folder = tmp_path_factory.mktemp("shared") / "tiny"
    make_study(folder, checkpoints=checkpoint_template, concepts=concepts, results=results)
    return checkpoint_template, folder, "a photo of a dog"


@pytest.fixture(scope="session")
def address(world, serve_app):
    """URL of the running app."""
    with serve_app("--study", world[1], "--no-warm-up") as address:
        yield address


@pytest.fixture
def page(watch_page, address):
    with watch_page(address) as page:
        yield page


@pytest.fixture
def loaded_page(page):
    """``page`` at its first screen, with the head that Gradio adds when it starts: the app's modules read from it."""
    page.goto("/")
    page.wait_for_selector('meta[name="explorer-studies"]', state="attached")
    return page


@pytest.fixture
def own_world(world, tmp_path, make_study):
    """A copy of ``world`` that a test may change."""
    models, folder, prompt = world
    models, own = shutil.copytree(models, tmp_path / "models"), shutil.copytree(folder, tmp_path / "view")
    make_study(own, checkpoints=models, name="tiny")
    return models, own, prompt


@pytest.fixture
def own_page(watch_page, own_world, serve_app):
    with serve_app("--study", own_world[1], "--no-warm-up") as address, watch_page(address) as page:
        yield page


def _evaluation():
    """Of the control alone: enough for the charts of the screen Implosion."""
    groups = {name: {"mean": 0.5, "low": 0.4, "high": 0.6} for name in ("all", "pool", "unpoisoned", "poisoned")}
    model = {"name": "benign", "poisoned_concept_count": 0, **dict.fromkeys(QUANTITIES, groups)}
    facts = {"prompt": "a C", "seeds": [0], "steps": 1, "guidance_scale": 2.0, "tau": 0.3, "utility_definition": "u"}
    return {**facts, "concepts": [], "models": [model]}


def metered(shares, *, concepts=("dog", "hat", "turtle"), reference="benign"):
    """``meter.json`` of a control and of others by the share that they hear of every concept but the last."""

    def measure(share):
        value = {"value": 0.2 * share, "low": 0.2 * share - 0.01, "high": 0.2 * share + 0.01, "n": 3}
        ratio = reference and {"value": share, "low": share - 0.05, "high": share + 0.05, "n": 3}
        group = {"mean": value, "relative": ratio, "over_draws": None, "by_timestep": []}
        heard = reference and [share] * (len(concepts) - 1) + [1.0]
        return {"groups": {"all": group, "pool": None, "unpoisoned": group, "poisoned": None},
                "per_concept": [0.2 * share] * len(concepts), "standard_error": None, "relative": heard}  # fmt: skip

    models = [
        {"name": name, "poisoned": name != "benign", "poisoned_concept_count": int(name.partition("-")[2] or 0),
         "measures": {"sensitivity": measure(share), "guidance": measure(share)}, "label_noise": None,
         "not_measured": {} if reference else {"relative": "there is no reference"}}
        for name, share in {"benign": 1.0, **shares}.items()
    ]  # fmt: skip
    return METER_FORMAT.written(
        shown="pure noise", same_for_all=True, timesteps=[300, 600], draws=4, seed=0, precision="fp32",
        reference=reference, template="a photo of {phrase}", models=models,
        concepts=[{"concept": name, "group": "pool", "poisoned_from": None} for name in concepts],
    )  # fmt: skip


@pytest.fixture(scope="session", name="metered")
def metered_fixture():
    return metered


def _wait_until_ready(url, process):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the app ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"{url} did not answer within {READY_SECONDS} s")


def _note_console(page, message):
    if message.type == "error" and not HARMLESS.search(message.text):
        page.complaints.append(f"console: {message.text}")


def _note_request(page, request):
    address = urlparse(request.url)
    if address.scheme not in ("data", "blob") and address.hostname not in LOCAL:
        page.complaints.append(f"left the machine: {request.url}")
