"""Filters on the screen Defence in a real chromium: of filters, of lists of pairs, from Graphs, named and compared."""

import re

import pytest

from explorer.defence.recipe import read_recipe
from tests.ui.defence.conftest import DRAWN
from tests.ui.defence.test_browser_defence import HIGHEST, LOWEST, card, open_defence

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_a_selection_of_graphs_is_a_filter_and_the_cut_is_a_selection_there(page, pairs):
    expect = playwright_api.expect
    page.goto("/?tab=graphs&g.set=dirty&g.text=f")
    page.locator(".pair-list-summary", has_text="pairs:").wait_for()
    named = [uid for uid in pairs.uids if "f" in uid]
    page.get_by_role("button", name="Filter these out").click()
    expect(card(page, "Removed").first).to_contain_text(f"{len(named)}of 40")
    # The notice comes with the answer that these pictures are not here, and pushes the button down.
    page.locator(".pictures-notice p").wait_for()
    page.get_by_role("button", name="Show what goes on Graphs").click()
    summary, left = page.locator(".pair-list-summary"), "more that the filter on Defence removes are not drawn"
    expect(summary).to_contain_text(f"{len(named)} pairs")
    expect(summary).not_to_contain_text(left)
    open_defence(page, arm="dirty", filter={"uids": pairs.uids[DRAWN - 3 :]})
    page.locator(".pictures-notice p").wait_for()
    page.get_by_role("button", name="Show what goes on Graphs").click()
    expect(summary).to_contain_text("3 pairs: ")
    expect(summary).to_contain_text(f"2 {left}")
    page.reload()
    expect(summary).to_contain_text(f"2 {left}")
    page.get_by_role("button", name="Clear selection").click()
    expect(summary).to_contain_text("Every pair drawn, 38 of 40")
    expect(summary).to_contain_text("The biggest movers of the whole set need not be among them.")


KEEP = "(filters) => localStorage.setItem('explorer-filters-scored', JSON.stringify(filters))"


def test_a_score_can_be_chosen_after_a_list_of_pairs(page, pairs):
    expect = playwright_api.expect
    open_defence(page, arm="dirty", filter={"uids": pairs.uids[3:12]})
    expect(page.locator(".score-words")).to_have_text("These 9 pairs were chosen by hand.")
    page.get_by_label("Score", exact=True).select_option("feature_distance")
    expect(page.get_by_role("slider", name="How many pairs go")).to_have_value("9")
    page.get_by_role("radio", name="by share").click()
    removed = pairs.removal(read_recipe({**HIGHEST, "cut": {"rank": 9}})).removed
    expect(card(page, "Poison removed")).to_contain_text(f"{(removed & pairs.flags.poisoned).sum()} of 16")
    page.get_by_role("button", name="Undo").click(click_count=2)
    expect(page.locator(".score-words")).to_have_text("These 9 pairs were chosen by hand.")


def test_a_filter_of_filters_opens_as_the_library_reads_it(page, pairs):
    expect = playwright_api.expect
    inner = {"all": [{**HIGHEST, "cut": {"rank": 20}}, {"uids": pairs.uids[3:30] * 2}]}
    recipe = {"any": [inner, {**LOWEST, "cut": {"rank": 5}}]}
    sizes = [pairs.removal(read_recipe(each)).removed.sum() for each in (recipe, inner)]
    open_defence(page, arm="dirty", filter=recipe)
    expect(card(page, "Removed").first).to_contain_text(f"{sizes[0]}of 40")
    expect(page.locator(".score-words")).to_have_text(f"These {sizes[1]} pairs go by filters put together.")
    page.get_by_label("Score", exact=True).select_option("clip_similarity")
    expect(page.get_by_role("slider", name="How many pairs go")).to_have_value(str(sizes[1]))


def test_a_pair_without_the_score_that_another_filter_removes_does_not_stay(page, pairs):
    expect, words = playwright_api.expect, "1 pairs have no such score and stay."
    lowest = {**LOWEST, "cut": {"rank": 5}}
    for recipe in (lowest, {"any": [lowest, {"uids": pairs.uids[:3]}]}, {"any": [lowest, {"uids": pairs.uids[-1:]}]}):
        removal = pairs.removal(read_recipe(recipe))
        open_defence(page, arm="dirty", filter=recipe)
        expect(card(page, "Removed").first).to_contain_text(f"{removal.removed.sum()}of 40")
        stays = expect(page.get_by_role("region", name="What the filter does"))
        (stays.to_contain_text if removal.unscored.any() else stays.not_to_contain_text)(words)
    assert not removal.unscored.any()


def test_a_list_of_other_pairs_is_refused_wherever_it_comes_from(page, pairs):
    expect = playwright_api.expect
    for uids, words in (["nobody"], "other pairs"), ([pairs.uids[3], "nobody"], "other pairs"), ([], "without pairs"):
        open_defence(page, filter={"uids": uids})
        expect(page.get_by_role("alert")).to_contain_text(f"“a list {words.replace('other', 'of other')}”: not found")
        expect(card(page, "Removed").first).to_contain_text("4of 40")
    page.evaluate(KEEP, {"others": {"uids": ["nobody"]}})
    page.reload()
    refused = page.locator(".names [role=alert]", has_text="a list of other pairs")
    page.get_by_role("button", name="others", exact=True).click()
    expect(refused).to_have_count(1)
    page.get_by_label("Compare with").select_option("named others")
    expect(refused).to_have_count(2)
    page.wait_for_timeout(400)  # until the pictures and lists that follow a change would have been drawn
    expect(refused).to_have_count(2)
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()


def test_a_pair_is_shown_large_and_filters_are_named_and_compared(page):
    expect = playwright_api.expect
    open_defence(page, pair=f"{3:032x}")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("=3+1, <b>a turtle")
    expect(dialog.locator(".neighbour")).to_have_count(4)
    expect(dialog.get_by_role("link", name="Open in Graphs")).to_have_attribute(
        "href", f"?study=scored&tab=graphs&g.set=dirty&g.pair={3:032x}"
    )
    page.keyboard.press("Escape")
    page.once("dialog", lambda dialog: dialog.accept("mine"))
    page.get_by_role("button", name="Keep under a name…").click()
    page.get_by_role("button", name="kept", exact=True).click()
    expect(card(page, "Removed").first).to_contain_text("5of 40")
    page.get_by_label("Compare with").select_option("named mine")
    expect(page.locator(".compared")).to_contain_text("Both remove 4; only this one 1; only B 0")
    page.get_by_role("radio", name="Only this filter removes 1").click()
    expect(page.locator(".pair-card")).to_have_count(1)
    page.goto("/?tab=defence&d.filter={}")
    page.get_by_role("alert").get_by_text("“a filter without a score”: not found here").wait_for()


def test_a_pair_is_open_on_its_own_screen_only(page):
    expect, dialog = playwright_api.expect, page.locator("dialog.defence-pair[open]")
    late = []
    page.route("**/dirty/columns.bin*", lambda route: late.append(route))
    with page.expect_request("**/dirty/columns.bin*"):
        page.goto(f"/?tab=defence&d.pair={3:032x}")
    page.get_by_role("tab", name="Checkpoints").click()
    late[0].continue_()
    expect(page.locator("dialog.defence-pair")).to_have_count(1)  # it is loaded, behind the other screen
    page.wait_for_timeout(100)
    page.get_by_role("tab", name="Defence").click()
    expect(dialog).to_contain_text("=3+1, <b>a turtle")
    page.go_back()
    expect(dialog).to_have_count(0)
    page.get_by_role("tab", name="Graphs").click()
    expect(page).not_to_have_url(re.compile("d.pair"))
