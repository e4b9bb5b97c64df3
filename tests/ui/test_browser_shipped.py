"""What a new user sees: the app as shipped, in a real chromium, every screen with its own artefacts and models."""

import io
import json
import re
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image

from explorer.studies.results import COMPARISON, EVALUATION, FILM_STRIP, result_file
from explorer.studies.study import Study
from explorer.ui.shell.context import SHIPPED_STUDY

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

DRAWN = """(count) => [...document.querySelectorAll('.js-plotly-plot')]
  .filter((plot) => plot.offsetParent && plot._fullLayout).length >= count"""
LINES_DRAWN = """(count) => [...document.querySelectorAll('.graph-lines path')]
  .map((path) => path.getAttribute('d')).join('').split('M').length === count + 1"""
MAPS_DRAWN = "() => [...document.querySelectorAll('.graph-frame')].filter((frame) => frame.dataset.drawn).length === 2"


@pytest.fixture(scope="module")
def address(watch_page, serve_app):
    with serve_app() as address:
        yield address


@pytest.fixture
def page(address, watch_page):
    with watch_page(address) as page:
        yield page
        assert page.complaints == []


def read(step, name):
    return json.loads(result_file(Study.load(SHIPPED_STUDY), step, name).read_text(encoding="utf-8"))


def open_screen(page, tab):
    page.goto(f"/?tab={tab}")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    playwright_api.expect(panel).to_be_visible()
    page.wait_until_drawn()
    return panel


def test_compare_and_the_film_strip_tick_by_the_same_rule(page):
    sure, marks = read(FILM_STRIP, "film_strip.json")["sure"], []
    for name in read(COMPARISON, "index.json")["columns"]:
        column = read(COMPARISON, f"{name}.json")
        numbers, asked = column["numbers"], column["words"][column["concept_words"][0]]
        clear = all(numbers[bound] >= sure[bound] for bound in ("clip_similarity", "margin"))
        marks.append("✗" if numbers["top_concept"] != asked else "✓" if clear else "?")
    assert set(marks) == {"✓", "?", "✗"}
    compare = open_screen(page, "compare")
    shown = compare.locator(".compare-column").filter(has=page.locator("canvas"))
    playwright_api.expect(shown).to_have_count(len(marks))
    said = [shown.nth(at).locator("dd").nth(1).inner_text() for at in range(len(marks))]
    assert [next(mark for mark in "✓?✗" if mark in words) for words in said] == marks


def test_every_screen_shows_its_own_artefacts_and_no_message(page):
    expect = playwright_api.expect
    models = [model["name"] for model in read(EVALUATION, "evaluation.json")["models"]]
    compare = open_screen(page, "compare")
    expect(compare.locator(".compare-column")).to_have_count(len(read(COMPARISON, "index.json")["columns"]))
    expect(compare.locator(".prompt-words .origin")).to_have_text("Precomputed")
    implosion = open_screen(page, "implosion")
    page.wait_for_function(DRAWN, arg=3)
    for model in models:
        expect(implosion.locator(".implosion-table tbody th").get_by_text(model, exact=True).first).to_be_visible()
    expect(implosion).to_contain_text("95 % interval over nouns")
    expect(implosion.locator(".what-runs")).to_contain_text("over 5 training runs that no revision has seen")
    beside = implosion.locator(".implosion-table", has_text="Beside the paper")
    expect(beside.locator("tr", has_text="Figure 2")).to_contain_text("in the study single-concept")
    implosion.get_by_label("The paper’s tables").select_option("1")
    here = implosion.locator(".implosion-table", has_text="Table 2: measured here, in the study less-popular")
    expect(here.locator("tr", has_text="rare-020").locator("td").last).to_have_text("0.734")
    continued = implosion.locator(".implosion-table", has_text="AD of a base that is already poisoned")
    expect(continued.locator("tbody tr")).to_have_count(4)
    expect(implosion.locator(".film-table th.benign[scope=col] .from").first).to_have_text("not targeted")
    open_screen(page, "graphs")
    page.wait_for_function(MAPS_DRAWN)
    alignment = open_screen(page, "alignment")
    page.wait_for_function(DRAWN, arg=3)
    for model in models:
        expect(alignment.get_by_text(model, exact=True).first).to_be_visible()
    expect(alignment).to_contain_text("a straight line in the share of poisoned pairs explains AD with R² = 0.9998.")
    expect(alignment).to_contain_text("in these sets it is not shown to predict anything beyond it")
    expect(alignment).to_contain_text("with C_P it rises (0.133 to 0.348) here, and falls (0.149 to 0.144) there.")
    checkpoints = open_screen(page, "checkpoints")
    expect(checkpoints.locator("#registry tbody tr")).to_have_count(len(models))
    for tab in ("compare", "implosion", "graphs", "alignment", "defence", "checkpoints"):
        screen = open_screen(page, tab)
        expect(screen.locator(".notice.error")).to_have_count(0)
        expect(page.locator("#origin .notice")).to_have_count(0)
        assert not re.search("unpoisoned|never poisoned|nobody poisoned", screen.inner_text()), "riders are named"


def test_a_wrong_picture_of_a_poisoned_model_asks_which_pairs_are_blamed(page):
    expect = playwright_api.expect
    compare = open_screen(page, "compare")
    asked = compare.get_by_role("button", name="Blamed pairs")
    columns = {name: read(COMPARISON, f"{name}.json") for name in read(COMPARISON, "index.json")["columns"]}
    wrong = [name for name, each in columns.items() if each["numbers"]["top_concept"] != "hamburger"]
    assert wrong
    assert "benign" not in wrong
    expect(asked).to_have_count(len(wrong))
    asked.last.click()
    panel = page.locator("dialog.blame-panel").filter(visible=True)
    expect(panel.locator(".blame-head h3")).to_have_text(f"Blamed for hamburger, as {wrong[-1]} draws it")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)


def test_a_link_to_a_set_or_a_pair_that_is_not_here_names_it(page):
    expect = playwright_api.expect
    for link, words in (
        ("alignment&a.sets=gone&a.shown=lost", "The link names “gone”, “lost”: not found here."),
        ("graphs&g.pair=<b>none&g.colour=taste", "The link names “taste”, “<b>none”: not found here."),
        ("implosion&i.cp=dirty-999", "The link names “dirty-999”: not found here."),
    ):
        screen = open_screen(page, link)
        expect(screen.get_by_role("alert")).to_contain_text(words)
        expect(screen).not_to_contain_text("Choose at least one set")


def test_the_shipped_sets_biggest_mover_is_inspected(page):
    open_screen(page, "graphs")
    page.wait_for_function(MAPS_DRAWN)
    first = page.locator(".pair-rows .pair-row").first
    uid = first.locator(".cell.uid").inner_text()
    first.click()
    inspector = page.locator(".graph-inspector")
    playwright_api.expect(inspector.get_by_text(uid, exact=True)).to_be_visible()
    playwright_api.expect(inspector.locator(".inspector-scores tr").nth(2)).to_contain_text("D_s")
    playwright_api.expect(inspector.locator(".neighbour")).to_have_count(16)


def with_pictures(page, why_not):
    """Graphs as if the sets' pictures were on this machine, or were not and why."""

    def answer(route):
        response = route.fetch()
        sets = [each | {"no_pictures": why_not} for each in response.json()["sets"]]
        route.fulfill(response=response, json={"sets": sets})

    page.route("**/payload/graphs.json*", answer)


@pytest.mark.parametrize("told_before", [True, False])
def test_a_pair_without_a_picture_says_how_to_have_it(page, told_before):
    """As in a fresh clone, which has no pair sets; or where they are of other pairs, which only asking tells."""
    told, asked = {"problem": "No pairs here.", "command": "python -m explorer train"}, []
    with_pictures(page, told if told_before else None)
    page.on("request", lambda request: asked.append(request.url) if "/thumbnails/" in request.url else None)
    page.route("**/thumbnails/**", lambda route: route.fulfill(status=404, json=told))
    open_screen(page, "graphs&g.pair=poison0-004837")
    page.wait_for_function(MAPS_DRAWN)
    expect, inspector = playwright_api.expect, page.locator(".graph-inspector")
    expect(inspector.locator(".no-thumbnail")).to_contain_text(
        re.compile("of the 9,000 pairs drawn have one.* No pairs here. To have all: python -m explorer train")
    )
    expect(inspector.locator(".inspector-head .graph-thumbnail")).to_have_text("◆")
    assert bool(asked) != told_before, "nothing is asked for in vain"


def test_pictures_that_were_not_kept_are_asked_for_when_seen(page):
    asked = []

    def answer(route):
        rows = parse_qs(urlparse(route.request.url).query)["rows"][0].split(",")
        asked.append(rows)
        stream = io.BytesIO()
        Image.new("RGB", (48 * len(rows), 48), "green").save(stream, "PNG")
        route.fulfill(body=stream.getvalue(), content_type="image/png")

    with_pictures(page, None)
    page.route("**/thumbnails/**", answer)
    open_screen(page, "graphs&g.pair=poison0-004837")
    page.wait_for_function(MAPS_DRAWN)
    inspector, expect = page.locator(".graph-inspector"), playwright_api.expect
    expect(inspector.locator(".inspector-head .graph-thumbnail canvas")).to_have_count(1)
    expect(inspector.locator(".no-thumbnail")).to_have_count(0)
    expect(inspector.locator(".neighbour .graph-thumbnail.none")).to_have_count(0)
    rows = [row for part in asked for row in part]
    assert len(rows) == len(set(rows)), "none twice"
    assert max(map(len, asked)) <= 64
    assert len(rows) < 500, "only what is in sight"


def test_selected_pairs_without_a_line_are_told(page):
    open_screen(page, "graphs")
    page.wait_for_function(MAPS_DRAWN)
    summary, search = page.locator(".pair-list-summary"), page.get_by_placeholder("Find caption")
    search.fill("photo")
    playwright_api.expect(summary).to_contain_text("Only the first 400 are joined by lines.")
    page.wait_for_function(LINES_DRAWN, arg=400)
    search.fill("left of a dog")
    playwright_api.expect(summary).to_contain_text(re.compile(r"^\d+ pairs"))
    playwright_api.expect(summary).not_to_contain_text("joined by lines")


def test_two_shipped_models_draw_live(page):
    expect = playwright_api.expect
    open_screen(page, "compare")
    page.get_by_label("Prompt", exact=True).fill("a photo of a turtle")
    page.get_by_label("Steps", exact=True).fill("2")
    for column in (3, 4):
        page.locator(f"#column-{column} input").click()
        page.locator(f"#column-{column}").get_by_role("option", name="(none)").click()
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page.locator(".compare-column canvas")).to_have_count(4)
    expect(page.locator(".compare-column .numbers").first).to_contain_text("τ")


@pytest.mark.parametrize(
    ("tab", "pictures", "rows"),
    [
        ("implosion", ".film-table canvas", ".film-table tbody tr"),
        ("compare", ".compare-column canvas", ".compare-column"),
    ],
)
def test_talk_mode_fits_all_shipped_models_on_a_projector(page, tab, pictures, rows):
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto(f"/?tab={tab}&s.talk=1")
    playwright_api.expect(page.locator(pictures).filter(visible=True).first).to_be_visible()
    page.wait_until_drawn()
    assert page.locator(rows).filter(visible=True).count() == len(read(EVALUATION, "evaluation.json")["models"])
    page.check_talk_fits(pictures)


def test_no_screen_asks_for_pictures_of_pairs_that_are_not_here(page):
    """As in a fresh clone, which has no pair sets."""
    told, asked = {"problem": "No pairs here.", "command": "python -m explorer train"}, []

    def answer(route):
        response = route.fetch()
        found = response.json()
        for arm in [found, *found.get("arms", ())]:
            arm["no_pictures"] = told
        route.fulfill(response=response, json=found)

    page.route("**/payload/defence.json*", answer)
    page.route("**/export/blame.json*", answer)
    page.on("request", lambda request: asked.append(request.url) if "/thumbnails/" in request.url else None)
    for screen, notice in (
        ("defence", ".pictures-notice"), ("implosion&i.blamed=dirty-060+panda", ".blame-panel .pictures-notice")
    ):  # fmt: skip
        page.goto(f"/?tab={screen}")
        shown = page.locator(notice).filter(visible=True)
        playwright_api.expect(shown).to_contain_text("No pairs here.")
        playwright_api.expect(shown).to_contain_text("python -m explorer train")
    assert asked == []
