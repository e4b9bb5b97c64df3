"""The three kinds of map in Compare: chosen, told in words, measured on request, linked and saved."""

import re

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser
LOADING = 240_000
"""Milliseconds that the first use of the models may take on a machine that does much else besides."""
KINDS = ("Attention", "Guidance", "Sensitivity")


def choose(page, kind):
    page.get_by_role("radiogroup", name="Kind of map").get_by_role("radio", name=kind).click()


def test_every_kind_says_what_it_is_and_has_its_own_rows_and_numbers(page):
    expect = playwright_api.expect
    page.goto("/")
    figures, note = page.locator(".maps figure"), page.locator(".kind-note")
    expect(figures).to_have_count(6)  # a dog and hat, three models
    sentences = []
    for kind in KINDS:
        choose(page, kind)
        sentences.append(note.locator(".kind-sentence").inner_text())
        assert "imploded model" in sentences[-1]
        expect(page.locator("#layer-select")).to_be_visible(visible=kind == "Attention")
        expect(figures).to_have_count(3 if kind == "Guidance" else 6)
    assert len(set(sentences)) == 3
    expect(figures.first.locator("figcaption")).to_contain_text(re.compile(r"“dog”.*strength .+ ± .+over 2 steps"))
    choose(page, "Guidance")
    expect(figures.first.locator("figcaption")).to_contain_text(re.compile("the whole prompt.*strength 0"))
    page.locator("#step-slider").fill("1")
    page.get_by_role("radio", name="Difference").click()
    assert "map=guidance" in page.url
    assert "no difference to the first column" in figures.first.inner_text()
    assert page.complaints == []


def test_the_maps_drawn_are_those_of_the_files(loaded_page):
    found = loaded_page.evaluate("""async () => {
      const { decodeColumn } = await import('/explorer-static/maps.js');
      const { chosenMap } = await import('/explorer-static/compare_kinds.js');
      const response = await fetch('/payload/compare.json');
      const column = decodeColumn((await response.json()).columns[0]);
      const map = (kind, row, step) => [...chosenMap(column, row, column, { kind, step, stack: 0, layer: 0, head: 0 })];
      const average = (one, other) => one.map((value, at) => (value + other[at]) / 2);
      return {
        guidance: [map('guidance', -1, 0), average(map('guidance', -1, 1), map('guidance', -1, 2))],
        sensitivity: [map('sensitivity', 1, 0), average(map('sensitivity', 1, 1), map('sensitivity', 1, 2))],
        none: chosenMap(column, 0, column, { kind: 'sensitivity', step: 0 }),
      };
    }""")
    for mean, of_steps in (found["guidance"], found["sensitivity"]):
        assert mean == pytest.approx(of_steps, abs=max(of_steps) / 100)
        assert max(mean) > 0
    assert found["none"] is None, "nobody measured the article"


def test_a_word_is_measured_on_request_after_its_cost_is_told(page):
    expect = playwright_api.expect
    page.goto("/?map=sensitivity")
    page.get_by_role("button", name="and", exact=True).click()
    missing = page.locator(".no-map", has_text="Not measured yet")
    expect(missing).to_have_count(3)
    offer = page.locator(".kind-offer")
    cost = r"54 network calls \(8 random words at 2 steps, 3 models\), about \d+ (s|min)"
    expect(offer).to_contain_text(re.compile(cost))
    offer.get_by_role("button", name="Measure “and”").click()
    expect(missing).to_have_count(0, timeout=LOADING)
    expect(offer).to_have_count(0)
    expect(page.locator(".maps figure")).to_have_count(9)
    page.get_by_role("button", name="end token and padding").click()
    expect(page.locator(".no-map").first).to_have_text(re.compile("no word of the prompt"))
    assert page.complaints == []


def test_a_live_comparison_has_every_kind_and_says_why_one_is_missing(page):
    expect = playwright_api.expect
    page.goto("/?v=1&p=a+photo+of+a+hat&s=3&n=2&g=1&m=benign&m=dirty-004&map=guidance")
    expect(page.locator(".compare-column.pending h3")).to_have_count(2)  # a click before that would be lost
    page.locator("#generate").click()
    expect(page.locator(".compare-column:not(.pending)")).to_have_count(2, timeout=LOADING)
    expect(page.locator(".no-map")).to_have_text([re.compile("No guidance map: the guidance scale is 1")] * 2)
    choose(page, "Sensitivity")
    page.get_by_role("button", name="Measure “hat”").click()
    expect(page.locator(".maps figure")).to_have_count(2, timeout=LOADING)
    assert "map=sensitivity" in page.url
    assert page.complaints == []


def test_talk_mode_has_the_scale_and_measures_what_is_missing(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?map=sensitivity&s.talk=1")
    scale, offer = page.locator(".compare-top .legend"), page.locator(".kind-offer")
    expect(scale).to_have_text(re.compile(r"^0\d"))
    expect(page.locator(".kind-note")).to_be_hidden()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".prompt-words [aria-pressed=true]")).to_have_count(1)
    for _ in range(3):
        if offer.count():
            break
        page.keyboard.press("ArrowDown")  # to a word that nobody measured
    expect(offer).to_contain_text(re.compile(r"network calls .*, about \d+ (s|min)"))
    expect(scale).to_be_hidden()
    page.check_talk_fits(".compare-column canvas")
    offer.get_by_role("button").click()
    expect(page.locator(".no-map")).to_have_count(0, timeout=LOADING)
    expect(scale).to_be_visible()
    assert page.complaints == []
