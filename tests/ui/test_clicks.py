import pytest

from explorer.ui.clicks import Clicks


def test_a_second_click_is_refused_once_and_known_to_be_so():
    clicks = Clicks()
    assert clicks.accept("a")
    assert not clicks.accept("a")
    assert clicks.accept("b"), "another session's"
    assert clicks.take_refused("a")
    assert not clicks.take_refused("a")
    assert not clicks.take_refused("b")


def test_a_click_waits_works_and_ends():
    clicks = Clicks()
    clicks.accept("a")
    assert (clicks.is_waiting("a"), clicks.is_running("a"), clicks.is_busy()) == (True, True, True)
    stop = clicks.begin("a")
    assert (clicks.is_waiting("a"), clicks.is_running("a")) == (False, True)
    with pytest.raises(ValueError, match="still working on your last click"):
        clicks.begin("a")
    assert not clicks.accept("a")
    clicks.end("a", stop)
    assert not clicks.is_busy()
    assert clicks.accept("a")


def test_stop_finds_a_click_wherever_it_is():
    clicks = Clicks()
    assert clicks.stop("a") is None
    clicks.accept("a")
    assert clicks.stop("a") == "waiting"
    assert not clicks.is_busy(), "nothing is left of it"
    stop = clicks.begin("a")
    assert clicks.stop("a") == "working"
    assert stop.is_set()
    assert clicks.is_running("a"), "until it has ended"


def test_the_end_of_an_older_click_is_not_the_end_of_a_newer_one():
    clicks = Clicks()
    first = clicks.begin("a")
    clicks.end("a", first)
    clicks.begin("a")
    clicks.end("a", first)
    assert clicks.is_running("a")
