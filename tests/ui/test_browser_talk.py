"""Talk mode of Compare and Implosion in a real chromium: its keys, its address, a new comparison, a phone.

Runs on random models of the shipped ones' shape.
"""

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_talk_mode_walks_by_keys_alone(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?tab=implosion&i.cp=0")
    expect(page.locator(".film-table tr.current th[scope=row]")).to_contain_text("benign")
    page.get_by_role("button", name="Talk mode").click()
    expect(page.locator(".film")).to_be_focused()
    expect(page.get_by_role("tab", name="Compare")).to_be_hidden()
    page.check_talk_fits(".film-table canvas")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".film-table tr.current th[scope=row]")).not_to_contain_text("benign")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    check_menu_in_talk_mode(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("tab", name="Compare")).to_be_visible()
    assert "s.talk" not in page.url
    assert page.complaints == []


def test_talk_mode_is_in_the_address_and_compare_has_it_too(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?s.talk=1")
    expect(page.locator(".compare-column canvas").first).to_be_visible()
    expect(page.locator("#prompt-row")).to_be_hidden()
    unpinned = page.locator(".prompt-words [aria-pressed=false]").filter(visible=True)
    for canvases in (2, 3, 4):  # the picture, and the maps of the prompt's three words
        expect(page.locator(".compare-column").first.locator(".maps canvas")).to_have_count(canvases)
        page.check_talk_fits(".compare-column canvas")
        if canvases < 4:
            unpinned.first.click()
            page.mouse.move(1200, 700)
    expect(unpinned).to_have_count(0)
    page.locator(".prompt-words .origin").click()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".compare-top output")).to_have_text("attention, denoising step: 1 of 2")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".prompt-words [aria-pressed=true]")).to_have_count(1)
    page.keyboard.press("t")
    expect(page.locator("#prompt-row")).to_be_visible()
    page.keyboard.press("f")
    expect(page.locator("#prompt-row")).to_be_hidden()
    assert "s.talk=1" in page.url
    assert page.complaints == []


LOADING = 240_000
"""Milliseconds that the first use of the models may take on a machine that does much else besides."""


def test_a_new_comparison_is_asked_for_and_drawn_in_talk_mode(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/?s.talk=1")
    expect(page.locator(".compare-column canvas").first).to_be_visible()
    row, prompt = page.locator("#prompt-row"), page.get_by_label("Prompt", exact=True)
    for away in ("Escape", "button"):
        page.keyboard.press("p")
        expect(prompt).to_be_focused()
        page.check_talk_fits(".compare-column canvas")
        if away == "Escape":
            page.keyboard.press("Escape")
        else:
            page.get_by_role("button", name="Hide prompt").click()
        expect(row).to_be_hidden()
        expect(page.get_by_role("button", name="End talk mode")).to_be_visible()
    held, let_go = [], []
    page.route("**/live/*.json*", lambda route: route.continue_() if let_go else held.append(route))
    page.get_by_role("button", name="New prompt").click()
    prompt.fill("a photo of a hat")  # an h, a p and a t are letters here
    expect(page.locator("body.talk")).to_be_visible()
    prompt.press("Enter")
    expect(row).to_be_hidden()
    expect(page.locator(".compare-column.pending")).to_have_count(3, timeout=LOADING)
    page.check_talk_fits(".compare-column .empty-picture")
    let_go.append(True)
    for route in held:
        route.continue_()
    expect(page.locator(".compare-column:not(.pending)")).to_have_count(3, timeout=LOADING)
    expect(page.locator(".prompt-words")).to_contain_text("hat")
    page.check_talk_fits(".compare-column canvas")
    page.keyboard.press("Escape")
    expect(row).to_be_visible()
    assert page.complaints == []


def test_on_a_phone_the_controls_of_talk_mode_are_lines_that_scroll_within_themselves(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 390, "height": 844})
    for screen, pictures in (("compare", ".compare-grid"), ("implosion", ".film")):
        page.goto("about:blank")
        page.goto(f"/?tab={screen}&s.talk=1")
        expect(page.locator(f"{pictures} canvas").first).to_be_visible()
        assert page.locator(pictures).bounding_box()["y"] < 100
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        end = page.get_by_role("button", name="End talk mode").bounding_box()
        assert end["x"] + end["width"] <= 390, "in sight without scrolling"
    expect(page.locator(".film-table tbody tr").first).to_be_visible()
    width, room = page.locator(".film").evaluate("(strip) => [strip.scrollWidth, strip.clientWidth]")
    assert width <= room
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
    shown = page.get_by_role("group", name="What is shown")
    shown.get_by_role("button", name="Pictures").focus()
    page.keyboard.press("Space")
    expect(shown.get_by_role("button", pressed=True)).to_have_text(["Attention"])
    expect(row).not_to_contain_text("benign")
    shown.get_by_role("button", name="Pictures").click()
    expect(shown.get_by_role("button", pressed=True)).to_have_text(["Pictures", "Attention"])
    expect(page.locator(".film")).to_be_focused()
