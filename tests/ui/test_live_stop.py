import threading
import time
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest

from explorer.generation.generate import GenerationStopped
from explorer.ui.screens.compare.kept_results import KeptResults
from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.screens.compare.screen import program_interface
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.messages import STOPPED_EARLY
from explorer.ui.shell.permalink import CompareSettings
from tests.ui.test_live_generation import SETTINGS, drawn_with, generated, wait_until_free


@pytest.fixture
def context(checkpoint_root):
    return AppContext(settings=AppSettings(checkpoints=checkpoint_root))


def test_a_closed_page_stops_the_work(context):
    live = LiveGeneration(context)
    iterator = live.run(live.context.study(), CompareSettings(**{**vars(SETTINGS), "steps": 100}), "session")
    next(iterator)
    assert live.clicks.is_busy()
    iterator.close()
    wait_until_free(live)


def test_stop_and_a_second_click_are_answered(context):
    live = LiveGeneration(context)
    iterator = live.run(live.context.study(), CompareSettings(**{**vars(SETTINGS), "steps": 100}), "session")
    next(iterator)
    with pytest.raises(ValueError, match="still working on your last click"):
        next(live.run(live.context.study(), SETTINGS, "session"))

    assert live.clicks.stop("session") == "working"
    with pytest.raises(GenerationStopped):
        list(iterator)
    wait_until_free(live)


def test_closing_the_iterator_waits_for_nobody(context):
    live, release = LiveGeneration(context), threading.Event()
    live.pipeline = lambda *names, **options: release.wait(60)
    iterator = live.run(live.context.study(), SETTINGS, "session")
    assert next(iterator).progress.total is None
    iterator.close()
    assert live.clicks.is_busy(), "the load goes on"
    release.set()
    wait_until_free(live)


def expect_stop(live):
    with pytest.raises(GenerationStopped, match="stopped before benign was loaded"):
        list(live.run(live.context.study(), SETTINGS, "session"))


def test_stop_while_the_models_are_busy_with_others_loads_none(context):
    live = LiveGeneration(context)
    release = threading.Event()
    context.models.submit(lambda: release.wait(60))  # as the warm-up does for minutes
    try:
        thread = threading.Thread(target=expect_stop, args=(live,), daemon=True)
        thread.start()
        while not live.clicks.is_busy():
            time.sleep(0.01)
        assert live.clicks.stop("session") == "working"
    finally:
        release.set()
    thread.join(timeout=60)
    wait_until_free(live)
    assert not live.models.names, "stopped before a model was loaded"


def test_stopped_before_the_first_step_the_page_stays_as_it_was(context):
    live = LiveGeneration(context)
    load = live.pipeline

    def stop_while_loading(opened, name, **options):
        live.clicks.stop("session")
        return load(opened, name, **options)

    live.pipeline = stop_while_loading
    values = ("", SETTINGS.prompt, SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    *_, (told, shown) = generated(live, values)
    assert STOPPED_EARLY in told
    assert shown == gr.skip()


def test_results_do_not_pile_up(context, monkeypatch):
    monkeypatch.setattr("explorer.ui.screens.compare.kept_results.MAX_RESULTS", 2)
    live = LiveGeneration(context)
    tokens = [live.results.keep({"n": n}, drawn_with()) for n in range(3)]
    with pytest.raises(ValueError, match="no longer in memory"):
        live.results.payload(tokens[0])
    assert live.results.payload(tokens[2]) == {"n": 2}


def test_large_results_do_not_pile_up_either(context, monkeypatch):
    monkeypatch.setattr("explorer.ui.screens.compare.kept_results.MAX_RESULT_BYTES", 1000)
    live = LiveGeneration(context)
    for _ in range(10):
        live.results.keep({"stacks": [{"values": "x" * 200}]}, drawn_with(50))
    assert len(live.results) == 3, "the newest, and as many before it as there is room for"


class LooksTwice(OrderedDict):
    """Whose entries make room for others between a look whether one is there and a look at it."""

    def __contains__(self, key):
        found = super().__contains__(key)
        self.clear()
        return found


def test_a_result_is_looked_for_once_since_it_may_make_room_meanwhile():
    results = KeptResults()
    token = results.keep({"n": 1}, drawn_with())
    results._kept = LooksTwice(results._kept)
    assert results.payload(token) == {"n": 1}
    results._kept.clear()
    with pytest.raises(ValueError, match="no longer in memory"):
        results.drawn(token)


def test_a_programs_comparison_ends_when_nobody_listens(context, monkeypatch):
    monkeypatch.setattr("explorer.ui.shell.connections.SECONDS_TO_COME", -1.0)
    live = LiveGeneration(context)
    with pytest.raises(GenerationStopped, match="nobody waits for the answer"):
        list(live.run(live.context.study(), replace(SETTINGS, steps=100), "program"))
    with pytest.raises(gr.Error, match="nobody waits for the answer"):
        program_interface(live)(SimpleNamespace(session_hash="another"), "a photo of a dog", list(SETTINGS.models))
    live.context.models.submit(lambda: None).result(timeout=60)
    assert not live.clicks.is_busy(), "the models are free again"
