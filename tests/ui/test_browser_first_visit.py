"""What helps who sees the app for the first time, in a real chromium: definitions that open by touch."""

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
