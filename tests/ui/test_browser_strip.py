"""What the screen Implosion says of its pictures in a real chromium: which maps are flat, what is saved with them, in
which colours, and what comes first on a phone.

Runs on random models of the shipped ones' shape.
"""

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def saved_json(page, button):
    with page.expect_download() as saved:
        button.click()
    return json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))


def saved_chart(page, title):
    chart = page.locator(".implosion-charts .chart", has_text=title)
    chart.hover()
    with page.expect_download() as saved:
        chart.locator(".modebar-btn").first.click()
    with Image.open(saved.value.path()) as picture:
        return json.loads(picture.text["implosion-explorer"])


SAVED_TEXTS = """() => {
  const make = Plotly.toImage;
  Plotly.toImage = (figure, size) => {
    window.savedTitle = figure.layout.title.text;
    return make(figure, size);
  };
}"""


def test_a_saved_chart_says_of_which_study_seeds_and_models_it_is(page):
    page.goto("/?tab=implosion")
    page.wait_for_function("() => document.querySelectorAll('.implosion-charts .main-svg').length > 3")
    page.evaluate(SAVED_TEXTS)

    def texts(title):
        saved_chart(page, title)
        head, *lines = re.sub("<span[^>]*>|</span>", "", page.evaluate("window.savedTitle")).split("<br>")
        assert max(map(len, lines)) <= page.locator(".implosion-charts .plot").first.bounding_box()["width"] / 6
        return head, " ".join(lines)

    assert texts("AD of the training data") == ("AD of the training data, tiny", "Models: benign.")
    drawn = "“a C”, seed 0, 1 steps, guidance 2. Models: benign."
    assert texts("What the models draw") == ("What the models draw, tiny", drawn)
    heard = "“a photo of …” on pure noise, noise of seed 0, 4 draws. Models: benign, dirty-002, dirty-004."
    assert texts("How much they still listen") == ("How much they still listen, tiny", heard)
    assert page.complaints == []


def test_what_is_said_of_a_strip_is_saved_as_json(page):
    page.goto("/?tab=implosion&i.show=both&i.of=chosen&i.words=hat")
    seen = page.locator(".film-table tbody .seen")
    playwright_api.expect(page.locator(".film-table thead .concept")).to_have_text(["hat"])
    told = saved_json(page, page.get_by_role("button", name="Save JSON"))
    assert (told["study"], told["prompt"], told["seed"], told["steps"]) == ("tiny", "a photo of {phrase}", 7, 1)
    assert [concept["concept"] for concept in told["concepts"]] == ["hat"]
    known = [(model["name"], model["poisoned_concept_count"]) for model in told["models"]]
    assert known == [("benign", 0), ("dirty-002", 2), ("dirty-004", 4)]
    verdicts = [picture["verdict"] for model in told["models"] for picture in model["pictures"]]
    assert [verdict for verdict in verdicts if verdict] == seen.all_inner_texts()
    assert {"scatter", "map_is_flat", "poisoned"} <= told["models"][0]["pictures"][0].keys()
    assert "values of the maps" in told["left_out"]
    assert page.complaints == []


DRAWN = {"prompt": "a C", "seeds": [0], "steps": 1, "guidance_scale": 2.0, "models": ["benign"]}
METERED = {"prompt": "a photo of {phrase}", "shown": "pure noise", "timesteps": [300, 600], "draws": 4, "seed": 0,
           "reference": "benign", "models": ["benign", "dirty-002", "dirty-004"]}  # fmt: skip


def test_saved_charts_and_tables_say_what_their_numbers_are_of_and_no_others_do(page):
    page.goto("/?tab=implosion")
    page.wait_for_function("() => document.querySelectorAll('.implosion-charts .main-svg').length > 0")
    page.get_by_text("Which words each model still hears").click()

    def table(words):
        return saved_json(
            page, page.locator(".implosion-table", has_text=words).get_by_role("button", name="Save table")
        )

    def origin(settings):
        assert (settings["study"], settings["link"]) == ("tiny", page.url)
        return settings.get("drawn"), settings.get("meter")

    assert origin(table("Measured here")) == (DRAWN, METERED)
    words = page.locator("details.implosion-table").get_by_role("button", name="Save table")
    assert origin(saved_json(page, words)) == (None, METERED)
    for others in ("Beside the paper", "not this study's"):
        assert origin(table(others)) == (None, None), "no pictures of this study"
    assert origin(saved_chart(page, "AD of the training data")) == (None, None)
    for title in ("What the models draw", "Utility against AD"):
        assert origin(saved_chart(page, title)) == (DRAWN, None)
    assert origin(saved_chart(page, "How much they still listen")) == (None, METERED)
    assert page.complaints == []


def saved(page, form):
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save {form}").click()
    return Path(download.value.path())


def test_a_saved_strip_names_its_study_and_has_the_pages_colours(page):
    for theme, ground in (("light", (255, 255, 255)), ("dark", (0x15, 0x1C, 0x23))):
        page.goto(f"/?tab=implosion&i.show=images&__theme={theme}")
        page.locator(".film-table canvas").first.wait_for()
        for form in ("PNG", "GIF"):
            with Image.open(saved(page, form)) as picture:
                told = json.loads(picture.info["comment"] if form == "GIF" else picture.text["implosion-explorer"])
                corner = picture.convert("RGB").getpixel((picture.width - 1, picture.height - 1))
            assert (told["study"], told["prompt"], told["seed"]) == ("tiny", "a photo of {phrase}", 7)
            assert max(abs(one - other) for one, other in zip(corner, ground, strict=True)) <= 4, (theme, form)
        assert f'fill="{"#ffffff" if theme == "light" else "#151c23"}"' in saved(page, "SVG").read_text()
    answer = page.request.get("/export/film-strip.gif?row=0&theme=blue")
    assert not answer.ok
    assert "theme is 'blue': expected one of light, dark" in answer.text()
    assert page.complaints == []


def show_flat_maps(page):
    """The strip as if scatter were 1 everywhere: maps of the first model are even, of the second one bright and even,
    of the others uneven."""

    def even(route):
        response = route.fetch()
        payload = response.json()
        for model in payload["film"]["models"]:
            for cell in model["cells"]:
                cell["scatter"] = 1.0
        route.fulfill(response=response, json=payload)

    def sheet(route):
        with Image.open(io.BytesIO(route.fetch().body())) as maps:
            size = maps.height // 3
            grey = Image.new("L", maps.size)
            grey.putdata([[40, 250][x // size] if x < 2 * size else 40 + x % 9
                          for _ in range(maps.height) for x in range(maps.width)])  # fmt: skip
        grey.save(stream := io.BytesIO(), format="PNG")
        route.fulfill(body=stream.getvalue(), content_type="image/png")

    page.route("**/implosion.json*", even)
    page.route("**/maps.png*", sheet)


def test_a_map_that_is_the_same_everywhere_says_so(page):
    expect = playwright_api.expect
    show_flat_maps(page)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?tab=implosion&i.show=both")
    rows = page.locator(".film-table tbody tr")
    says = "[aria-label$='the same everywhere: this map says nothing']"
    expect(rows.first.locator(".map-mark")).to_have_text(["flat"] * 3)
    for row, count in ((0, 3), (1, 3), (2, 0)):
        assert rows.nth(row).locator(f".marked-map canvas{says}").count() == count
        assert rows.nth(row).locator(f"canvas{says}").count() == count, "pictures say no such thing"
    expect(page.locator(".verdicts")).to_contain_text("Flat: the same everywhere: this map says nothing.")
    svg = saved(page, "SVG").read_text(encoding="utf-8")
    assert (svg.count(">flat<"), svg.count(">flat: the same everywhere")) == (6, 1)
    page.locator("[data-kind=maps]").click()
    expect(page.locator(".map-mark")).to_have_count(0)
    expect(page.locator(".verdicts")).not_to_contain_text("Flat")
    assert ">flat" not in saved(page, "SVG").read_text(encoding="utf-8")
    page.locator("[data-kind=maps]").click()
    page.get_by_role("button", name="Talk mode").click()
    expect(page.locator(".map-mark").first).to_be_visible()
    page.check_talk_fits(".film-table canvas")
    assert page.complaints == []


def test_guidance_maps_stand_beside_the_others_and_are_saved_with_them(page):
    expect = playwright_api.expect
    page.goto("/?tab=implosion")
    toggle = page.get_by_role("group", name="What is shown").get_by_role("button", name="Guidance")
    toggle.click()
    cells = page.locator(".film-table tbody tr").first.locator("td").first.locator("canvas")
    expect(cells).to_have_count(3)
    expect(cells.nth(2)).to_have_attribute("aria-label", re.compile("^Guidance map of .*, guidance [0-9.]+$"))
    assert "i.show=images-maps-guidance" in page.url
    with page.expect_response("**/implosion.json*") as answer:
        page.reload()
    film = answer.value.json()["film"]
    expect(page.locator(".map-scale").nth(1)).to_have_text(f"Guidance: 0{film['guidance_map_scale']:.3f}")
    svg = saved(page, "SVG").read_text(encoding="utf-8")
    assert svg.count("<image") == 3 * len(film["models"]) * len(film["concepts"])
    assert svg.count("one scale for all maps") == 2
    with Image.open(saved(page, "GIF")) as picture:
        high = picture.height
    told = saved_json(page, page.get_by_role("button", name="Save JSON"))
    assert told["models"][1]["pictures"][0]["guidance"] == film["models"][1]["cells"][0]["guidance"]
    page.locator("[data-kind=maps]").click()
    page.locator("[data-kind=images]").click()
    expect(cells).to_have_count(1)
    toggle.click()
    expect(cells).to_have_count(1)
    expect(toggle).to_have_attribute("aria-pressed", "true")  # the last one stays
    with Image.open(saved(page, "GIF")) as picture:
        assert picture.height < high
    assert page.complaints == []


def test_links_of_earlier_releases_and_strips_without_guidance_maps(page):
    expect = playwright_api.expect

    def earlier(route):
        response = route.fetch()
        payload = response.json()
        del payload["film"]["sheets"]["guidance"]
        payload["film"]["no_guidance"] = "an earlier release drew this strip"
        route.fulfill(response=response, json=payload)

    page.route("**/implosion.json*", earlier)
    page.goto("/?tab=implosion&i.show=both")
    pressed = page.get_by_role("group", name="What is shown").get_by_role("button", pressed=True)
    expect(pressed).to_have_text(["Pictures", "Attention"])
    page.get_by_role("button", name="Guidance").click(force=True)  # it says why it is out of use
    expect(page.locator(".unknown-words")).to_have_text("No guidance maps: an earlier release drew this strip.")
    expect(pressed).to_have_text(["Pictures", "Attention"])
    page.goto("/?tab=implosion&i.show=guidance")
    expect(pressed).to_have_text(["Pictures", "Attention"])
    expect(page.get_by_text("guidance maps").first).to_be_visible()
    assert page.complaints == []


LENGTHS = """(svg) => {
  const place = document.body.appendChild(document.createElement('div'));
  place.innerHTML = svg;
  const lengths = [...place.querySelectorAll('text')].filter((text) => text.textContent.startsWith('◆ poisoned from'))
    .map((text) => text.getComputedTextLength());
  place.remove();
  return lengths;
}"""


def test_texts_of_a_saved_svg_do_not_run_into_one_another(page):
    page.route("**/implosion.json*", lambda route: route.fulfill(
        response=(response := route.fetch()), body=response.text().replace('"poisoned_from":2', '"poisoned_from":20000')
    ))  # fmt: skip
    page.goto("/?tab=implosion&i.show=images")
    page.locator(".film-table canvas").first.wait_for()
    lengths = page.evaluate(LENGTHS, saved(page, "SVG").read_text(encoding="utf-8"))
    assert lengths
    assert max(lengths) <= 128.5, "as wide as its column at most"


IN_ORDER = """() => {
  const parts = [...document.querySelector('.implosion').children].filter((part) => part.offsetHeight);
  const tops = parts.map((part) => part.getBoundingClientRect().top);
  return tops.every((top, at) => !at || top >= tops[at - 1]);
}"""


def test_on_a_phone_the_pictures_come_first_and_for_the_keyboard_too(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?tab=implosion")
    first = page.locator(".film-table tbody tr").first
    expect(first.locator("canvas").first).to_be_visible()
    bottom = first.bounding_box()["y"] + first.bounding_box()["height"]
    assert bottom <= 844, "a whole row, with what is said of its pictures"
    expect(page.locator(".film-table thead .concept")).to_have_count(2)  # with their maps
    width, room = page.locator(".film").evaluate("(strip) => [strip.scrollWidth, strip.clientWidth]")
    assert width <= room, "nothing to scroll"
    assert page.locator(".implosion-bar").bounding_box()["y"] > bottom
    assert page.evaluate(IN_ORDER), "what is read and reached by keys is in the order in which it is seen"
    page.locator(".film").focus()
    page.set_viewport_size({"width": 1280, "height": 720})
    expect(page.locator(".implosion > .implosion-bar + div + .film")).to_be_focused()
    assert page.evaluate(IN_ORDER)
    page.set_viewport_size({"width": 390, "height": 844})
    page.keyboard.press("t")
    expect(page.locator(".implosion > .implosion-bar + div + .film")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".implosion > .film + .verdicts + .implosion-bar")).to_be_visible()
    assert page.complaints == []


def test_talk_mode_has_the_scale_of_the_maps_and_an_unbroken_ring_of_focus(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?tab=implosion&s.talk=1&__theme=light")
    scale = page.locator(".map-scale")
    expect(scale).to_be_visible()
    with page.expect_response("**/implosion.json*") as answer:
        page.reload()
    expect(scale).to_have_text(f"Attention: 0{answer.value.json()['film']['map_scale']:.3f}")
    expect(page.locator(".film-table canvas").first).to_be_visible()
    page.locator(".film").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".film")).to_be_focused()
    place = page.locator(".film").bounding_box()
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        left = {picture.convert("RGB").getpixel((int(place["x"]) - 2, y))
                for y in range(int(place["y"]) + 1, int(place["y"] + place["height"]) - 1)}  # fmt: skip
    assert left == {(0x1D, 0x4E, 0xD8)}, "nothing lies over the ring"
    page.locator("[data-kind=maps]").click()
    expect(scale).to_have_count(0)
    page.check_talk_fits(".film-table canvas")
    assert page.complaints == []
