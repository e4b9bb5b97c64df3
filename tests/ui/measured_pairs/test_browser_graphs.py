"""The screen Graphs in a real chromium, in the whole app, on small artefacts."""

import json
import re

import numpy as np
import pytest
from pyarrow import parquet

from explorer.generation.files import read_settings
from explorer.studies.results import GRAPHS, step_folder
from tests.ui.measured_pairs.made_up_pairs import MALICIOUS, NEIGHBOURS, PAIRS
from tests.ui.test_browser_saved import DRAWN_TEXTS

pytestmark = pytest.mark.browser


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def open_graphs(page):
    open_tab(page, "Graphs")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.graph-frame')].filter((frame) => frame.dataset.drawn).length === 2"
    )


def place_of(page, drawn, side, row):
    """Pixels of a pair on a map that shows everything."""
    box = page.locator(f".graph-frame[data-side='{side}']").bounding_box()
    scale = (min(box["width"], box["height"]) - 2) / 2 / 1.06
    x, y = getattr(drawn[1], side).layout[row].tolist()
    return box["x"] + box["width"] / 2 + x * scale, box["y"] + box["height"] / 2 - y * scale


def first_movers(drawn, count=3):
    """Rows of the largest structure distances of the pairs drawn."""
    return np.argsort(-drawn[2]["structure_distance"][:PAIRS], kind="stable")[:count].tolist()


def test_clicking_a_node_inspects_the_pair_on_both_sides(page, drawn):
    open_graphs(page)
    page.mouse.click(*place_of(page, drawn, "image", 0))
    inspector = page.locator(".graph-inspector")
    inspector.get_by_text("poisoned: turtle → hat").wait_for()
    assert MALICIOUS in inspector.inner_text(), "the caption is text"
    assert page.evaluate("window.hacked") is None
    assert inspector.locator(".neighbour").count() == 2 * NEIGHBOURS
    shared = set(drawn[1].text.neighbours[0].tolist()) & set(drawn[1].image.neighbours[0].tolist())
    assert inspector.locator(".neighbour.agreed").count() == 2 * len(shared)
    page.locator(".graph-lines path.inspected").wait_for(state="attached")
    assert page.locator(".pair-row[aria-selected='true']").get_attribute("data-row") == "0", "and in the table"


def test_keyboard_reaches_a_pair_and_filters_select_everywhere(page, drawn):
    from playwright.sync_api import expect

    open_graphs(page)
    page.locator(".graph-frame[data-side='text']").focus()
    page.keyboard.press("ArrowRight")
    page.locator(".graph-inspector").get_by_text(f"pair-{first_movers(drawn)[0]}", exact=True).wait_for()
    summary, rows = page.locator(".pair-list-summary"), page.locator(".pair-table")
    page.get_by_role("searchbox").fill("turtle")
    expect(summary).to_contain_text("8 pairs: 8 poisoned, 0 benign")
    expect(rows).to_have_attribute("aria-rowcount", "9")
    searched = "Only the 24 pairs drawn are searched, the other 176 of the set are not."
    page.get_by_role("searchbox").fill("pair-150")
    expect(summary).to_have_text(f"No pair that is drawn passes these filters. {searched}")
    page.locator(".graph-frame[data-side='text']").press("Escape")
    page.get_by_role("searchbox").fill("unicorn")
    expect(summary).to_contain_text("No pair that is drawn passes these filters.")
    page.locator(".graph-frame[data-side='text']").press("ArrowRight")
    assert "g.pair" not in page.url
    page.get_by_label("Find caption, concept or uid").fill("")
    page.get_by_label("Poison", exact=True).select_option("benign")
    expect(summary).to_contain_text("15 pairs: 0 poisoned, 15 benign")
    page.get_by_label("Score", exact=True).select_option("loss")
    page.get_by_label("Score, from").fill("1.95")
    expect(summary).to_contain_text("3 pairs: 0 poisoned, 3 benign")
    page.get_by_role("button", name="Undo").click()
    expect(summary).to_contain_text("15 pairs: 0 poisoned, 15 benign")
    page.locator(".graph-frame[data-side='text']").press("Escape")
    expect(summary).to_contain_text("Every pair drawn, 24 of 200, biggest movers first")
    expect(summary).to_contain_text("The 24 biggest movers of the whole set are among them.")
    expect(rows).to_have_attribute("aria-rowcount", str(PAIRS + 1))


def test_a_lasso_selects_and_the_link_opens_it_again(page, drawn):
    from playwright.sync_api import expect

    open_graphs(page)
    page.get_by_role("button", name="Box", exact=True).click()
    box = page.locator(".graph-frame[data-side='text']").bounding_box()
    page.mouse.move(box["x"] + 12, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 12, steps=4)
    page.mouse.up()
    left = int((drawn[1].text.layout[:, 0] < 0).sum())
    expect(page.locator(".pair-list-summary")).to_contain_text(f"{left} pairs")
    page.wait_for_function("() => location.search.includes('g.rows=')")
    page.goto(page.url)
    expect(page.locator(".pair-list-summary")).to_contain_text(f"{left} pairs")
    page.once("dialog", lambda dialog: dialog.accept("left half"))
    page.get_by_role("button", name="Name…").click()
    page.get_by_role("button", name="Clear selection").click()
    page.get_by_role("button", name="left half", exact=True).click()
    expect(page.locator(".pair-list-summary")).to_contain_text(f"{left} pairs")
    for form in ("parquet", "csv"):
        with page.expect_download() as download:
            page.get_by_label("Save as").select_option(form)
        assert download.value.suggested_filename == f"selected-pairs.{form}"
        if form == "parquet":
            assert parquet.read_table(download.value.path()).num_rows == left
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == left + 1
    page.goto(re.sub(r"(g\.rows=[^.&]+)\.[^&]+", r"\1.g", page.url))  # as it is written where none is left
    expect(page.locator(".pair-list-summary")).to_have_text("No pair that is drawn passes these filters.")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.goto(page.url.replace("g.rows=", "g.pair=pair-150&g.rows=0"))
    page.get_by_role("alert").get_by_text("a selection of other pairs").wait_for()
    page.get_by_role("alert").get_by_text("“pair-150”, which is not drawn: only the 24 pairs drawn").wait_for()


def test_what_is_saved_of_graphs_names_study_and_legend(page):
    open_graphs(page)
    page.evaluate(DRAWN_TEXTS)
    shapes = "◆ poisoned  ● benign  ■ poison not recorded"
    legends = {
        "kind": ["◆ poisoned (8)", "● benign (15)", "■ poison not recorded (1)"],
        "concept": ["hat (16)", "turtle (8)", "by the caption’s main concept", shapes],
        "loss": ["Loss: 0.00", "2.30", shapes],
    }
    for colouring, legend in legends.items():
        page.locator("#graph-colouring").select_option(colouring)
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save map").first.click()
        told = read_settings(saved.value.path())
        assert (told["study"], told["colouring"], told["legend"]) == ("measured", colouring, legend)
        title = "Text graph: near captions; dirty, measured"
        assert [text for text in page.evaluate("window.drawnTexts") if text in (title, *legend)] == [title, *legend]
        page.evaluate("window.drawnTexts = []")
    page.get_by_role("searchbox").fill("turtle")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save map").first.click()
    assert read_settings(saved.value.path())["legend"][-1] == "grey: not selected"
    with page.expect_download() as saved:
        page.get_by_label("Save as").select_option("json")
    assert json.loads(saved.value.path().read_text())["study"] == "measured"


def test_a_set_that_comes_after_a_later_choice_is_not_shown(page, app):
    from playwright.sync_api import expect

    def two_sets(route):
        answer = route.fetch()
        (drawn,) = answer.json()["sets"]
        large = {**drawn, "name": "large", "columns_url": f"{drawn['columns_url']}&large"}
        route.fulfill(response=answer, json={"sets": [large, drawn]})

    late = []
    page.route("**/payload/graphs.json*", two_sets)
    page.route("**/columns.bin*large", lambda route: late.append(route))
    open_graphs(page)
    with page.expect_request("**/columns.bin*large"):
        page.get_by_label("Set of pairs").select_option("large")
    page.get_by_label("Set of pairs").select_option("dirty")
    page.wait_for_function("() => performance.getEntriesByName('graphs-there').length === 2")
    with page.expect_response("**/columns.bin*large"):
        late[0].continue_()
    page.wait_for_timeout(400)
    expect(page.get_by_label("Set of pairs")).to_have_value("dirty")
    assert "g.set=dirty" in page.url


def test_the_table_begins_with_the_biggest_movers_and_is_walked_by_keys(page, drawn):
    from playwright.sync_api import expect

    open_graphs(page)
    movers = first_movers(drawn)
    listed = page.locator(".pair-rows .pair-row")
    assert [int(row.get_attribute("data-row")) for row in listed.all()[:3]] == movers
    listed.nth(0).click()
    page.locator(".pair-table").press("ArrowDown")
    page.locator(".graph-inspector").get_by_text(f"pair-{movers[1]}", exact=True).wait_for()
    page.get_by_role("columnheader", name="uid").get_by_role("button").click()
    expect(listed.nth(0)).to_have_attribute("data-row", "0")
    expect(page.get_by_role("columnheader", name="uid")).to_have_attribute("aria-sort", "ascending")
    assert (
        "trustworthiness and neighbour preservation: text graph 0.910 and 0.420"
        in page.locator(".graphs-intro").inner_text()
    )


def test_a_pair_of_which_nobody_recorded_it_is_not_called_benign_and_ties_are_told(page):
    from playwright.sync_api import expect

    open_tab(page, "Graphs")
    legend = page.locator(".graph-legend")
    legend.get_by_text("■ poison not recorded (1)").wait_for()
    expect(legend).to_contain_text("● benign (15)")
    page.locator(".graph-search").fill(f"pair-{PAIRS - 1}")
    page.locator(".pair-rows .pair-row").first.click()
    expect(page.locator(".graph-inspector .kind-badge")).to_have_text("■ poison not recorded")
    page.locator(".graph-search").fill("turtle")
    page.locator(".pair-rows .pair-row").first.click()
    expect(page.locator(".inspector-scores")).to_contain_text("1–8 (tied)")


def test_inspection_endpoint_answers_a_program(app):
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(app[0], verbose=False)
    found = client.predict("pair-0", api_name="/inspect_pair")
    assert found["caption"] == MALICIOUS
    assert len(found["neighbours"]["text"]) == NEIGHBOURS


def test_a_changed_artefact_shows_a_message_and_can_be_tried_again(app, page):
    path = step_folder(app[1], GRAPHS) / "dirty" / "columns.bin"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + b"x")
        open_tab(page, "Graphs")
        page.get_by_role("alert").get_by_text("columns.bin was changed").wait_for()
    finally:
        path.write_bytes(content)
    page.get_by_role("button", name="Try again").click()
    page.locator(".pair-rows .pair-row").first.wait_for()
    assert page.get_by_role("alert").get_by_text("columns.bin was changed").count() == 0
