import pytest

from explorer.ui.shell.clicks import Clicks


def test_a_second_click_is_refused_once_and_known_to_be_so():
    clicks = Clicks()
    assert clicks.accept("a", ("a turtle",))
    assert not clicks.accept("a", ("a dog",))
    assert clicks.accept("b", ("a dog",)), "another session's"
    assert clicks.take_refused("a")
    assert not clicks.take_refused("a")
    assert not clicks.take_refused("b")


def test_a_click_waits_works_and_ends():
    clicks = Clicks()
    clicks.accept("a", ("a turtle",))
    assert clicks.is_busy()
    with pytest.raises(ValueError, match="still working on your last click"):
        clicks.begin("a")
    asked, stop = clicks.take("a")
    assert asked == ("a turtle",)
    assert clicks.is_busy()
    assert clicks.take("a") is None, "once only"
    with pytest.raises(ValueError, match="still working on your last click"):
        clicks.begin("a")
    assert not clicks.accept("a", ("a dog",))
    clicks.end("a", stop)
    assert not clicks.is_busy()
    assert clicks.accept("a", ("a dog",))


def test_after_a_stop_the_next_click_asks_for_what_the_page_holds_then():
    clicks = Clicks()
    clicks.accept("a", ("a turtle",))
    assert clicks.stop("a") == "waiting"
    clicks.accept("a", ("a dog",))
    assert clicks.take("a")[0] == ("a dog",)


def test_stop_finds_a_click_wherever_it_is():
    clicks = Clicks()
    assert clicks.stop("a") is None
    clicks.accept("a", ())
    assert clicks.stop("a") == "waiting"
    assert not clicks.is_busy(), "nothing is left of it"
    assert clicks.take("a") is None
    stop = clicks.begin("a")
    assert clicks.stop("a") == "working"
    assert stop.is_set()
    assert clicks.is_busy(), "until it has ended"


def test_a_click_that_cannot_be_taken_is_dropped_and_one_at_work_is_not():
    clicks = Clicks()
    clicks.accept("a", ())
    assert clicks.is_waiting("a")
    assert clicks.drop_waiting("a")
    assert not clicks.drop_waiting("a")
    clicks.accept("a", ())
    _, stop = clicks.take("a")
    assert not clicks.drop_waiting("a")
    assert clicks.is_busy()
    assert not stop.is_set()


def test_the_end_of_an_older_click_is_not_the_end_of_a_newer_one():
    clicks = Clicks()
    first = clicks.begin("a")
    clicks.end("a", first)
    clicks.begin("a")
    clicks.end("a", first)
    assert clicks.is_busy()


def test_when_the_app_ends_work_is_asked_to_and_no_more_is_taken():
    clicks = Clicks()
    stop = clicks.begin("a")
    clicks.accept("b", ("a dog",))
    assert clicks.close()
    assert stop.is_set()
    assert clicks.take("b") is None
    assert not clicks.accept("c", ("a dog",))
    with pytest.raises(ValueError, match="The app is being stopped"):
        clicks.begin("c")
    assert not Clicks().close()


def test_clicks_of_pages_that_left_do_not_pile_up():
    clicks = Clicks()
    for number in range(200):
        clicks.accept(f"s{number}", ())
        clicks.accept(f"s{number}", ())
    assert len(clicks._waiting) == len(clicks._refused) == 64
    assert clicks.take("s199") is not None
    for number in range(15):
        clicks.begin(f"p{number}")
    with pytest.raises(ValueError, match="Too many comparisons wait for the models"):
        clicks.begin("p15")
