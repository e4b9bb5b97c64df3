"""What the screen Defence says of pairs and models, in a real chromium: no more than is known of them."""

import json
from pathlib import Path

import pytest

from explorer.defence.recipe import read_recipe
from tests.ui.defence.test_browser_defence import HIGHEST, LOWEST, open_defence

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ALONG_THE_SCORE = """() => [...document.querySelectorAll('.strip-pair')].map((pair) => [
  Number(pair.title.match(/^=(\\d+)/)[1]), pair.classList.contains('goes'), pair.title.match(/ \\((\\w+)\\)$/)[1],
  pair.getAttribute('aria-label').match(/; (\\w+); place/)[1]])"""


def test_the_pairs_along_the_score_go_or_stay_as_the_filter_says(page, pairs):
    parts = [{**LOWEST, "cut": {"rank": 4}}, {**HIGHEST, "cut": {"budget": 0.2}}]
    quota = {**LOWEST, "cut": {"rank": 20}, "quota": 0.25}
    for recipe, key in ({"any": parts}, None), (quota, None), ({**LOWEST, "cut": {"rank": 4}}, "End"):
        open_defence(page, filter=recipe, truth="hidden")
        if key:
            page.get_by_role("slider", name="How many pairs go").press(key)
            recipe = recipe | {"cut": {"rank": 39}}
        removed = pairs.removal(read_recipe(recipe)).removed
        shown = page.evaluate(ALONG_THE_SCORE)
        assert len(shown) == 17
        for row, goes, *words in shown:
            assert (goes, words) == (removed[row], ["goes" if removed[row] else "stays"] * 2), (recipe, row)


SENTENCES = """async (unrecorded) => {
  const { DefenceNumbers } = await import('/explorer-static/defence_numbers.js');
  const cells = { caught: 0, missed: 0, lost: 10, spared: 90 };
  const screen = { result: { removed: 10, grade: { benign_lost: 0.1 }, cells },
    set: { count: 100 + unrecorded, header: { set: { unrecorded } } } };
  return new DefenceNumbers({ ...screen, state: {} }).words();
}"""
RETRAINED = """async () => {
  const { DefenceRetrained } = await import('/explorer-static/defence_retrained.js');
  const share = { mean: 0.5, low: 0.4, high: 0.6 };
  const described = { metrics: { top1: { all: share, unpoisoned: null, poisoned: null } }, strip_row: 0 };
  const against = { top1: { all: { mean: 0.2, low: null }, unpoisoned: null } };
  const model = { ...described, removed: 5, recipe: { random: 5 }, against_unfiltered: against };
  const shown = new DefenceRetrained({ set: { arm: { name: 'dirty' } }, state: { active: {} }, result: { removed: 5 },
    retrained: { arms: { dirty: { models: [model], unfiltered: described } }, concepts: [], control: null } });
  shown.show();
  const accuracies = [...shown.strip.querySelectorAll('tbody th .note')].map((each) => each.textContent);
  return [shown.words.textContent, ...accuracies];
}"""


def test_what_nobody_recorded_is_not_called_benign_and_all_nouns_are_not_called_untargeted(loaded_page):
    benign, partly = (loaded_page.evaluate(SENTENCES, unrecorded) for unrecorded in (0, 4900))
    dropped = "This drops 10.0 % of the benign pairs."
    assert benign == f"No pair here is poison: whatever goes is lost. {dropped}"
    assert partly == f"No pair here is recorded as poison; of 4,900 nobody recorded it. {dropped}"
    words, *accuracies = loaded_page.evaluate(RETRAINED)
    assert words.endswith(" Of all nouns it draws 20 points more than after dropping nothing.")
    assert accuracies == ["drawn right: all nouns 50 % (40 % to 60 %)"] * 2


def test_what_is_drawn_by_mended_models_is_saved_with_how_it_was_drawn(page):
    open_defence(page)
    with page.expect_download() as saved:
        page.locator(".defence-recovery").get_by_role("button", name="Save table").click()
    told = json.loads(Path(saved.value.path()).read_text())
    models = ["dirty", "recovery-4", "benign control"]
    how = {"prompt": "a photo of {phrase}", "seeds": [0], "steps": 2, "guidance_scale": 2.0}
    assert told["drawn"] == {**how, "models": models}
