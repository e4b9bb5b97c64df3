"""Charts on a phone, and the colours of what the browser would draw by itself, in a real chromium.

Runs on random models of the shipped ones' shape.
"""

import io
import json
import re
from pathlib import Path
from urllib.parse import urlparse

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


UNBOUNDED = """async () => {
  const from = (name) => import(new URL(`./explorer-static/${name}.js`, document.baseURI));
  const [{ drawCharts }, { worldTable }] = await Promise.all(['implosion_charts', 'implosion_tables'].map(from));
  const { evaluation, meter } = await (await fetch('./payload/implosion.json')).json();
  for (const { accuracy } of evaluation.models) {
    accuracy.unpoisoned = { mean: 0.5, low: null, high: null, over_concepts: { low: null, high: null } };
  }
  const root = document.body.appendChild(document.createElement('div'));
  const { plots } = await drawCharts(root, { evaluation, meter }, null, new AbortController().signal);
  const lines = plots.flatMap(({ element }) => element.data).filter(({ name }) => name === 'accuracy, not targeted');
  const cells = [...worldTable(evaluation, meter).querySelectorAll('td.number')]
    .filter(({ textContent }) => textContent.startsWith('0.500'));
  return [lines.map(({ error_y: { array, arrayminus } }) => [...array, ...arrayminus]),
    cells.map(({ textContent, title }) => [textContent, title])];
}"""


def test_accuracy_without_an_interval_has_no_error_bar_and_the_table_says_so(page):
    page.goto("/?tab=implosion")
    page.locator(".implosion-charts .chart").first.wait_for()
    bars, cells = page.evaluate(UNBOUNDED)
    assert bars
    assert {reach for line in bars for reach in line} == {0}
    assert ["0.500", "no interval over seeds: one alone, or all alike"] in cells
    assert not [text for text, title in cells if title.startswith("no interval") and "±" in text]


NAMED = """async (name) => {
  const { drawCharts } = await import(new URL('./explorer-static/implosion_charts.js', document.baseURI));
  const { evaluation, meter } = await (await fetch('./payload/implosion.json')).json();
  Object.assign(evaluation.models[0], { name, poisoned_concept_count: null, ad: 0.5, poison_share: 0.1 });
  meter.reference = name;
  const root = document.body.appendChild(document.createElement('div'));
  const { plots } = await drawCharts(root, { evaluation, meter }, null, new AbortController().signal);
  const texts = [...root.querySelectorAll('text')].map(({ textContent }) => textContent);
  const { data } = plots.at(-1).element;
  return [texts.filter((text) => text.includes('of it')), data.map(({ customdata }) => customdata)];
}"""


SAVED_NAMES = """async (names) => {
  const { escapeText, savedTrace } = await import('/explorer-static/charts.js');
  return savedTrace({ x: [1, 2], y: [3, 4], text: names.map(escapeText) }).text;
}"""


def test_the_name_of_a_model_is_no_markup_in_a_chart(page):
    page.goto("/?tab=implosion")
    page.locator(".implosion-charts .chart").first.wait_for()
    texts, pointed_at = page.evaluate(NAMED, "<b>half</b> of it & more")
    label = "C_P not recorded (<b>half</b> of it & more)"
    assert texts == ["share of <b>half</b> of it & more’s", label]
    assert pointed_at == [["C_P not recorded (&lt;b&gt;half&lt;/b&gt; of it &amp; more)"]] * 2
    assert page.evaluate(SAVED_NAMES, ["<b>half</b> of it & more", "&lt;"]) == ["<b>half</b> of it & more", "&lt;"]
    assert page.complaints == []


def test_a_progress_bar_has_the_pages_colours(page):
    for theme, done, left in (("light", (11, 107, 107), (238, 242, 245)), ("dark", (47, 192, 184), (15, 21, 27))):
        page.goto(f"/?tab=checkpoints&__theme={theme}")
        page.locator(".app-header").wait_for()
        page.evaluate("""() => {
          const bar = Object.assign(document.createElement('progress'), { max: 1, value: 0.5, id: 'half' });
          bar.style.cssText = 'position: fixed; top: 20px; left: 20px; width: 200px; height: 12px; z-index: 2000';
          document.body.append(bar);
        }""")
        with Image.open(io.BytesIO(page.locator("#half").screenshot())) as picture:
            assert [picture.convert("RGB").getpixel((x, 6)) for x in (40, 160)] == [done, left], theme


def test_an_answer_that_is_no_json_is_told_by_its_status(loaded_page):
    answers = {"failed": (500, "Internal Server Error"), "proxy": (200, "<html>"), "told": (404, '{"problem": "none"}')}

    def answer(route):
        status, body = answers[Path(urlparse(route.request.url).path).stem]
        route.fulfill(status=status, body=body)

    loaded_page.route(re.compile("/(failed|proxy|told)[.]json"), answer)
    told = loaded_page.evaluate(
        """async (names) => {
          const { fetchPayload } = await import('/explorer-static/charts.js');
          return Promise.all(names.map((name) => fetchPayload(`/${name}.json`).catch((error) => error.message)));
        }""",
        list(answers),
    )
    assert told == ["The app answered 500 for /failed.json.", "The app answered 200 for /proxy.json.", "none"]


ENDED = """async () => {
  const { drawPlot, layout, loadPlotly, theme } = await import('/explorer-static/charts.js');
  const Plotly = await loadPlotly();
  let listening = 0;
  const [add, remove] = [window.addEventListener, window.removeEventListener].map((each) => each.bind(window));
  window.addEventListener = (name, ...rest) => { listening += name === 'resize'; add(name, ...rest); };
  window.removeEventListener = (name, ...rest) => { listening -= name === 'resize'; remove(name, ...rest); };
  const screen = new AbortController();
  const draw = async () => {
    const element = document.body.appendChild(document.createElement('div'));
    await drawPlot(Plotly, element, [{ y: [1, 2] }], layout(theme()), 'drawn', screen.signal);
    return () => element.querySelectorAll('.main-svg').length > 0;
  };
  const shown = await draw();
  const before = shown();
  screen.abort();
  const late = await draw();
  return [before, shown(), late(), listening];
}"""
LEFT = """async () => {
  const { mountAnew } = await import('/explorer-static/mounting.js');
  const element = document.createElement('div');
  element.innerHTML = '<div class="viewer-root"></div>';
  Object.assign(window, { watching: [], screens: [] });
  const mount = ({ watch, signal }) => {
    const screen = { seen: 0 };
    window.screens.push(new WeakRef(screen));
    signal.addEventListener('abort', () => { screen.seen = null; });
    watch('value', () => { screen.seen += 1; });
  };
  mountAnew({ mount }, { element, watch: (names, follow) => window.watching.push(follow) });
  window.dispatchEvent(new Event('explorer-study'));
}"""
KEPT = """() => {
  window.watching.forEach((follow) => follow());
  return window.screens.map((screen) => screen.deref()?.seen ?? null);
}"""


def test_a_study_that_was_left_keeps_neither_its_charts_nor_its_screens(loaded_page):
    assert loaded_page.evaluate(ENDED) == [True, False, False, 0]
    loaded_page.evaluate(LEFT)
    session = loaded_page.context.new_cdp_session(loaded_page)
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    assert loaded_page.evaluate("() => window.screens.map((screen) => screen.deref() !== undefined)") == [False, True]
    assert loaded_page.evaluate(KEPT) == [None, 1]
