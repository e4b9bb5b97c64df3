"""Pictures of pairs on the screen Defence in a real chromium, where a request for them or for the graphs fails."""

import io
import re

import pytest
from PIL import Image

from tests.ui.defence.test_browser_defence import card, open_defence

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

LATER = "() => { const now = performance.now.bind(performance); performance.now = () => now() + 60_000; }"
ANSWERED = """async () => {
  const { PairPictures } = await import('/explorer-static/pair_pictures.js');
  const told = (status, body) => () => new Response(JSON.stringify(body), { status });
  const fail = () => { throw new TypeError('no network'); };
  const answers = [fail, told(422, { detail: 'rows' }), told(404, { problem: 'Gone.' })];
  const now = performance.now.bind(performance);
  let [asked, ahead] = [0, 0];
  performance.now = () => now() + ahead;
  const others = window.fetch;
  const ours = (url) => String(url).includes('/thumbnails/');
  window.fetch = async (...given) => (ours(given[0]) ? answers[asked++]() : others(...given));
  const pictures = new PairPictures('/study/tiny/thumbnails/dirty', 'h');
  const states = [];
  for (let turn = 0; turn < 4; turn += 1) {
    const arrived = new Promise((resolve) => pictures.addEventListener('arrived', () => resolve(true), { once: true }));
    pictures.of(turn);
    const came = await Promise.race([arrived, new Promise((resolve) => setTimeout(() => resolve(false), 500))]);
    states.push([came, asked, pictures.whyNone.problem, pictures.problem !== null]);
    ahead += 60_000;
  }
  return states;
}"""


def test_a_request_that_failed_is_made_again_unless_there_are_no_pictures(loaded_page):
    later = "They are asked for again when others are looked at."
    assert loaded_page.evaluate(ANSWERED) == [
        [True, 1, f"The pictures did not load (no network). {later}", False],
        [True, 2, f"The pictures did not load (the app answered 422). {later}", False],
        [True, 3, "Gone.", True],
        [False, 3, "Gone.", True],
    ]


def pictures_that_come_late(page):
    """As if pictures were on this machine, and the app at first did not answer."""
    asked = []

    def found(route):
        response = route.fetch()
        payload = response.json()
        payload["arms"] = [arm | {"no_pictures": None} for arm in payload["arms"]]
        route.fulfill(response=response, json=payload)

    def answer(route):
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(status=404, body="no such page")
            return
        stream = io.BytesIO()
        Image.new("RGB", (48 * 64, 48), "green").save(stream, "PNG")
        route.fulfill(body=stream.getvalue(), content_type="image/png")

    page.route("**/payload/defence.json*", found)
    page.route("**/thumbnails/**", answer)


def test_pictures_and_graphs_that_do_not_come_are_told_and_asked_for_again(page):
    expect = playwright_api.expect
    pictures_that_come_late(page)
    graphs = re.compile(r"/graphs/dirty/columns\.bin")
    page.route(graphs, lambda route: route.fulfill(status=404, body="no graphs now"))
    open_defence(page)
    notice = page.locator(".pictures-notice")
    expect(notice).to_contain_text("The pictures did not load (the app answered 404).")
    expect(notice).to_contain_text("Those kept for Graphs did not load either: no graphs now")
    page.evaluate(LATER)
    page.get_by_role("radio", name="Benign kept").click()
    expect(page.locator(".pair-card canvas")).to_have_count(page.locator(".pair-card").count())
    expect(notice).to_be_empty()
    taken, show = page.locator(".defence-export"), page.get_by_role("button", name="Show what goes on Graphs")
    show.click()
    expect(taken.get_by_role("alert")).to_contain_text("no graphs now")
    page.unroute(graphs)
    page.get_by_role("slider", name="How many pairs go").press("Home")
    expect(card(page, "Removed").first).to_contain_text("40 stay")
    expect(taken.get_by_role("alert")).to_have_count(0)
    show.click()
    expect(taken.get_by_role("status")).to_have_text("Nothing goes: there is nothing to show.")
