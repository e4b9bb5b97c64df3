"""Charts on a phone, in a real chromium.

Runs on random models of the shipped ones' shape.
"""

import json
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

TITLES_WITHIN = """() => [...document.querySelectorAll('.implosion-charts .js-plotly-plot')].every((plot) => {
  const edge = plot.getBoundingClientRect();
  return [...plot.querySelectorAll('.infolayer text')].every((text) => {
    const { left, right } = text.getBoundingClientRect();
    return left >= edge.left - 1 && right <= edge.right + 1;
  });
})"""


def test_on_a_phone_nothing_lies_over_a_chart_and_it_is_saved_from_below(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?tab=implosion")
    chart = page.locator(".implosion-charts .chart").last
    expect(chart.locator(".main-svg").first).to_be_visible()
    expect(page.locator(".modebar-container").filter(visible=True)).to_have_count(0)
    assert page.evaluate(TITLES_WITHIN), "no title is cut off"
    with page.expect_download() as saved:
        chart.get_by_role("button", name="Save chart").click()
    with Image.open(Path(saved.value.path())) as picture:
        assert json.loads(picture.text["implosion-explorer"])["chart"] == "implosion-4"
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(chart.get_by_role("button", name="Save chart")).to_be_hidden()
    expect(chart.locator(".modebar-container")).to_be_attached()
    expect(page.locator(".save-chart")).to_have_count(page.locator(".implosion-charts .chart").count())
    assert page.complaints == []
