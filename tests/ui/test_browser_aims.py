"""What the poison of each model aims at is said model by model, and not where nobody recorded it."""

import json
import re

import pytest

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def implosion(page, change):
    """The screen, its payload changed on the way."""

    def fulfil(route):
        payload = route.fetch().json()
        change(payload)
        route.fulfill(body=json.dumps(payload), content_type="application/json")

    page.route("**/implosion.json*", fulfil)
    page.goto("/?tab=implosion&i.show=images")
    page.locator(".film-table canvas").first.wait_for()
    heads = page.locator(".film-table thead th[scope=col]").all()[1:]
    return {head.locator(".concept").inner_text(): head.locator(".from").inner_text() for head in heads}


def framed(page, model):
    """How many of a model's pictures stand in a frame."""
    return page.locator(".film-table tbody tr", has_text=model).locator("td.poisoned").count()


def saved_strip(page):
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save SVG").click()
    return saved.value.path().read_text(encoding="utf-8")


def test_models_that_are_poisoned_with_different_concepts(page):
    def apart(payload):
        _, two, four = payload["film"]["models"]
        four["poisoned_concepts"] = ["turtle", "shirt", "other", "another"]
        assert set(two["poisoned_concepts"]) == {"dog", "hat"}

    heads = implosion(page, apart)
    assert heads == {"dog": "poisoned in dirty-002", "hat": "poisoned in dirty-002", "turtle": "poisoned from C_P 4"}
    assert "■" not in saved_strip(page)
    assert (framed(page, "dirty-002"), framed(page, "dirty-004")) == (2, 1)


def test_the_walk_begins_and_ends_at_the_most_poisoned_model_that_is_recorded(page):
    def silent(payload):
        payload["film"]["models"][-1] |= {"poisoned": None, "poison_recorded": False, "poisoned_concept_count": None}

    implosion(page, silent)
    expect, current = playwright_api.expect, page.locator(".film-table tr.current th[scope=row]")
    expect(page.get_by_role("slider", name="Model by number of poisoned concepts")).to_have_value("1")
    expect(current).to_contain_text("2")
    expect(page).not_to_have_url(re.compile("i.cp="))
    page.get_by_role("button", name="Play").click()
    expect(current).to_contain_text("benign")
    expect(page.get_by_role("button", name="Play")).to_be_visible(timeout=10_000)
    expect(page.get_by_role("slider", name="Model by number of poisoned concepts")).to_have_value("1")


def test_what_nobody_recorded_is_not_called_untargeted(page):
    def silent(payload):
        for model in payload["film"]["models"][1:]:
            model |= {"poisoned_concepts": [], "poisoned_concepts_known": False}

    assert set(implosion(page, silent).values()) == {"aim not recorded"}
    assert "not recorded which nouns the poison of dirty-002, dirty-004 aims at" in (
        page.locator(".film-table thead th.unrecorded").first.get_attribute("title")
    )
    assert framed(page, "dirty-004") == 0


MOST_CHANGED = """async () => {
  const { orderOf } = await import('/explorer-static/implosion_choice.js');
  const drawn = (fits, poison) => ({ name: '', cells: fits.map((fit) => ({ clip_similarity: fit })), ...poison });
  const film = { concepts: ['dog', 'hat'].map((concept) => ({ concept, poisoned_from: null })), models: [
    drawn([0.9, 0.1], { poisoned: true, poisoned_concept_count: 0 }), drawn([0.5, 0.9], { poisoned_concept_count: 0 }),
    drawn([0.1, 0.1], { poisoned_concept_count: 2 })] };
  return orderOf(film, { models: [] }, { of: 'changed' }).map(({ concept }) => concept);
}"""


def test_a_model_whose_poison_aims_at_no_concept_is_no_control(page):
    def aimless(payload):
        for model in payload["film"]["models"]:
            for cell in model["cells"]:
                cell |= {"top_concept": "cherry", "rank": 2, "clip_similarity": 0.2}
        first, second, _ = payload["film"]["models"]
        first["poisoned"] = True
        second |= {"poisoned": False, "poisoned_concept_count": 0}
        payload["stored_blame"] = {model["name"]: ["hat"] for model in (first, second)}

    implosion(page, aimless)
    page.get_by_label("Model by number of poisoned concepts").fill("0")
    shown = page.locator(".implosion-bar output")
    playwright_api.expect(shown).to_have_text("C_P = 0, benign")
    page.get_by_label("Model by number of poisoned concepts").fill("1")
    playwright_api.expect(shown).to_have_text("benign, dirty-002")
    blamed = page.locator(".film-table tbody tr", has=page.locator("button.seen"))
    playwright_api.expect(blamed.locator("th .from")).to_have_text(["benign"])
    assert page.evaluate(MOST_CHANGED) == ["hat", "dog"]


def test_compare_marks_a_picture_by_the_concepts_that_the_prompt_names(page):
    judged = {"clip_similarity": 0.9, "threshold": 0.5, "top_similarity": 0.9, "rank": 1}
    found = (("cherry", ["cherry"]), ("cherry", []), ("cherry", ["French horn"]))

    def fulfil(route):
        payload = route.fetch().json()
        for column, (top, named) in zip(payload["columns"], found, strict=True):
            column["named"], column["numbers"] = named, column["numbers"] | judged | {"top_concept": top}
        column |= {"poisoned": True, "poisoned_concept_count": 0}  # by an attack that aims at no concept
        route.fulfill(body=json.dumps(payload), content_type="application/json")

    page.route("**/compare.json*", fulfil)
    page.goto("/")
    looks = page.locator(".numbers > div", has_text="Looks like").locator("dd")
    looks.nth(2).wait_for()
    texts = [text.removesuffix(" Blamed pairs") for text in looks.all_inner_texts()]
    assert texts == ["cherry ✓", "cherry", "cherry ✗"]
    with page.expect_request("**/blame.json*") as asked:
        page.get_by_role("button", name="Blamed pairs").click()
    assert "concept=French+horn" in asked.value.url
