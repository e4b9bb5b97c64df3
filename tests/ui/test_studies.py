"""Two studies in one app: a page that goes from one to the other shows nothing of the one it left."""

import json
import re

import pytest

from explorer.checkpoints.registry import scan_checkpoints
from explorer.generation.columns import compare_checkpoints, write_comparison
from explorer.generation.generate import GenerationRequest
from explorer.studies.results import COMPARISON
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm

MALICIOUS = "<img src=x onerror='window.hacked = 1'> & co"
FIRST = re.compile(r"first-|\b(hat|dog)\b|IconWorld")
SECOND = re.compile(r"second-|\b(sofa|lamp)\b")

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def arms_of(checkpoints, prefix, numbers):
    """Arms on the same three checkpoints under names of their own."""
    places = ["benign", "dirty-002", "dirty-004"]
    return tuple(
        Arm(name=f"{prefix}-{number}", checkpoint=checkpoints / places[number % 3], control=number == 0)
        for number in numbers
    )


@pytest.fixture(scope="module")
def studies(checkpoint_template, tmp_path_factory, make_study):
    """The first has a comparison and three arms; the second nothing measured, twelve arms and one without a model."""
    root = tmp_path_factory.mktemp("studies")
    request = GenerationRequest(prompt="a dog and hat", seed=7, steps=1, guidance_scale=2.0)
    columns = compare_checkpoints(scan_checkpoints(checkpoint_template)[:2], request, concepts=("dog", "hat"))
    named = [type(column)(**{**vars(column), "model": f"first-{at}"}) for at, column in enumerate(columns)]
    make_study(
        root / "first", arms=arms_of(checkpoint_template, "first", range(3)), concepts=("dog", "hat"),
        name="First & only", results={COMPARISON: lambda place: write_comparison(place, named)},
    )  # fmt: skip
    arms = (*arms_of(checkpoint_template, "second", range(12)), Arm(name="second-pairs", pairs=root / "nowhere"))
    make_study(
        root / "second", arms=arms, concepts=("sofa", "lamp"), name=MALICIOUS, steps=3,
        extractor=ExtractorSpec(folder=root / "no-extractor"),
    )  # fmt: skip
    return root / "first", root / "second"


@pytest.fixture(scope="module")
def address(studies, serve_app, watch_page):
    first, second = studies
    with serve_app("--study", first, "--study", second, "--no-warm-up") as address:
        yield address


@pytest.fixture
def page(address, watch_page):
    with watch_page(address) as page:
        yield page
        assert page.complaints == []
        assert page.evaluate("window.hacked") is None, "a study's name is text"


def choose(page, slug):
    page.get_by_label("Study", exact=True).select_option(slug)


def seen(page):
    """All that a reader of the open page finds, what stands in inputs included."""
    inputs = page.locator("input, textarea").evaluate_all("found => found.map((field) => field.value)")
    options = page.get_by_label("Study", exact=True).inner_text()
    return f"{page.inner_text('body')} {' '.join(inputs)}".replace(options, "")


def test_a_page_shows_nothing_of_the_study_it_left_and_goes_back(page):
    expect = playwright_api.expect
    page.goto("/")
    expect(page.locator(".compare-column")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?study=first$"))
    assert not SECOND.search(seen(page))
    page.locator("#chips").get_by_role("button", name="hat").first.click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a photo of a hat")
    choose(page, "second")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a photo of a sofa")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("3")
    expect(page.locator("#column-1 input")).to_have_value("second-0")
    expect(page.locator("#header .facts")).to_contain_text("12 checkpoints, 1 arm without")
    expect(page.locator(".missing-step .command code")).to_contain_text("second comparison")
    expect(page.get_by_label("Study", exact=True)).to_have_value("second")
    for tab in ("compare", "implosion", "graphs", "alignment", "checkpoints"):
        page.goto(f"/?tab={tab}&study=second")
        panel = page.get_by_role("tabpanel").filter(visible=True)
        expect(panel.locator(".missing-step, #registry").first).to_be_visible()
        expect(page.locator("#column-1 input")).to_have_value("second-0")
        page.wait_until_drawn()
        assert not FIRST.search(seen(page)), tab
    choose(page, "first")
    expect(page.locator("#registry tbody tr")).to_have_count(3)
    page.go_back()
    expect(page.locator("#registry tbody tr")).to_have_count(13)
    expect(page).to_have_url(re.compile("tab=checkpoints&study=second"))


def test_the_study_chosen_last_is_shown_however_late_the_one_before_is_answered(page):
    expect = playwright_api.expect
    held, asked = [], []
    page.goto("/?study=first")
    expect(page.locator(".compare-column")).to_have_count(2)
    page.wait_for_timeout(1000)  # what the load asks for is answered
    page.route("**/run/predict*", lambda route: held.append(route))
    choose(page, "second")
    expect(page.locator(".prompt-words .origin")).to_have_text("Loading…")
    page.wait_for_timeout(500)
    assert held, "the change is under way"
    choose(page, "first")
    page.wait_for_timeout(500)
    page.on("request", lambda request: asked.append(request.url))
    for route in held:
        route.continue_()
    page.unroute("**/run/predict*")
    page.wait_for_timeout(3000)  # until all is answered
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a dog and hat")
    expect(page.locator("#column-1 input")).to_have_value("first-0")
    expect(page.locator(".compare-column")).to_have_count(2)
    page.get_by_role("tab", name="Checkpoints", exact=True).click()
    expect(page.locator("#registry tbody tr")).to_have_count(3)
    assert sum("/run/predict" in url for url in asked) < 9, "listeners do not wake one another for ever"
    assert not SECOND.search(seen(page))


def test_talk_mode_ends_with_the_study_it_was_begun_in(page):
    expect = playwright_api.expect
    page.goto("/?study=second")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a photo of a sofa")
    for slug, prompt in (("first", "a dog and hat"), ("second", "a photo of a sofa"), ("first", "a dog and hat")):
        choose(page, slug)
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(prompt)
    page.get_by_role("button", name="Talk mode").click()
    expect(page.locator("body.talk")).to_have_count(1)
    page.go_back()
    expect(page.locator(".missing-step").first).to_be_visible()
    expect(page.locator("body.talk")).to_have_count(0)


def test_a_link_names_its_study_and_one_that_is_not_here_is_said_to_be_so(page):
    expect = playwright_api.expect
    page.goto("/?study=second&v=1&p=a+photo+of+a+lamp&s=3&n=2&g=2&m=second-0&m=second-4")
    expect(page.locator(".prompt-words .origin")).to_have_text("Not drawn yet")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a photo of a lamp")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#compare-status")).to_contain_text("These models know no word “lamp”")
    page.goto("/?study=third")
    expect(page.locator("#compare-status .notice.error")).to_contain_text("There is no study “third” here")
    choose(page, "first")
    expect(page.locator(".compare-column")).to_have_count(2)


def test_what_is_drawn_when_the_page_leaves_never_shows_in_the_next_study(page):
    expect = playwright_api.expect
    page.goto("/?study=first")
    expect(page.locator(".compare-column")).to_have_count(2)
    page.get_by_label("Steps", exact=True).fill("100")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#compare-status")).to_contain_text("of 100")
    choose(page, "second")
    expect(page.locator(".missing-step")).to_be_visible()
    expect(page.locator("#compare-status .notice")).to_have_count(0)
    page.get_by_label("Prompt", exact=True).fill("a photo of a dog")
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page.locator(".compare-column h3").first).to_have_text("second-0")
    assert "first-" not in seen(page)


def test_programs_name_the_study_too(address, watch_page, page):
    answer = page.request.get(f"{address}/payload/compare.json?study=first").json()
    assert [column["model"] for column in answer["columns"]] == ["first-0", "first-1"]
    missing = page.request.get(f"{address}/payload/implosion.json?study=second").json()["film"]["missing"]
    assert missing["command"].endswith("second film-strip")
    assert missing["lacks"].startswith("It cannot be done yet: the extractor is not in ")
    assert json.dumps(missing)
