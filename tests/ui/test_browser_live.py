"""Live generation on the screen Compare in a real chromium: drawing, stopping, clicks that overtake one another.

Runs on random models of the shipped ones' shape.
"""

import re
import time

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_live_generation_with_two_models_and_the_sliders(page, world):
    expect = playwright_api.expect
    page.goto("/")
    expect(page.locator(".compare-column canvas").first).to_be_visible()
    page.locator("#prompt :is(input, textarea)").fill(world[2])
    page.locator("#steps input").fill("3")
    for column in (3, 4):
        chooser = page.locator(f"#column-{column} input")
        if chooser.input_value() != "(none)":
            chooser.click()
            page.get_by_role("option", name="(none)").click()
    page.locator("#generate").click()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page.locator(".compare-column:not(.pending)")).to_have_count(2)
    assert "v=1&p=a+photo" in page.url
    expect(page.locator("#model-row")).to_be_hidden()
    page.get_by_role("button", name="Choose models").click()
    expect(page.locator("#model-row")).to_be_visible()
    check_sliders(page)
    check_swap(page)
    page.reload()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page.locator(".compare-column:not(.pending)")).to_have_count(2)
    expect(page.locator("#compare-status .notice")).to_be_hidden()
    assert page.complaints == []


def test_after_a_stop_the_next_click_draws_what_the_page_holds_then(page, address):
    expect = playwright_api.expect
    other = page.context.browser.new_page(base_url=address)
    for tab in (other, page):
        tab.goto("/")
        expect(tab.locator(".compare-column canvas").first).to_be_visible()
    prompt, status = page.locator("#prompt :is(input, textarea)"), page.locator("#compare-status")
    page.locator("#steps input").fill("2")
    prompt.fill("a photo of a dog")
    other.locator("#steps input").fill("100")
    other.locator("#generate").click()
    expect(other.locator("#compare-status")).to_contain_text("of 100")
    page.locator("#generate").click()
    expect(status).to_contain_text("Another tab is generating")
    page.locator("#stop").click()
    expect(status).to_contain_text("Stopped before a column was finished")
    prompt.fill("a photo of a hat")
    page.locator("#generate").click()
    expect(status).to_contain_text("Another tab is generating")
    prompt.fill("a photo of a turtle")
    other.locator("#stop").click()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page).to_have_url(re.compile(r"p=a\+photo\+of\+a\+hat"))
    expect(page.locator(".compare-column.pending")).to_have_count(0)
    page.wait_for_timeout(2000)  # an event is still under way that has nothing left to draw
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    assert page.complaints == []


def test_clicks_in_quick_succession_leave_nothing_waiting(page):
    expect = playwright_api.expect
    page.goto("/")
    expect(page.locator(".compare-column canvas").first).to_be_visible()
    page.locator("#steps input").fill("1")
    for seed in range(40, 46):
        page.locator("#seed input").fill(str(seed))
        deadline = time.monotonic() + 60
        while f"s={seed}" not in page.url:  # a click before the last one's work has ended is answered by a message
            assert time.monotonic() < deadline, "a click was accepted and never drawn"
            page.locator("#generate").click()
            page.wait_for_timeout(50)
        expect(page.locator(".compare-column.pending")).to_have_count(0)  # and at once the next click
    expect(page.locator("#compare-status .notice")).to_have_count(0)
    assert page.complaints == []


def check_sliders(page):
    expect = playwright_api.expect
    picture = "() => document.querySelectorAll('.maps canvas')[0].toDataURL()"
    mean = page.evaluate(picture)
    page.locator("#step-slider").fill("2")
    expect(page.locator("output[for=step-slider]")).to_have_text("2 of 3")
    assert page.evaluate(picture) != mean
    page.locator("#layer-select").select_option("0.1")
    page.locator("#head-select").select_option("1")
    page.get_by_role("radio", name="Per map").click()
    page.get_by_role("radio", name="Difference").click()
    for field in ("t=2", "l=0.1", "h=1", "z=map", "w=difference"):
        expect(page).to_have_url(re.compile(re.escape(field)))


def check_swap(page):
    names = "() => [...document.querySelectorAll('.compare-column')].map((column) => column.dataset.model)"
    before = page.evaluate(names)
    page.locator(".compare-grid").click(position={"x": 2, "y": 2})
    page.keyboard.press("b")
    assert page.evaluate(names) == before[::-1]


SLOW_STREAM = """
const Plain = window.TextDecoderStream;
window.TextDecoderStream = class {
  constructor() {
    const decoder = new Plain();
    const wait = async (chunk, controller) => {
      await new Promise((resolve) => setTimeout(resolve, 400));
      controller.enqueue(chunk);
    };
    Object.assign(this, {
      writable: decoder.writable, readable: decoder.readable.pipeThrough(new TransformStream({ transform: wait })),
    });
  }
};"""


# The bytes themselves come late: the answer to a later call overtakes them.
SLOW_NETWORK = """
const quick = window.fetch;
window.fetch = async (...asked) => {
  const response = await quick(...asked);
  if (!response.url.includes('/queue/data')) return response;
  const wait = async (chunk, controller) => {
    await new Promise((resolve) => setTimeout(resolve, 400));
    controller.enqueue(chunk);
  };
  const late = response.body.pipeThrough(new TransformStream({ transform: wait }));
  return new Response(late, { status: response.status, headers: response.headers });
};"""


@pytest.mark.parametrize("slow", [SLOW_STREAM, SLOW_NETWORK], ids=["read late", "come late"])
def test_a_click_is_answered_even_if_the_last_events_stream_ends_just_then(page, slow):
    """A click begins two events, of which the second is held up here until the first one's stream has ended on the
    server, and Gradio's client reads that end late."""
    held = []

    def hold_up(route):
        if held:
            time.sleep(0.2)
        held.append(route)
        route.continue_()

    page.add_init_script(slow)
    page.route("**/queue/join*", hold_up)
    page.goto("/")
    playwright_api.expect(page.locator(".compare-column canvas").first).to_be_visible()
    page.locator("#prompt :is(input, textarea)").fill("")
    page.locator("#generate").click()
    playwright_api.expect(page.locator("#compare-status .notice.error")).to_contain_text(
        "The prompt is empty", timeout=15_000
    )
    assert len(held) == 2


def test_what_cannot_be_generated_is_explained(page):
    expect = playwright_api.expect
    page.goto("/")
    expect(page.locator("#generate")).to_be_visible()
    for prompt, words in (("a photo of a <b>zebra</b>", "These models know no"), ("", "The prompt is empty")):
        page.locator("#prompt :is(input, textarea)").fill(prompt)
        page.locator("#generate").click()
        expect(page.locator("#compare-status .notice.error")).to_contain_text(words)
        assert page.locator("#compare-status b").count() == 0
    assert page.complaints == []
