"""What Compare does with answers that fail, come late, or belong to what was shown before, in a real chromium."""

import json
import re
from functools import partial

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

# A screen of its own beside the page's, which `window.show` gives values as the server does.
MOUNT = """async () => {
  const { mount } = await import('/explorer-static/compare.js');
  const element = document.createElement('div');
  element.id = 'beside';
  element.innerHTML = '<div class="viewer-root"></div>';
  document.body.append(element);
  const props = { value: { study: 'no other' } };
  const watched = [];
  mount({ element, props, watch: (name, follow) => watched.push(follow), signal: new AbortController().signal });
  window.show = (value) => { props.value = { study: 'tiny', ...value }; watched.forEach((follow) => follow()); };
}"""
QUERY = "?v=1&p=a+dog+and+hat&s=7&n=2&g=2&m=benign&m=dirty-002"
MODELS = ["benign", "dirty-002"]


def _fulfil(body, route):
    route.fulfill(body=body)


@pytest.fixture
def beside(page):
    """``page`` with a second screen, which draws ``/live/0.json`` and ``/live/1.json``: columns of the first one."""
    page.goto("/?map=sensitivity")
    playwright_api.expect(page.locator(".compare-column canvas").first).to_be_visible()
    columns = page.request.get("/payload/compare.json").json()["columns"]
    for at, column in enumerate(columns[:2]):
        page.route(f"**/live/{at}.json*", partial(_fulfil, json.dumps(column | {"origin": "live"})))
    page.evaluate(MOUNT)
    return page


def drawn(*columns, **more):
    return {"live": True, "query": QUERY, "models": MODELS, "columns": list(columns)} | more


def test_a_column_that_did_not_come_is_asked_for_again(beside):
    asked = []

    def fail_at_first(route):
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(status=500, body="Internal Server Error")
        else:
            route.fallback()

    beside.route("**/live/0.json*", fail_at_first)
    beside.evaluate("(value) => window.show(value)", drawn("/live/0.json", ""))
    playwright_api.expect(beside.locator("#beside .measure-problem")).to_contain_text("The app answered 500")
    beside.evaluate("(value) => window.show(value)", drawn("/live/0.json", "/live/1.json", ended=True))
    playwright_api.expect(beside.locator("#beside .compare-column:not(.pending)")).to_have_count(2)


def test_why_a_word_was_not_measured_is_said_of_its_own_comparison_alone(beside):
    expect = playwright_api.expect
    beside.route("**/live/sensitivity.json*", lambda route: route.fulfill(body='{"problem": "no room"}'))
    beside.evaluate("(value) => window.show(value)", drawn("/live/0.json", "/live/1.json", ended=True))
    columns, problem = beside.locator("#beside .compare-column:not(.pending)"), beside.locator("#beside .kind-problem")
    expect(columns).to_have_count(2)
    beside.locator("#beside").get_by_role("button", name="and", exact=True).click()
    beside.locator("#beside").get_by_role("button", name="Measure “and”").click()
    expect(problem.first).to_have_text("Not measured: no room")
    other = drawn("/live/0.json", "/live/1.json", ended=True, query=QUERY.replace("s=7", "s=8"))
    beside.evaluate("(value) => window.show(value)", other)
    expect(beside).to_have_url(re.compile("s=8"))
    expect(beside.locator("#beside .kind-note")).not_to_contain_text("no room")


def test_what_is_said_of_a_click_is_seen_beside_pictures_that_were_kept(beside):
    kept = beside.locator("body.kept")
    link = {"source": "-", "link": {"state": "undrawn", "query": QUERY, "prompt": "a dog and hat", "models": []}}
    beside.evaluate("(value) => window.show(value)", drawn("/live/0.json", "/live/1.json", ended=True))
    playwright_api.expect(beside.locator("#beside .compare-column:not(.pending)")).to_have_count(2)
    beside.evaluate("() => document.querySelector('#beside').remove()")

    def show_kept():
        beside.evaluate(MOUNT)
        beside.evaluate("(value) => window.show(value)", link)
        playwright_api.expect(kept).to_have_count(1)

    show_kept()
    beside.locator("#prompt :is(input, textarea)").press("a")
    assert kept.count() == 1
    beside.locator("#prompt").dispatch_event("keydown", {"key": "Enter"})
    assert kept.count() == 0
    show_kept()
    beside.evaluate("(value) => window.show(value)", drawn("", ""))
    playwright_api.expect(kept).to_have_count(0)
    show_kept()
    beside.evaluate(MOUNT)
    assert kept.count() == 0, "another study begins anew"


def test_a_picture_of_other_models_than_are_chosen_by_now_is_not_told(page):
    held = []

    def answer(route, share):
        told = {"image": "data:,", "steps": 2, "groups": [{"name": "feed-forward", "share": share}]}
        route.fulfill(body=json.dumps(told))

    page.route("**/live/graft.json*", lambda route: held.append(route) if not held else answer(route, 0.75))
    page.goto("/")
    playwright_api.expect(page.locator(".compare-column canvas").first).to_be_visible()
    panel = page.locator(".graft-panel")
    panel.locator("summary").click()
    playwright_api.expect(panel.locator("figcaption")).to_have_text("Drawing…")
    panel.get_by_label("Parts from").select_option("dirty-002")
    answer(held[0], 0.25)
    playwright_api.expect(panel.locator("figcaption")).to_contain_text("dirty-004 with parts of dirty-002")
    playwright_api.expect(panel.locator(".graft-slider")).to_contain_text("75.0 % of the weights")


def test_what_is_shown_of_pictures_can_be_chosen_from_when_there_are_pictures(page):
    expect = playwright_api.expect
    held = []
    page.route("**/compare.json*", lambda route: held.append(route))
    page.goto("/")
    page.wait_for_selector(".compare-controls", state="attached")
    view = page.get_by_role("radiogroup", name="View")
    expect(view).to_be_hidden()
    for key in "amp":
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    for route in held:
        route.continue_()
    view.get_by_role("radio", name="Overlay").click()
    expect(view.get_by_role("radio", checked=True)).to_have_text(["Overlay"])
    assert page.complaints == []


def test_a_graft_comes_back_when_the_same_comparison_is_drawn_again_and_no_mark_is_left_on_it(beside):
    expect, screen = playwright_api.expect, beside.locator("#beside")
    told = {"groups": [{"name": "feed-forward", "share": 1}], "steps": 2}
    graft = beside.request.get("/payload/compare.json").json()["columns"][0] | told
    graft |= {"graft": {"title": "the graft", "parts": [["feed-forward", 1]]}}
    beside.route("**/live/graft.json*", partial(_fulfil, json.dumps(graft)))
    models = screen.locator(".compare-column h3")
    beside.evaluate("(value) => window.show(value)", drawn("/live/0.json", "/live/1.json", ended=True))
    screen.locator(".graft-panel summary").click()
    screen.get_by_role("button", name="Show as a column").click()
    screen.get_by_label("Feed-forward").press("End")
    expect(models).to_have_text([*MODELS, "the graft"])
    screen.locator(".mark").last.click()
    beside.evaluate("(value) => window.show(value)", drawn("", ""))
    expect(models).to_have_text(MODELS)
    beside.evaluate("() => document.activeElement.blur()")
    beside.keyboard.press("a")
    expect(models).to_have_text(MODELS[::-1])
    beside.evaluate("(value) => window.show(value)", drawn("/live/0.json", "/live/1.json", ended=True))
    expect(models).to_have_text([*MODELS[::-1], "the graft"])
    assert beside.complaints == []


COSTS = """async () => {
  const { SensitivityRequests } = await import('/explorer-static/compare_sensitivity.js');
  const twice = { words: ['hat', '[end]', '[pad]'], sensitivity: new Map(), seconds: 2, settings: { steps: 2 },
    measurable: { draws: 8, calls: 9, steps: [0, 1] } };
  return new SensitivityRequests({ shown: [twice, twice], rows: [0] }).offers().map((offer) => offer.textContent);
}"""
KEPT_OF_GIVEN = """async () => {
  const { GivenPictures } = await import('/explorer-static/compare_given.js');
  const given = new GivenPictures({ signal: AbortSignal.abort() });
  const settings = { prompt: 'a hat', seed: 1 };
  const columns = ['benign', 'graft 0.5', 'graft 0.6'].map((model) => ({ model, settings }));
  for (const graft of columns.slice(1)) given.of([columns[0], graft]);
  return [...given.found.keys()];
}"""


def test_what_two_columns_share_is_measured_once_and_what_none_shows_is_not_kept(loaded_page):
    assert loaded_page.evaluate(COSTS) == [
        "Measure “hat” 18 network calls (8 random words at 2 steps, 1 model), about 18 s"
    ]
    assert loaded_page.evaluate(KEPT_OF_GIVEN) == ["benign", "graft 0.6"]
