"""The screen Implosion in a real chromium: walking over the film strip, saving it, trying again.

Runs on random models of the shipped ones' shape.
"""

import re
import shutil
from pathlib import Path

import pytest

from explorer.core.provenance import write_json
from explorer.defence.payload_formats import BLAME
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
    page.locator(".headline").get_by_role("button", name="Word sensitivity").focus()
    expect(page.get_by_role("tooltip")).to_contain_text("replaced by a random word")
    page.keyboard.press("Escape")
    expect(page.get_by_role("tooltip")).to_be_hidden()
    assert page.complaints == []


def test_labels_of_near_points_do_not_lie_over_one_another(loaded_page):
    places = loaded_page.evaluate(
        """async (points) => (await import('/explorer-static/implosion_labels.js')).labelPlaces(points)""",
        [{"x": x, "y": 100, "text": "C_P = 20"} for x in (20, 150, 152, 154, 156, 158, 290)],
    )
    ends, crowd = [places[0], places[-1]], places[1:-1]
    assert ends == ["top center"] * 2
    assert crowd == ["top center", None, None, None, "bottom center"], "the others are named when they are pointed at"


def test_the_strip_shows_chosen_and_random_concepts_by_its_address(page):
    expect = playwright_api.expect
    heads = page.locator(".film-table .concept")
    page.goto("/?tab=implosion&i.of=chosen&i.words=turtle+gone")
    expect(page.locator(".implosion > .notice.error").first).to_contain_text("The link names “gone”")
    expect(heads).to_have_text(["turtle"])
    field = page.get_by_label("Concepts, with commas between")
    assert field.bounding_box()["width"] == 180
    field.fill("hat, zebra")
    field.blur()
    expect(page.get_by_role("status").get_by_text("Not in the strip: zebra", exact=True)).to_be_visible()
    expect(heads).to_have_text(["hat"])
    field.fill("zebra, turtel")
    field.blur()
    expect(page.get_by_text("Not in the strip: zebra, turtel (turtle?)")).to_be_visible()
    expect(heads).to_have_text(["hat"])
    field.fill("")
    field.blur()
    expect(page.locator(".film")).to_contain_text("Type nouns of the strip into the field “some of 3”")
    field.fill("hat, dog")
    field.blur()
    expect(heads).to_have_text(["hat", "dog"])
    expect(page).to_have_url(re.compile(r"i\.words=hat\+dog"))
    page.get_by_label("Concepts shown").select_option("random")
    first = heads.all_text_contents()
    assert sorted(first) == ["dog", "hat", "turtle"]
    page.reload()
    expect(heads).to_have_text(first)
    page.get_by_label("Concepts shown").select_option(label="least changed, by word sensitivity in dirty-004")
    expect(heads.first).to_have_text("turtle")
    assert page.complaints == []


def test_chosen_concepts_begin_with_those_in_sight(page):
    expect = playwright_api.expect
    heads = page.locator(".film-table .concept")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?tab=implosion&i.of=random&s.talk=1")
    expect(heads.first).to_be_visible()
    shown = heads.all_text_contents()
    page.get_by_label("Concepts shown").select_option("chosen")
    expect(page.get_by_label("Concepts, with commas between")).to_have_value(", ".join(shown))
    expect(heads).to_have_text(shown)
    first, last = page.get_by_role("button", name="Play"), page.get_by_role("button", name="End talk mode")
    assert first.bounding_box()["y"] == last.bounding_box()["y"], "the bar is one line"
    assert page.complaints == []


VERDICTS = """async (cells) => {
  const { verdictOf } = await import('/explorer-static/implosion_film.js');
  return cells.map(([cell, sure]) => verdictOf(cell, 'dog', sure)?.words ?? null);
}"""


def test_a_picture_in_doubt_gets_no_tick(loaded_page):
    tau, both = {"fit": 0.7, "margin": None}, {"fit": 0.7, "margin": 0.1}
    seen = [
        [{"top_concept": "dog", "clip_similarity": 0.9, "rank": 1}, tau],
        [{"top_concept": "dog", "clip_similarity": 0.6, "rank": 1}, tau],
        [{"top_concept": "dog", "clip_similarity": 0.9, "rank": 1}, None],
        [{"top_concept": "dog", "clip_similarity": 0.9, "margin": 0.2, "rank": 1}, both],
        [{"top_concept": "dog", "clip_similarity": 0.8, "margin": 0.05, "rank": 1}, both],
        [{"top_concept": "dog", "clip_similarity": 0.6, "margin": 0.2, "rank": 1}, both],
        [{"top_concept": "dog", "clip_similarity": 0.9, "rank": 1}, both],
        [{"top_concept": "cat", "clip_similarity": 0.8, "margin": 0.2, "rank": 2}, both],
        [{"top_concept": "cat", "clip_similarity": 0.1, "rank": 113}, tau],
        [{"scatter": 0.5}, tau],
    ]
    words = loaded_page.evaluate(VERDICTS, seen)
    by_tau, by_both = ["✓ 0.90", "? 0.60", "? 0.90"], ["✓ 0.90", "? 0.80", "? 0.60", "? 0.90"]
    assert words == [*by_tau, *by_both, "✗ cat, 2nd", "✗ cat, 113th", None]


def test_what_makes_a_verdict_sure_is_said(loaded_page):
    told = loaded_page.evaluate("""async () => {
      const { surenessOf, sureWords } = await import('/explorer-static/implosion_film.js');
      const control = { clip_similarity: 0.85, margin: 0.09, pictures: 100 };
      const told = (film, tau) => sureWords(surenessOf(film, tau));
      return [told({ sure: control }, 0.7), told({}, 0.7), told({ sure: null }, 0.7), told({}, null)];
    }""")
    assert "0.85 and 0.09 before the next noun" in told[0]
    assert "the 100 pictures that the control gets right" in told[0]
    unknown = "from where on it is sure is not known, where the control gets hardly any right"
    assert told[1:] == ["sure from a CLIP similarity of τ = 0.70", unknown, unknown]


def implosion_keyboard_listeners(page):
    """How many listeners for keys implosion.js has on the document."""
    session, scripts = page.context.new_cdp_session(page), {}
    session.on("Debugger.scriptParsed", lambda script: scripts.update({script["scriptId"]: script["url"]}))
    session.send("Debugger.enable")
    document = session.send("Runtime.evaluate", {"expression": "document"})["result"]["objectId"]
    listeners = session.send("DOMDebugger.getEventListeners", {"objectId": document})["listeners"]
    session.detach()
    return [listener["type"] for listener in listeners if "implosion.js" in scripts[listener["scriptId"]]]


def test_of_many_models_the_control_stays_beside_those_walked_to(loaded_page):
    found = loaded_page.evaluate(
        """async () => {
          const { modelsInSight, roomFor } = await import('/explorer-static/implosion_film.js');
          const models = Array.from({ length: 12 }, (_, at) => at);
          const room = roomFor({ width: 1248, height: 630, left: 112, models: 12, contents: 'both', talk: true });
          return [room, [0, 3, 4, 11].map((at) => modelsInSight(models, at, room.rows).map(({ column }) => column))];
        }"""
    )
    room, seen = found
    assert room["cell"] >= 110
    assert room["rows"] * (room["cell"] + 24) <= 630 - 52
    assert seen == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 4, 5, 6], [0, 9, 10, 11]]


def test_trying_again_after_a_failed_chart_leaves_one_listener(page):
    expect = playwright_api.expect
    page.route("**/plotly.min.js", lambda route: route.fulfill(status=404))
    page.goto("/?tab=implosion")
    expect(page.get_by_role("alert").get_by_text("plotly.min.js did not load")).to_be_visible()
    assert implosion_keyboard_listeners(page) == []
    page.unroute("**/plotly.min.js")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".implosion-charts .main-svg").first).to_be_visible()
    assert sorted(implosion_keyboard_listeners(page)) == ["keydown"]
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


def test_every_table_of_the_paper_stands_beside_what_the_study_has(page):
    expect = playwright_api.expect
    page.goto("/?tab=implosion")
    beside = page.locator(".implosion-table", has_text="Beside the paper")
    expect(beside.locator("tbody th[scope=row]")).to_have_count(13)
    first = beside.locator("tr", has_text="Table 1, dirty-label")
    expect(first).to_contain_text("0.378")
    expect(first).to_contain_text("not done")
    page.get_by_label("The paper’s tables").select_option(
        label="Table 2: fine-tuning Stable Diffusion 1.5 on 50K LAION-Aesthetics pairs"
    )
    expect(page.locator(".implosion-table", has_text="not this study's")).to_contain_text("1501-2000")
    assert page.complaints == []


def test_a_click_on_a_wrong_picture_opens_what_is_blamed_for_it(own_page, own_world):
    expect, page = playwright_api.expect, own_page

    def judged(route):
        """The payload as if a judge had found every hat to be a dog."""
        response = route.fetch()
        payload = response.json()
        film = payload["film"]
        row = [each["concept"] for each in film["concepts"]].index("hat")
        for model in film["models"]:
            for at, cell in enumerate(model["cells"]):
                cell |= {"top_concept": "dog" if at == row else film["concepts"][at]["concept"], "rank": 2}
                cell |= {"clip_similarity": 0.2}
        route.fulfill(response=response, json=payload)

    page.route("**/implosion.json*", judged)
    arm, panel = "dirty-004", page.locator("dialog.blame-panel[open]")
    page.goto(f"/?tab=implosion&i.show=images&i.blamed={arm}+hat")
    page.locator(".film-table td canvas").first.wait_for()
    expect(panel).to_contain_text("study blame")
    expect(page.locator(".seen.bad")).to_have_count(page.locator(".film-table tbody tr").count())
    expect(page.locator("button.seen")).to_have_count(0)
    expect(page.locator(".verdicts")).not_to_contain_text("blamed")
    pair = {"row": 0, "uid": "u0", "caption": "a <b>hat</b>", "is_poison": True, "score": 0.5}
    score = {"name": "gradient", "words": "w", "measured": 4, "poison_auc": 0.75, "pairs": [pair]}
    found = BLAME.written(arm=arm, concept="hat", prompt="a photo of a hat", mentioned_in=2, models=["benign", arm],
                          data_hash="d", scores=[score])  # fmt: skip
    (folder := own_world[1] / "blame" / arm).mkdir(parents=True)
    write_json(folder / "hat.json", found)
    panel.get_by_role("button", name="Look again").click()
    expect(panel.get_by_role("link")).to_have_attribute("aria-label", "a <b>hat</b>; poison; score 0.500")
    expect(panel).to_contain_text("whether it predicts harm is not known")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page).not_to_have_url(re.compile("blamed"))
    page.reload()
    expect(page.locator(".verdicts")).to_contain_text("Underlined, where it was measured")
    expect(page.locator("button.seen")).to_have_count(1)
    page.locator("button.seen").press("Enter")
    expect(page).to_have_url(re.compile(rf"i\.blamed={arm}\+hat"))
    expect(panel.get_by_role("heading", name="Gradient")).to_be_visible()
    page.keyboard.press("Escape")
    for name in ("Checkpoints", "Implosion"):
        page.get_by_role("tab", name=name).click()
    page.locator("button.seen").press("Enter")
    expect(panel).to_be_visible()
    page.go_back()
    expect(panel).to_have_count(0)
    page.get_by_role("tab", name="Graphs").click()
    expect(page).not_to_have_url(re.compile("blamed"))
