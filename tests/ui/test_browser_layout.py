"""Where things lie on the screen Compare, in a real chromium."""

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
LOADING = 240_000
"""Milliseconds that the first use of the models may take on a machine that does much else besides."""
PROJECTOR = {"width": 1280, "height": 720}
IN_SIGHT = "(canvas) => canvas.getBoundingClientRect().bottom <= innerHeight"
LINK = "/?v=1&p=a+photo+of+a+hat&s=3&n=2&g=2&m=benign&m=dirty-004"


def draw_live(page):
    """Two live columns, by a link."""
    page.goto(LINK)
    playwright_api.expect(page.locator(".compare-column.pending h3")).to_have_count(2)  # or the click would be lost
    page.locator("#generate").click()
    playwright_api.expect(page.locator(".compare-column:not(.pending)")).to_have_count(2, timeout=LOADING)


def test_pictures_are_in_sight_on_a_low_screen_and_after_a_reload(page):
    expect = playwright_api.expect
    page.set_viewport_size(PROJECTOR)
    page.goto("/")
    canvas = page.locator(".compare-column canvas").first
    expect(canvas).to_be_visible()
    assert canvas.evaluate(IN_SIGHT), "at first"
    assert page.locator("#compare-note").bounding_box()["y"] < page.locator("#prompt-row").bounding_box()["y"]
    page.set_viewport_size({"width": 1440, "height": 900})
    draw_live(page)
    place = canvas.bounding_box()["y"]
    page.reload()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page.get_by_role("button", name="Choose models")).to_be_visible()
    assert canvas.bounding_box()["y"] == place, "a reload leaves the pictures where they were"
    assert page.complaints == []
