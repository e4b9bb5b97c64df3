"""Surgery below the columns of Compare, in a real chromium."""

import re

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_a_slider_draws_the_graft_again(page):
    expect = playwright_api.expect
    page.goto("/")
    expect(page.locator(".compare-column canvas").first).to_be_visible()
    panel = page.locator(".graft-panel")
    panel.locator("summary").click()
    picture, caption = panel.locator("img"), panel.locator("figcaption")
    expect(picture).to_be_visible()
    expect(caption).to_contain_text("with parts of")
    before = picture.get_attribute("src")
    slider = panel.get_by_label("Cross-attention: keys and values")
    accents = [page.locator(each).first.evaluate("(input) => getComputedStyle(input).accentColor")
               for each in ("#step-slider", ".graft-slider input")]  # fmt: skip
    assert accents[0] == accents[1] != "auto"
    slider.focus()
    slider.press("End")
    expect(panel.locator(".graft-slider output").first).to_have_text("1")
    expect(picture).not_to_have_attribute("src", before)
    expect(caption).to_contain_text("with parts of")
    moved = picture.get_attribute("src")
    slider.press("Home")
    expect(picture).not_to_have_attribute("src", moved)
    panel.get_by_label("Parts from").select_option(panel.locator("select").first.input_value())
    expect(panel.locator(".graft-slider output").first).to_have_text("0")
    assert page.complaints == []


def test_a_graft_becomes_a_column_that_follows_its_sliders_and_the_address(page):
    expect = playwright_api.expect
    page.goto("/")
    columns = page.locator(".compare-column")
    expect(columns.locator("canvas").first).to_be_visible()
    before = columns.count()
    panel = page.locator(".graft-panel")
    panel.locator("summary").click()
    panel.get_by_role("button", name="Show as a column").click()
    expect(panel.locator("figcaption")).to_contain_text("no column of its own")
    expect(page.get_by_role("button", name="Choose models")).to_be_visible()
    slider = panel.get_by_label("Feed-forward")
    slider.focus()
    slider.press("End")
    expect(columns).to_have_count(before + 1)
    expect(columns.last.locator(".tag")).to_have_text("graft: Feed-forward 1")
    expect(columns.last.locator(".maps canvas")).not_to_have_count(0)
    expect(page).to_have_url(re.compile("graft=.*feed-forward%3A1"))
    slider.press("ArrowLeft")
    expect(columns.last.locator(".tag")).to_have_text("graft: Feed-forward 0.9")
    page.get_by_text("Sensitivity", exact=True).first.click()
    page.reload()
    expect(columns).to_have_count(before + 1)
    expect(columns.last.locator(".tag")).to_have_text("graft: Feed-forward 0.9")
    expect(panel.locator(".graft-slider output").nth(3)).to_have_text("0.9")
    columns.last.locator(".mark").click()
    page.keyboard.press("a")  # exchanges the first column and the marked one
    expect(columns.first.locator(".tag")).to_have_text("graft: Feed-forward 0.9")
    page.reload()
    expect(columns).to_have_count(before + 1)
    expect(columns.first.locator(".tag")).to_have_text("graft: Feed-forward 0.9")
    slider.focus()
    slider.press("ArrowLeft")
    expect(columns.first.locator(".tag")).to_have_text("graft: Feed-forward 0.8")
    panel.get_by_role("button", name="Show as a column").click()
    expect(columns).to_have_count(before)
    expect(page).not_to_have_url(re.compile("graft="))
    assert page.complaints == []


def test_an_address_with_a_graft_that_cannot_be_is_told(page):
    expect = playwright_api.expect
    for graft, words, column in (
        ("nowhere~benign~feed-forward:1", "of two models of this comparison", None),
        ("dirty-004~benign~feet:1,feed-forward:NaN", "Left out .*: “feet:1, feed-forward:NaN”", None),
        (
            "dirty-004~benign~feed-forward:0.5,convolutions:2",
            "Left out .*: “convolutions:2”",
            "graft: Feed-forward 0.5",
        ),
        ("dirty-004~benign~modulation:1", "cannot be drawn: .* has no group 'modulation'", None),
    ):
        page.goto(f"/?graft={graft}")
        panel = page.locator(".graft-panel")
        expect(panel.locator("[role=alert]")).to_have_text(re.compile(words))
        expect(panel.get_by_label("Feed-forward")).to_have_value("0.5" if column else "0")
        expect(panel.locator("output", has_text="NaN")).to_have_count(0)
        tags = page.locator(".compare-column .tag").filter(has_text="graft:")
        expect(tags).to_have_text([column] if column else [])
    assert page.complaints == []


IN_SIGHT = """(element) => {
  const { top, bottom } = element.getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight;
}"""


def test_on_a_phone_the_sliders_of_a_column_are_folded_below_a_line_that_says_what_moves(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?graft=dirty-004~benign~feed-forward:0.5")
    expect(page.locator(".compare-column .tag").last).to_have_text("graft: Feed-forward 0.5")
    panel = page.locator(".graft-panel")
    slider = panel.get_by_label("Feed-forward")
    told = panel.get_by_text("Surgery: Feed-forward 0.5 of benign in dirty-004")
    expect(slider).to_be_hidden()
    assert told.evaluate(IN_SIGHT), "without scrolling"
    for name in page.locator(".compare-column header > :is(h3, .tag)").all():
        wide, room = name.evaluate("(name) => [name.scrollWidth, name.clientWidth]")
        assert wide <= room, f"{name.inner_text()} is cut off"
    assert panel.bounding_box()["height"] < 60
    told.click()
    expect(slider).to_be_visible()
    slider.press("End")
    expect(page.locator(".compare-column .tag").last).to_have_text("graft: Feed-forward 1")
    expect(panel.get_by_text("Surgery: Feed-forward 1 of benign in dirty-004")).to_be_visible()
    button = panel.get_by_role("button", name="Show as a column")
    edges = button.bounding_box()
    assert edges["x"] + edges["width"] <= 390, "not cut off"
    panel.locator("summary").click()
    page.get_by_role("button", name="Talk mode").click()
    expect(page.locator("#prompt-row")).to_be_hidden()
    assert panel.locator("summary").evaluate(IN_SIGHT), "in talk mode"
    assert page.complaints == []


def test_sliders_stay_in_sight_below_the_column_that_follows_them(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?k=0.1&graft=dirty-004~benign~feed-forward:1")
    expect(page.locator(".compare-column .tag").last).to_have_text("graft: Feed-forward 1")
    sliders = page.locator(".graft-slider input")
    picture = page.locator(".compare-column canvas").first
    for slider in (sliders.first, sliders.last):
        assert slider.evaluate(IN_SIGHT), "without scrolling"
    page.keyboard.press("t")
    expect(page.locator("#prompt-row")).to_be_hidden()
    for element in (picture, sliders.first, sliders.last):
        assert element.evaluate(IN_SIGHT), "in talk mode"
    page.check_talk_fits(".compare-column canvas")
    sliders.last.press("End")
    expect(page.locator(".compare-column .tag").last).to_have_text(re.compile("Feed-forward 1; .* 1"))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show as a column").click()
    page.keyboard.press("t")
    expect(page.locator(".graft-panel")).to_be_hidden()
    assert page.complaints == []
