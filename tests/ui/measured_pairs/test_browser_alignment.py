"""The screen Alignment difficulty in a real chromium, in the whole app, on small artefacts."""

import json
import re

import numpy as np
import pytest

from explorer.generation.files import read_settings
from tests.ui.measured_pairs.conftest import HOW_DRAWN
from tests.ui.measured_pairs.made_up_pairs import SPACED, describe_set
from tests.ui.measured_pairs.test_browser_graphs import open_tab

pytestmark = pytest.mark.browser


def test_without_a_comparison_resizing_and_the_swap_key_do_nothing(page):
    missing = page.get_by_role("status").get_by_text("this place shows one prompt drawn by several models")
    missing.wait_for()
    page.set_viewport_size({"width": 1000, "height": 700})
    page.keyboard.press("b")
    missing.wait_for()
    assert page.locator(".compare-column").count() == 0


def test_alpha_recomposes_ad_on_the_page(page):
    open_tab(page, "Alignment difficulty")
    card = page.locator(".difficulty-card[data-set='dirty'] .big-number")
    card.wait_for()
    parts = describe_set("dirty", 3, np.arange(200) < 60)["alignment_difficulty"]
    assert card.inner_text().startswith(f"{parts['ad']:.3f}")
    slider = page.get_by_role("slider", name="alpha, the weight of feature AD")
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    expected = 0.5 * parts["feature_ad"] + 0.5 * parts["structure_ad"]
    page.locator(".difficulty-card[data-set='dirty'] .big-number", has_text=f"{expected:.3f}").wait_for()
    assert page.locator(".score-panel .main-svg").count() > 0
    assert "The paper's numbers" in page.locator(".alignment-screen figcaption").nth(1).inner_text()


FIELDS = """() => [...document.querySelectorAll('.calculator .form > .block')].filter((field) => field.offsetParent)
  .map((field) => field.getBoundingClientRect().toJSON())"""


@pytest.mark.parametrize("width", [390, 1280])
def test_the_fields_of_the_calculators_stand_apart(page, width):
    open_tab(page, "Alignment difficulty")
    page.set_viewport_size({"width": width, "height": 844})
    page.get_by_label("m, poisoned pairs").wait_for()
    fields = page.evaluate(FIELDS)
    assert len(fields) > 10
    for at, one in enumerate(fields):
        for other in fields[:at]:
            aside = max(one["left"] - other["right"], other["left"] - one["right"])
            above = max(one["top"] - other["bottom"], other["top"] - one["bottom"])
            assert max(aside, above) >= 8


def test_local_ad_stands_beside_ad_the_share_and_what_models_draw(page):
    open_tab(page, "Alignment difficulty")
    section = page.locator(".local-section")
    section.locator(".js-plotly-plot").nth(2).wait_for()
    lines = section.locator("tbody tr")
    assert lines.filter(has_text=SPACED).inner_text().split("\t")[1] == "0.300"
    assert lines.filter(has_text="theirs").inner_text().count("not ") == 2, (
        "its share is not recorded, nor was it drawn"
    )
    words = section.locator("> .note").nth(1).inner_text()
    shares, top1 = [0, 0.3, 0.3], [0.8, 0.5, 0.3]
    r = np.corrcoef(shares, top1)[0, 1]
    assert "over n = 3 models" in words
    assert f"share of poison {r:.3f}, picture scatter {r:.3f}, local structure AD {r:.3f}" in words
    assert page.locator(".score-panel[data-score='picture_scatter'] .main-svg").count() > 0
    reach = page.evaluate("""() => {
      const [shown] = document.querySelectorAll('.local-section .measure-chart')[2].data.filter((line) => line.error_y);
      return [shown.error_y.arrayminus, shown.error_y.array];
    }""")
    assert np.allclose([bars[:-1] for bars in reach], [[0.1, 0.1], [0.2, 0.2]])
    figure = section.locator("figure").last
    assert figure.locator(".errorbar path").count() == 2, "of the third model there is no interval over nouns"
    figure.hover()
    with page.expect_download() as chart:
        figure.locator(".modebar-btn").first.click()
    with page.expect_download() as table:
        section.get_by_role("button", name="Save table").click()
    how = {**HOW_DRAWN, "models": ["benign", SPACED, "dirty"]}
    told = read_settings(chart.value.path())
    assert told["drawn"] == json.loads(table.value.path().read_text())["drawn"] == how
    assert json.loads(figure.get_attribute("data-models")) == how["models"]
    line = next(trace for trace in told["traces"] if trace["name"] == "picture scatter")
    assert line["text"] == how["models"]
    assert line["error_y"]["array"] == [pytest.approx(0.2), pytest.approx(0.2), None]
    page.get_by_label("C_P, concepts").fill("30")
    page.wait_for_function("() => document.querySelector('#growth-curve [data-origin]')?.dataset.origin.includes('30')")
    page.locator("#growth-curve .measure-chart").hover()
    with page.expect_download() as curve:
        page.locator("#growth-curve .modebar-btn").first.click()
    inputs = {"concepts": 30, "poisons": 40, "samples": 100, "total": 50000, "targets": "distinct", "alpha": 0.8}
    assert read_settings(curve.value.path())["calculator"] == {**inputs, "quantity": "structure"}


def test_where_no_set_has_a_place_on_the_axis_of_poison_the_chart_says_so(app, page):
    page.goto(f"{app[0]}/?tab=alignment&a.sets=apart&a.shown=apart")
    growth = page.locator(".alignment-screen .two-charts .measure-chart").first
    growth.get_by_text("C_P is not recorded of these sets:").wait_for()
    assert growth.locator(".xaxislayer-above text").count() == 0
    forced = page.locator(".offset-table tbody tr")
    cells = forced.filter(has_text="apart").inner_text().split("\t")
    assert (len(cells), cells[3], cells[4]) == (7, "–", "0.0500"), "no share of a structure AD of 0"
    assert re.fullmatch(r"\d+ %", forced.filter(has_text="theirs").inner_text().split("\t")[3])


def test_a_set_without_a_record_of_poison_is_not_called_benign(app, page):
    from playwright.sync_api import expect

    page.goto(f"{app[0]}/?tab=alignment&a.sets=theirs&a.shown=theirs")
    card = page.locator(".difficulty-card[data-set='theirs']")
    card.wait_for()
    expect(card.locator(".tag")).to_have_text("poison not recorded")
    expect(card).not_to_have_class(re.compile("benign"))
    expect(page.locator(".score-panel .auc").first).to_have_text("poison not recorded")
    expect(page.locator(".difficulty-table tbody tr")).to_contain_text("not recorded")
    drawn = page.evaluate("() => document.querySelector('.score-panel .histogram').data.map((trace) => trace.name)")
    assert drawn == ["all pairs", "benign control"]
    growth = page.evaluate("() => document.querySelector('.alignment-screen .two-charts .measure-chart').data[0].text")
    assert growth == ["benign", SPACED, "dirty"], "C_P of the set is not known"


def test_a_control_whose_pairs_are_not_flagged_one_by_one_is_drawn_all_the_same(app, page):
    """As of a user's photographs, of which the study says that they hold no poison."""

    def unflagged(route):
        answer = route.fetch()
        payload = answer.json()
        control = next(each for each in payload["sets"] if each["name"] == "benign")
        control.update(poison_recorded=False, poisoned_pairs=None, benign_pairs=None, unrecorded_pairs=200)
        for stored in control["distributions"].values():
            for each in stored if isinstance(stored, list) else [stored]:
                each["groups"] = {"unrecorded": each["groups"]["benign"]}
        route.fulfill(response=answer, json=payload)

    page.route("**/payload/alignment.json*", unflagged)
    page.goto(f"{app[0]}/?tab=alignment&a.sets=dirty&a.shown=dirty")
    page.locator(".score-panel .histogram .main-svg").first.wait_for()
    drawn = page.evaluate("() => document.querySelector('.score-panel .histogram').data.map((trace) => trace.name)")
    assert drawn[-1] == "benign control"


POINT_COLOURS = """() => {
  const style = getComputedStyle(document.body);
  const colour = (kind) => style.getPropertyValue(`--${kind}`).trim();
  const kindOf = (found) => ['benign', 'poisoned'].find((kind) => colour(kind) === found);
  const charts = ['.two-charts', '.local-section'].map((place) => document.querySelector(`${place} .measure-chart`));
  return charts.map(({ data: [{ text, marker }] }) => text.map((name, at) => [name, kindOf(marker.color[at])]));
}"""


def test_poison_has_its_colour_however_it_is_recorded(app, page):
    def told(route):
        answer = route.fetch()
        payload = answer.json()
        sets = {each["name"]: each for each in payload["sets"]}
        sets["dirty"].update(poison_recorded=False, poisoned_pairs=None, benign_pairs=None, unrecorded_pairs=200)
        sets[SPACED]["poisoned_concept_count"] = 0  # of an attack that aims at no concept
        route.fulfill(response=answer, json=payload)

    page.route("**/payload/alignment.json*", told)
    page.goto(f"{app[0]}/?tab=alignment&a.shown=dirty")
    page.locator(".local-section .js-plotly-plot").first.wait_for()
    kinds = {"benign": "benign", SPACED: "poisoned", "dirty": "poisoned"}
    assert [dict(points) for points in page.evaluate(POINT_COLOURS)] == [kinds, kinds]


def test_a_link_opens_the_screen_with_its_choices(app, page):
    address, _ = app
    page.goto(f"{address}/?tab=graphs&g.colour=loss&g.pair=pair-5")
    page.locator(".graph-inspector").get_by_text("pair-5", exact=True).wait_for()
    assert page.locator("#graph-colouring").input_value() == "loss"
    page.locator("#graph-colouring").select_option("concept")
    page.wait_for_function("() => location.search.includes('g.colour=concept')")
    page.goto(f"{address}/?tab=alignment&a.alpha=0.5&a.sets=dirty&a.shown=nonsense")
    page.locator(".difficulty-card[data-set='dirty']").wait_for()
    assert page.locator(".difficulty-card").count() == 1
    assert page.locator(".alpha-field output").inner_text() == "0.50"
    open_tab(page, "Checkpoints")
    page.wait_for_function("() => location.search.includes('tab=checkpoints')")
    assert "a.alpha=0.5" in page.url


def test_a_link_keeps_the_names_of_sets_whole(app, page):
    page.goto(f"{app[0]}/?tab=alignment")
    page.get_by_role("checkbox", name=f"{SPACED} (C_P = 1)").check()
    page.get_by_role("checkbox", name="benign (C_P = 0)").uncheck()
    shown = [SPACED, "dirty"]
    for again in (False, True):
        if again:
            page.goto(page.url)
        page.locator(f".difficulty-card[data-set='{SPACED}']").wait_for()
        assert [card.get_attribute("data-set") for card in page.locator(".difficulty-card").all()] == shown
        assert page.locator("#distribution-set").input_value() == SPACED
