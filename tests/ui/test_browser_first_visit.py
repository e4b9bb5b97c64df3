"""What helps who sees the app for the first time, in a real chromium: definitions that open by touch, and what the
tour leaves in sight and as it was."""

import re

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PHONE = {"width": 390, "height": 844}
EDGES = """() => {
  const { left, right, top, bottom } = document.querySelector('#term-tip').getBoundingClientRect();
  return left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
}"""


@pytest.fixture
def phone(browser, address):
    """A page of a phone: narrow, and touched instead of pointed at."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, base_url=address)
    with context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield page


def test_a_definition_that_is_opened_by_touch_lies_within_a_phones_page(phone):
    tip = phone.get_by_role("tooltip")
    for screen in ("compare", "implosion"):
        phone.goto(f"/?tab={screen}")
        terms = phone.locator("[data-term]:visible")
        terms.first.wait_for()
        for at in range(min(terms.count(), 4)):
            terms.nth(at).tap()
            playwright_api.expect(tip).to_be_visible()
            assert phone.evaluate(EDGES), (screen, terms.nth(at).inner_text())
            assert phone.evaluate("() => innerWidth") == PHONE["width"]


def test_every_number_of_a_comparison_says_by_touch_what_it_is(phone):
    expect = playwright_api.expect
    phone.goto("/?map=sensitivity")
    tip = phone.get_by_role("tooltip")
    grid = phone.locator(".compare-grid")
    expect(grid.locator("[data-term]").first).to_be_visible()
    names = grid.locator("dt, figcaption .figure").evaluate_all(
        "(each) => each.map((name) => (name.matches('dt') ? name : name.firstChild).textContent)"
    )
    terms = grid.locator("[data-term]")
    opening = terms.all_inner_texts()
    assert {*names, "strength", "over", "Overlap of the words", "C_P"} <= set(opening)
    assert len(opening) == len(set(opening)), "the first of each is enough for a page"
    for at, name in enumerate(opening):
        for _ in range(2):  # away and back; it keeps the focus until the next touch
            phone.get_by_role("button", name="dog", exact=True).tap()
        terms.nth(at).tap()
        expect(tip).to_be_visible()
        assert len(tip.inner_text()) > len(name) + 20, name
        assert phone.evaluate(EDGES), name


def with_an_untargeted_noun(route):
    """The payload as if no poison aimed at the strip's last noun."""
    response = route.fetch()
    payload = response.json()
    concept = payload["film"]["concepts"][-1]
    concept["poisoned_from"] = None
    for model in payload["film"]["models"]:
        model["poisoned_concepts"] = [name for name in model["poisoned_concepts"] if name != concept["concept"]]
    route.fulfill(response=response, json=payload)


def test_the_names_of_a_strip_and_of_the_tables_open_by_touch(phone):
    phone.route("**/implosion.json*", with_an_untargeted_noun)
    phone.goto("/?tab=implosion&i.of=unpoisoned")
    tip = phone.get_by_role("tooltip")
    phone.locator(".film-table thead").get_by_role("button", name="not targeted").tap()
    playwright_api.expect(tip).to_contain_text("no poison pair aims at this noun")
    heads = phone.locator(".implosion-table thead .term")
    assert heads.all_inner_texts() == [
        "C_P", "Feature AD", "Structure AD", "AD", "Accuracy", "Utility", "Word sensitivity", "Geary’s C", "Attention",
    ]  # fmt: skip
    heads.filter(has_text="Utility").tap()
    playwright_api.expect(tip).to_contain_text("fit the prompt better than a threshold")


ABOVE_THE_CARD = """() => {
  const shown = document.querySelector('.tour-target')?.getBoundingClientRect();
  return shown && shown.top >= 0 && shown.bottom <= document.querySelector('.tour-card').getBoundingClientRect().top;
}"""


@pytest.mark.parametrize("size", [{"width": 1280, "height": 720}, PHONE])
def test_the_tours_card_covers_nothing_of_the_strip_and_none_of_its_nouns_is_poisoned(page, size):
    expect = playwright_api.expect
    page.route("**/implosion.json*", with_an_untargeted_noun)
    page.set_viewport_size(size)
    page.goto("/?tab=implosion&i.of=poisoned")
    expect(page.locator(".film-table .from.here")).not_to_have_count(0)
    page.get_by_role("button", name="Tour").click()
    card = page.get_by_role("dialog", name="Tour")
    card.get_by_role("button", name="Next").click()
    expect(page.get_by_label("Concepts shown")).to_have_value("unpoisoned")
    expect(page.locator(".film-table thead .from")).to_have_text(["not targeted"])
    page.wait_for_function(ABOVE_THE_CARD)
    card.get_by_role("button", name="Next").click()
    card.get_by_role("button", name="Done").click()
    expect(page).to_have_url(re.compile("i.of=poisoned"))
    page.go_back()
    expect(page.get_by_label("Concepts shown")).to_have_value("poisoned")
    expect(page.locator(".film-table .from.here")).not_to_have_count(0)
    expect(page.locator("body.touring")).to_have_count(0)
    assert page.complaints == []


def test_a_tour_that_is_begun_again_is_the_only_one(page):
    page.goto("/")
    button, card = page.get_by_role("button", name="Tour"), page.get_by_role("dialog", name="Tour")
    button.click()
    card.get_by_role("button", name="Next").click()
    button.click()
    playwright_api.expect(card).to_have_count(1)
    playwright_api.expect(card).to_contain_text("1 of 3")
    page.keyboard.press("Escape")
    playwright_api.expect(card).to_have_count(0)
    assert page.complaints == []


def test_what_was_chosen_during_the_tour_stays(page):
    expect = playwright_api.expect
    page.goto("/")
    page.get_by_role("button", name="Tour").click()
    card = page.get_by_role("dialog", name="Tour")
    card.get_by_role("button", name="Next").click()
    shown = page.get_by_label("Concepts shown")
    shown.select_option("random")
    card.get_by_role("button", name="End").click()
    expect(shown).to_have_value("random")
    page.get_by_role("button", name="Tour").click()
    card.get_by_role("button", name="Next").click()
    shown.focus()  # which is not the card's
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(shown).to_have_value("random")
    assert page.complaints == []


def test_the_tour_says_where_more_is_than_is_in_sight(page):
    expect = playwright_api.expect
    further = page.get_by_role("dialog", name="Tour").get_by_text("Scroll: there is more of it below.")
    for size, is_said in ((PHONE, True), ({"width": 1920, "height": 1400}, False)):
        page.set_viewport_size(size)
        page.goto("/")
        expect(page.locator(".compare-column canvas").first).to_be_visible()
        page.get_by_role("button", name="Tour").click()
        expect(page.locator(".compare-grid.tour-target")).to_be_visible()
        expect(further).to_be_visible(visible=is_said)
    assert page.complaints == []
