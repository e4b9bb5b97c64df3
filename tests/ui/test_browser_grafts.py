"""Surgery below the columns of Compare, in a real chromium."""

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
