"""Where things lie on the screen Compare, in a real chromium."""

import re

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
LOADING = 240_000
"""Milliseconds that the first use of the models may take on a machine that does much else besides."""
PROJECTOR = {"width": 1280, "height": 720}
IN_SIGHT = "(canvas) => canvas.getBoundingClientRect().bottom <= innerHeight"
WATCH_GRID = """() => {
  window.gridTops = [];
  const look = () => {
    const top = Math.round(document.querySelector('.compare-grid').getBoundingClientRect().top + scrollY);
    if (gridTops.at(-1) !== top) gridTops.push(top);
    requestAnimationFrame(look);
  };
  look();
}"""


def draw_live(page):
    """Other pictures of the prompt that the page begins with."""
    playwright_api.expect(page.locator(".compare-column canvas").first).to_be_visible()
    page.locator("#seed input").fill("3")
    page.locator("#generate").click()
    playwright_api.expect(page.locator(".prompt-words .origin.live")).to_be_visible(timeout=LOADING)
    playwright_api.expect(page.locator(".compare-column.pending")).to_have_count(0, timeout=LOADING)


def test_pictures_are_in_sight_on_a_low_screen_and_after_a_reload(page):
    expect = playwright_api.expect
    page.set_viewport_size(PROJECTOR)
    page.goto("/")
    canvas = page.locator(".compare-column canvas").first
    expect(canvas).to_be_visible()
    assert canvas.evaluate(IN_SIGHT), "at first"
    assert page.locator("#compare-note").bounding_box()["y"] < page.locator("#prompt-row").bounding_box()["y"]
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("/")
    draw_live(page)
    place = canvas.bounding_box()["y"]
    page.reload()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page.get_by_role("button", name="Choose models")).to_be_visible()
    assert canvas.bounding_box()["y"] == place, "a reload leaves the pictures where they were"
    assert page.complaints == []


def test_the_first_pictures_are_in_sight_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/")
    canvas = page.locator(".compare-column canvas").first
    playwright_api.expect(canvas).to_be_visible()
    assert canvas.evaluate(IN_SIGHT)
    page.get_by_role("button", name="Choose models").click()
    page.locator("#prompt :is(input, textarea)").fill("")
    page.locator("#generate").click()
    error = page.locator("#compare-status .notice.error")
    playwright_api.expect(error).to_be_visible()
    assert error.evaluate(IN_SIGHT), "with the choice unfolded"
    assert page.complaints == []


def test_the_numbers_of_the_first_column_open_their_definitions(page):
    page.goto("/")
    column = page.locator(".compare-column").first
    for name, words in (
        ("scatter", "How spread out a map is"),
        ("Geary's C", "The order of a map"),
        ("mass", "The share"),
    ):
        column.get_by_role("button", name=name, exact=True).first.click()
        playwright_api.expect(page.get_by_role("tooltip")).to_contain_text(words)
    page.mouse.wheel(0, 30)
    page.wait_for_function("() => scrollY > 0")
    playwright_api.expect(page.get_by_role("tooltip")).to_be_visible()
    elsewhere = page.locator(".compare-column:not(:first-child) [data-term]")
    playwright_api.expect(elsewhere).to_have_count(1)
    playwright_api.expect(elsewhere).to_have_attribute("data-term", "C_P")  # which the control has none of
    assert page.complaints == []


TOPS = """() => [...document.querySelectorAll('.compare-column')].map((column) =>
  [...column.querySelectorAll('canvas')].map((canvas) => Math.round(canvas.getBoundingClientRect().top)))"""


def test_pictures_and_maps_of_all_columns_are_level_whatever_stands_in_their_heads(page):
    expect = playwright_api.expect
    graft = "dirty-004~benign~feed-forward:1,convolutions:0.5,cross-attention-keys-values:1"
    page.goto(f"/?k=0.1&graft={graft}")
    tag = page.locator(".compare-column .tag").last
    expect(tag).to_have_attribute("title", re.compile("graft: .*; .*; "), timeout=LOADING)
    for width, stacked in ((1440, False), (1000, True)):
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator(".compare-grid.stacked")).to_have_count(int(stacked))
        tops = page.evaluate(TOPS)
        assert [len(column) for column in tops] == [3] * 4
        assert all(column == tops[0] for column in tops)
        assert tag.bounding_box()["height"] < 30, "one line"
    page.keyboard.press("t")
    expect(page.locator("#prompt-row")).to_be_hidden()
    tops = page.evaluate(TOPS)
    assert all(column == tops[0] for column in tops)
    assert page.complaints == []


def test_nothing_moves_while_pictures_are_made(page):
    page.set_viewport_size(PROJECTOR)
    page.goto("/")
    playwright_api.expect(page.locator(".compare-column canvas").first).to_be_visible()
    page.evaluate(WATCH_GRID)
    draw_live(page)
    page.wait_for_timeout(1000)
    assert len(page.evaluate("gridTops")) == 1
    assert page.complaints == []


def test_a_scale_of_nothing_is_not_shown(page):
    expect = playwright_api.expect
    page.goto("/?map=sensitivity")
    expect(page.locator(".compare-controls .legend")).to_be_visible()
    page.get_by_role("button", name="and", exact=True).click()
    for word in ("dog", "hat"):
        page.get_by_role("button", name=word, exact=True).click()
    page.locator(".prompt-words .origin").hover()
    expect(page.locator(".no-map").first).to_have_text("Not measured yet.")
    expect(page.locator(".compare-controls .legend")).to_be_hidden()
    assert page.complaints == []


def test_on_a_phone_the_table_beside_the_paper_needs_no_scrolling_sideways(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?tab=implosion")
    row = page.locator(".beside-paper tr", has_text="Table 1, dirty-label")
    playwright_api.expect(row).to_contain_text("0.378")
    playwright_api.expect(row).to_contain_text("not done")
    widths = page.locator(".beside-paper .scroll").evaluate("scroll => [scroll.scrollWidth, scroll.clientWidth]")
    assert widths[0] <= widths[1]
    paper, here = (row.locator(f"[data-head={head}]").bounding_box() for head in ("Paper", "Here"))
    assert paper["y"] == here["y"], "the two numbers stand beside one another"
    assert here["x"] + here["width"] <= 390
