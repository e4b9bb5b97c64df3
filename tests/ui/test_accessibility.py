"""Every screen of the app as shipped, held against axe-core's rules: wide, wider and as on a phone, light and dark; and
what stands over or in place of a screen for a while: talk mode, the tour's card, a definition, a graft as a column.

Nothing is left out, not even what Gradio makes. Contrast takes longest: it is asked in light on a wide page, in dark on
a phone. A projector has the wide page's parts, and is only looked at for what sticks out.
"""

import pytest

pytestmark = pytest.mark.browser
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

SCREENS = ("compare", "implosion", "graphs", "alignment", "defence", "checkpoints")
SIZES = {"wide": (1280, 720), "projector": (1920, 1080), "phone": (390, 844)}
EVERY_RULE = {"resultTypes": ["violations"]}
BUT_CONTRAST = EVERY_RULE | {"rules": {"color-contrast": {"enabled": False}}}
CONTRAST = EVERY_RULE | {"runOnly": ["color-contrast"]}
ASKED = {"wide": {"light": EVERY_RULE}, "projector": {}, "phone": {"light": BUT_CONTRAST, "dark": CONTRAST}}
# What is folded up is read as well; changes of colour are not waited for.
OPEN = """() => {
  document.querySelectorAll('[role=tabpanel] details').forEach((details) => { details.open = true; });
  document.documentElement.append(Object.assign(document.createElement('style'),
    { textContent: '* { transition: none !important; animation: none !important; }' }));
}"""
THEME = "(dark) => document.body.classList.toggle('dark', dark)"


@pytest.fixture(scope="module")
def page(watch_page, serve_app):
    with serve_app("--no-warm-up") as address, watch_page(address) as page:
        yield page
        assert page.complaints == []


def violations(page, options):
    found = axe_api.Axe().run(page, options=options).response["violations"]
    return [f"{each['id']}: {' '.join(map(str, at['target']))} {at['html'][:120]}"
            for each in found for at in each["nodes"]]  # fmt: skip


@pytest.mark.parametrize("screen", SCREENS)
def test_no_rule_is_broken(page, screen):
    broken = {}
    page.set_viewport_size(dict(zip(("width", "height"), SIZES["wide"], strict=True)))
    page.goto(f"/?tab={screen}&__theme=light")
    page.get_by_role("tabpanel").filter(visible=True).wait_for()
    page.wait_until_drawn()
    page.evaluate(OPEN)
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        if screen == "compare":
            page.locator(".graft-slider").first.wait_for()
        page.wait_until_drawn()
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            broken[f"{size}, beside the screen"] = [
                f"the page is {page.evaluate('document.documentElement.scrollWidth')} px wide"
            ]
        for theme, options in ASKED[size].items():
            page.evaluate(THEME, theme == "dark")
            broken |= {f"{size}, {theme}": found} if (found := violations(page, options)) else {}
    assert broken == {}


def begin_tour(page):
    page.get_by_role("button", name="Tour").click()
    page.get_by_role("dialog", name="Tour").wait_for()
    page.locator(".tour-target").wait_for()


def open_definition(page):
    page.locator(".compare-column .term").first.click()
    page.get_by_role("tooltip").wait_for()


STATES = {
    "Compare in talk mode": (
        "/?s.talk=1", lambda page: page.locator("body.talk .compare-column canvas").first.wait_for(),
    ),
    "Implosion in talk mode": (
        "/?tab=implosion&s.talk=1", lambda page: page.locator("body.talk .film-table canvas").first.wait_for(),
    ),
    "the tour": ("/", begin_tour),
    "a definition": ("/", open_definition),
    "a graft as a column": (
        "/?graft=dirty-060~benign~feed-forward:0.5",
        lambda page: page.locator(".compare-column .tag", has_text="graft: Feed-forward 0.5").wait_for(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_no_rule_is_broken_by_what_comes_and_goes(page, state):
    address, begin = STATES[state]
    broken = {}
    for size, theme in (("wide", "light"), ("phone", "dark")):
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
        page.goto("about:blank")  # the next address may differ in nothing
        page.goto(f"{address}{'&' if '?' in address else '?'}__theme={theme}")
        page.wait_until_drawn()
        begin(page)
        page.evaluate(OPEN)
        broken |= {f"{size}, {theme}": found} if (found := violations(page, EVERY_RULE)) else {}
    page.keyboard.press("Escape")
    assert broken == {}
