"""The screen Implosion in a real chromium: walking over the film strip, saving it, talk mode, trying again.

Runs on random models of the shipped ones' shape.
"""

import re
import shutil
from pathlib import Path

import pytest

from explorer.studies.results import FILM_STRIP

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_the_film_strip_walks_and_is_saved_in_three_formats(page):
    expect = playwright_api.expect
    page.goto("/?tab=implosion&i.show=images&i.cp=benign")  # a link from when two models had that C_P
    expect(page.locator(".film-table tr.current th[scope=row]")).to_contain_text("benign")
    page.goto("/?tab=implosion&i.show=images&i.cp=0")
    expect(page.locator(".film-table tr.current th[scope=row]")).to_contain_text("benign")
    assert page.locator(".film-table canvas[aria-label^='Attention map']").count() == 0
    for button, beginning in (("Save PNG", b"\x89PNG"), ("Save SVG", b"<svg"), ("Save GIF", b"GIF89a")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=button).click()
        content = Path(saved.value.path()).read_bytes()
        assert content.startswith(beginning)
        assert b"guidance_scale" in content, "the settings travel with the file"
    page.locator(".film").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".film-table tr.current th[scope=row]")).not_to_contain_text("benign")
    expect(page).to_have_url(re.compile(r"i\.cp=2\b"))
    assert page.complaints == []


def test_the_headline_follows_the_model_and_says_what_it_stopped_hearing(page):
    expect = playwright_api.expect
    page.goto("/?tab=implosion&i.cp=0")
    cards = page.locator(".headline-card")
    expect(cards.nth(0)).to_contain_text("0.500")
    expect(cards.nth(2)).to_contain_text("1.00")
    expect(cards.nth(2)).to_contain_text("the reference")
    page.locator(".film").focus()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(0)).to_contain_text("not measured")  # by the evaluation, which has the control alone
    expect(cards.nth(2)).to_contain_text("0.50 of benign’s")
    expect(cards.nth(2)).to_contain_text("[0.45, 0.55] over 3")
    expect(cards.nth(3).locator("li")).to_have_count(3)
    expect(cards.nth(3).locator("li").first).to_contain_text("0.50")
    expect(page.locator(".implosion-charts .main-svg")).not_to_have_count(0)
    listening = page.locator(".chart", has_text="How much they still listen")
    expect(listening.locator(".scatterlayer .trace")).to_have_count(2)
    page.get_by_role("button", name="Word sensitivity").focus()
    expect(page.get_by_role("tooltip")).to_contain_text("replaced by a random word")
    page.keyboard.press("Escape")
    expect(page.get_by_role("tooltip")).to_be_hidden()
    assert page.complaints == []


def test_labels_of_near_points_do_not_lie_over_one_another(page):
    page.goto("/")
    places = page.evaluate(
        """async (points) => (await import('/explorer-static/implosion_labels.js')).labelPlaces(points)""",
        [{"x": x, "y": 100, "text": "C_P = 20"} for x in (20, 150, 152, 154, 156, 158, 290)],
    )
    ends, crowd = [places[0], places[-1]], places[1:-1]
    assert ends == ["top center"] * 2
    assert crowd == ["top center", None, None, None, "bottom center"], "the others are named when they are pointed at"


def test_talk_mode_walks_by_keys_alone(page):
    expect = playwright_api.expect
    page.goto("/?tab=implosion&i.cp=0")
    expect(page.locator(".film-table tr.current th[scope=row]")).to_contain_text("benign")
    usual = page.locator(".film").bounding_box()["height"]
    page.get_by_role("button", name="Talk mode").click()
    expect(page.locator(".implosion.talk .film")).to_be_focused()
    assert page.locator(".film").bounding_box()["height"] >= usual > 100, "the strip is what a talk is about"
    page.keyboard.press("ArrowRight")
    expect(page.locator(".film-table tr.current th[scope=row]")).not_to_contain_text("benign")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    check_menu_in_talk_mode(page)
    assert page.complaints == []


def check_menu_in_talk_mode(page):
    """The menu and the buttons keep the keys that choose from them; the models are walked over all the same."""
    expect = playwright_api.expect
    row = page.locator(".film-table tr.current th[scope=row]")
    page.get_by_label("Concepts shown").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Concepts shown")).to_have_value("poisoned")
    expect(row).to_contain_text("benign")
    page.keyboard.press("ArrowRight")
    expect(row).not_to_contain_text("benign")
    expect(page.get_by_label("Concepts shown")).to_have_value("poisoned")
    shown = page.get_by_role("radiogroup", name="What is shown")
    shown.get_by_role("radio", name="Both").focus()
    page.keyboard.press("ArrowLeft")
    expect(shown.get_by_role("radio", checked=True)).to_have_text(["Attention maps"])
    expect(row).not_to_contain_text("benign")
    shown.get_by_role("radio", name="Pictures").click()
    expect(page.locator(".film")).to_be_focused()


def implosion_keyboard_listeners(page):
    """How many listeners for keys implosion.js has on the document."""
    session, scripts = page.context.new_cdp_session(page), {}
    session.on("Debugger.scriptParsed", lambda script: scripts.update({script["scriptId"]: script["url"]}))
    session.send("Debugger.enable")
    document = session.send("Runtime.evaluate", {"expression": "document"})["result"]["objectId"]
    listeners = session.send("DOMDebugger.getEventListeners", {"objectId": document})["listeners"]
    session.detach()
    return [listener["type"] for listener in listeners if "implosion.js" in scripts[listener["scriptId"]]]


def test_trying_again_after_a_failed_chart_leaves_one_listener(page):
    expect = playwright_api.expect
    page.route("**/plotly.min.js", lambda route: route.fulfill(status=404))
    page.goto("/?tab=implosion")
    expect(page.get_by_role("alert").get_by_text("plotly.min.js did not load")).to_be_visible()
    assert implosion_keyboard_listeners(page) == []
    page.unroute("**/plotly.min.js")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".implosion-charts .main-svg").first).to_be_visible()
    assert sorted(implosion_keyboard_listeners(page)) == ["fullscreenchange", "keydown"]
    assert page.complaints == []


def test_without_a_film_strip_there_is_nothing_to_walk_over(own_page, own_world):
    expect = playwright_api.expect
    shutil.rmtree(own_world[1] / "results" / FILM_STRIP)
    own_page.goto("/?tab=implosion")
    expect(own_page.locator(".missing-step .command code")).to_contain_text("film-strip")
    expect(own_page.locator(".implosion-charts .main-svg").first).to_be_visible()
    expect(own_page.locator(".implosion-bar")).to_be_hidden()
    ticks = own_page.locator(".implosion-charts .js-plotly-plot").first.locator(".xtick text").all_text_contents()
    assert ticks
    assert all(re.fullmatch(r"−?\d+", tick) for tick in ticks), "C_P counts concepts"
