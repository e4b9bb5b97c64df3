"""The screen Defence in a real chromium, in the whole app: what it shows is what the library answers."""

import io
import json
import re

import numpy as np
import pandas
import pytest

from explorer.defence.grading import Confusion, grade_filter
from explorer.defence.recipe import order_of_suspicion, read_recipe

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

LOOKS = """() => {
  const look = (line) => ['stroke', 'stroke-dasharray'].map((name) => line.getAttribute(name)).join();
  const chart = document.querySelector('[aria-label="Alignment difficulty of what remains"]');
  const lines = [...chart.querySelectorAll('path:has(title)')].map((line) => [line.textContent, look(line)]);
  const keys = [...document.querySelectorAll('.bought li:has(.line-key)')];
  return [lines, keys.map((key) => [key.querySelector('span').textContent, look(key.querySelector('line'))])];
}"""
REMOVED = """async ([arm, recipes]) => {
  const from = (name) => import(new URL(`./explorer-static/${name}.js`, document.baseURI));
  const [{ loadArm }, { removedBy }] = await Promise.all(['defence_data', 'defence_maths'].map(from));
  const { arms } = await (await fetch('./payload/defence.json')).json();
  const set = await loadArm(arms.find(({ name }) => name === arm));
  return recipes.map((recipe) => [...removedBy(set.adopted(recipe), set)]);
}"""
ORDERS = """async (values) => {
  const { suspicionOrder } = await import(new URL('./explorer-static/defence_maths.js', document.baseURI));
  const scores = Float32Array.from(values, (value) => value ?? NaN);
  return ['lowest', 'highest'].map((remove) => [...suspicionOrder(scores, remove)]);
}"""
OBSERVING = """
  window.observing = new Set(); // what listens to changes of the page's theme
  const { observe, disconnect } = MutationObserver.prototype;
  MutationObserver.prototype.observe = function (target, ...rest) {
    if (target === document.body) window.observing.add(this);
    observe.call(this, target, ...rest);
  };
  MutationObserver.prototype.disconnect = function () {
    window.observing.delete(this);
    disconnect.call(this);
  };
"""
RANGES = """async (cells) => {
  const { gradeIntervals } = await import(new URL('./explorer-static/defence_intervals.js', document.baseURI));
  return gradeIntervals(cells);
}"""
LOWEST = {"score": "clip_similarity", "remove": "lowest"}
HIGHEST = {"score": "feature_distance", "remove": "highest"}


def open_defence(page, **choices):
    query = "".join(
        f"&d.{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in choices.items()
    )
    page.goto(f"/?tab=defence{query}")
    page.locator(".defence-card").first.wait_for()


def card(page, title):
    return page.locator(".defence-card", has_text=title)


def test_the_browser_removes_what_the_library_removes(page, pairs):
    open_defence(page)
    recipes = [
        *({**LOWEST, "cut": {"rank": rank}} for rank in (0, 9, 39, 99)),
        *({**LOWEST, "cut": {"threshold": at}} for at in (0.1, 0.3, -9, 9)),
        *({**HIGHEST, "cut": {"budget": share}, "quota": quota} for share in (0.3, 0.29, 1) for quota in (0.5, 0)),
        {"score": "clip_similarity", "remove": "highest", "cut": {"rank": 11}},
        {
            "any": [
                {**LOWEST, "cut": {"rank": 5}},
                {"all": [{**HIGHEST, "cut": {"rank": 20}}, {"uids": pairs.uids[3:30]}]},
            ]
        },
    ]
    found = page.evaluate(REMOVED, ["dirty", recipes])
    for recipe, removed in zip(recipes, found, strict=True):
        assert removed == pairs.removal(read_recipe(recipe)).removed.astype(int).tolist(), recipe


def test_the_browser_orders_scores_as_the_library_does(page):
    random = np.random.default_rng(0)
    scores = (random.normal(size=5000) * 10.0 ** random.integers(-38, 38, 5000)).astype(np.float32)
    scores[random.random(5000) < 0.3] = np.round(random.normal())
    for special, value in enumerate((0.0, -0.0, np.nan)):
        scores[random.integers(0, 5000, 100 + special)] = value
    open_defence(page)
    found = page.evaluate(ORDERS, [None if np.isnan(score) else float(score) for score in scores])
    for remove, rows in zip(("lowest", "highest"), found, strict=True):
        assert rows == order_of_suspicion(scores, remove).tolist()


@pytest.mark.parametrize("counts", [(700, 60, 300, 4000), (900, 0, 5100, 3000), (1000, 0, 0, 3000), (0, 0, 5, 7)])
def test_intervals_are_those_of_the_library(page, counts):
    open_defence(page)
    names = ("poison_removed", "benign_removed", "poison_kept", "benign_kept")
    found = page.evaluate(RANGES, dict(zip(("caught", "lost", "missed", "spared"), counts, strict=True)))
    for name, expected in grade_filter(Confusion(**dict(zip(names, counts, strict=True)))).items():
        if expected is None:
            assert found[name] is None
        else:
            assert found[name] == pytest.approx({bound: expected[bound] for bound in ("low", "high")})


def test_the_slider_is_moved_by_keys_and_by_the_line_and_every_gallery_opens(page, pairs):
    expect = playwright_api.expect
    open_defence(page)
    slider = page.get_by_role("slider", name="How many pairs go")
    slider.focus()
    page.keyboard.press("Home")
    expect(card(page, "Removed").first).to_contain_text("of 40; 40 stay")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    removed = pairs.removal(read_recipe({**LOWEST, "cut": {"rank": 9}})).removed
    poison = pairs.flags.poisoned
    sizes = {"Poison caught": removed & poison, "Poison missed": ~removed & poison, "Benign lost": removed & ~poison,
             "Benign kept": ~removed & ~poison}  # fmt: skip
    expect(card(page, "Poison removed")).to_contain_text(f"{sizes['Poison caught'].sum()} of 16")
    for name, rows in sizes.items():
        page.get_by_role("radio", name=f"{name} {rows.sum()}").click()
        expect(page.locator(".pair-card")).to_have_count(min(24, int(rows.sum())))
        shown = [int(shown.get_attribute("data-row")) for shown in page.locator(".pair-card").all()]
        assert set(shown) <= set(np.flatnonzero(rows).tolist())
    expect(page.locator(".defence-sentence")).to_contain_text("Dropping 50 % of the poison costs")
    chart = page.locator(".defence-chart.draggable")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 60, steps=3)
    page.mouse.up()
    expect(card(page, "Poison removed")).to_contain_text("16 of 16")
    page.get_by_role("button", name="Undo").click()
    expect(slider).to_have_value("9")


def test_files_are_the_librarys_answer_and_the_address_opens_the_same(page, pairs):
    expect = playwright_api.expect
    recipe = {"any": [{**LOWEST, "cut": {"rank": 4}}, {**HIGHEST, "cut": {"budget": 0.2}}]}
    open_defence(page, filter=recipe, gallery="missed")
    removed = pairs.removal(read_recipe(recipe)).removed
    expect(card(page, "Removed").first).to_contain_text(f"{removed.sum()}of 40")
    page.get_by_label("Pairs to save").select_option("removed")
    for form in ("parquet", "csv", "json", "npy"):
        with page.expect_download() as download:
            page.get_by_label("Save as").select_option(form)
        assert download.value.suggested_filename == f"removed-pairs.{form}"
        content = download.value.path().read_bytes()
        if form in ("parquet", "csv"):
            stream = io.BytesIO(content)
            table = pandas.read_parquet(stream) if form == "parquet" else pandas.read_csv(stream, dtype={"uid": str})
            found = table["uid"].tolist()
        elif form == "json":
            found = json.loads(content)["uids"]
        else:
            found = [f"{low:032x}" for _, low in np.load(io.BytesIO(content)).tolist()]
        assert found == [pairs.uids[row] for row in np.flatnonzero(removed)]
        if form == "csv":
            assert b',"=' not in content, "a caption is no formula"
    page.get_by_role("button", name="Measure it").click()
    page.get_by_role("alert").get_by_text("AD of what remains was not measured").wait_for()
    page.get_by_role("radio", name="Benign kept").click()
    page.wait_for_function("() => location.search.includes('d.gallery=kept')")
    page.goto(page.url)
    expect(card(page, "Removed").first).to_contain_text(f"{removed.sum()}of 40")
    expect(page.get_by_role("radio", name="Benign kept")).to_have_attribute("aria-checked", "true")


def test_where_nobody_recorded_the_poison_it_is_said(page):
    expect = playwright_api.expect
    open_defence(page, arm="theirs")
    expect(page.locator(".defence")).to_contain_text("Nobody recorded which of these pairs are poison")
    expect(page.get_by_label("show what is poison")).to_be_disabled()
    expect(page.locator(".gallery-tabs")).to_have_text("Removed 4Kept 36")
    expect(card(page, "Poison removed")).to_have_count(0)
    expect(page.locator(".graph-thumbnail.benign")).to_have_count(0)
    page.get_by_label("Arm").select_option("dirty")
    expect(page.get_by_label("show what is poison")).to_be_checked()
    page.get_by_label("show what is poison").uncheck()
    expect(page.locator(".gallery-tabs")).to_have_text("Removed 4Kept 36")


def test_an_arm_that_comes_after_a_later_choice_is_not_shown_and_nothing_of_it_is_kept(page):
    expect = playwright_api.expect
    page.add_init_script(OBSERVING)
    open_defence(page)
    arm = page.get_by_label("Arm", exact=True)
    observing = page.evaluate("window.observing.size")
    late = []
    page.route("**/theirs/columns.bin*", lambda route: late.append(route))
    with page.expect_request("**/theirs/columns.bin*"):
        arm.select_option("theirs")
    arm.select_option("dirty")
    page.wait_for_function("() => performance.getEntriesByName('defence-shown').length === 2")
    with page.expect_response("**/theirs/columns.bin*"):
        late[0].continue_()
    page.wait_for_timeout(400)
    expect(arm).to_have_value("dirty")
    expect(card(page, "Poison removed")).to_have_count(1)
    assert "d.arm" not in page.url
    assert page.evaluate("window.observing.size") == observing


def test_the_list_of_scores_is_a_key_to_the_lines_above_it(page):
    open_defence(page)
    page.locator(".bought .line-key").first.wait_for()
    before = []
    for _ in range(2):
        lines, keys = page.evaluate(LOOKS)
        assert sorted(lines) == sorted(keys) != before
        assert len({look for _, look in keys}) == len(keys)
        before = sorted(keys)
        page.get_by_role("button", name=re.compile("(Light|Dark) theme")).click()


def test_a_threshold_is_chosen_on_one_half_and_graded_on_the_other(page):
    expect = playwright_api.expect
    open_defence(page, arm="dirty")
    halves = page.get_by_role("region", name="Choosing on one half")
    halves.get_by_role("button", name="Choose and grade").click()
    expect(halves.get_by_role("row")).to_have_count(3)
    expect(halves).to_contain_text("the other half")
    expect(page.get_by_role("radio", name="by score")).to_have_attribute("aria-checked", "true")
    page.get_by_role("button", name="Undo").click()
    expect(halves.get_by_role("row")).to_have_count(0)

    def ungraded(route):
        told = (answer := route.fetch()).json()
        route.fulfill(response=answer, json=told | {"graded_on": told["graded_on"] | {"grade": None}})

    page.route("**/filter-halves.json*", ungraded)
    halves.get_by_role("button", name="Choose and grade").click()
    expect(halves.get_by_role("row").last.get_by_role("cell", name="unknown")).to_have_count(4)
    expect(halves).to_contain_text("pairs known to be benign has no grade.")
    page.get_by_role("button", name="Undo").click()
    page.unroute("**/filter-halves.json*", ungraded)
    waiting = []
    page.route("**/filter-halves.json*", lambda route: waiting.append(route))
    with page.expect_request("**/filter-halves.json*"):
        halves.get_by_role("button", name="Choose and grade").click()
    page.get_by_label("show what is poison").uncheck()
    with page.expect_response("**/filter-halves.json*"):
        waiting[0].continue_()
    page.wait_for_timeout(400)
    expect(halves.get_by_role("row")).to_have_count(0)
    expect(halves.get_by_role("button", name="Choose and grade")).to_be_disabled()


def test_a_number_that_cannot_be_is_put_right_in_sight(page):
    expect = playwright_api.expect
    open_defence(page, filter={**LOWEST, "cut": {"threshold": -0.0312847}})
    widths = [
        field.evaluate("(field) => [field.offsetWidth, field.scrollWidth]")
        for field in page.get_by_role("spinbutton").all()
    ]
    assert widths == [[120, 118], [84, 82]], "no wider than their numbers, of which none is cut off"
    open_defence(page, filter={**LOWEST, "cut": {"rank": 5}})
    for label, typed, shown in (
        ("Cut", "-3", "0"),
        ("Cut", "1e9", "39"),
        ("Cut", "", "39"),
        ("At most so many per cent of a concept", "250", "100"),
    ):
        field = page.get_by_role("spinbutton", name=label, exact=True)
        field.fill(typed)
        field.press("Enter")
        expect(field).to_have_value(shown)


def test_the_pictures_of_the_nearest_retrained_model_follow_the_cut(page):
    expect = playwright_api.expect
    open_defence(page, filter={**LOWEST, "cut": {"rank": 7}})
    words = page.locator(".retrained-words")
    expect(words).to_contain_text("was trained after dropping 8 by Title lowest; the slider is at 7.")
    expect(words).to_contain_text("it draws 20 points (95 % 10 to 30) more than after dropping as many at random.")
    page.get_by_role("button", name="trained on all pairs").click()
    expect(words).to_contain_text("was trained on all pairs; the slider is at 0.")
    expect(page.locator(".retrained-table tbody tr")).to_have_count(3)
    expect(page.locator(".defence-recovery tbody tr").nth(1)).to_contain_text(
        "4 (10 % of its pairs)203not measured70 % (60 % to 80 %)not measured"
    )
    # The paper has no accuracy of poisoned concepts for its benign model: that is no zero.
    expect(page.locator(".defence-recovery tbody tr").last.locator("td").last).to_have_text("–")
    page.get_by_label("Score", exact=True).select_option("feature_distance")
    expect(words).to_contain_text("No model was trained by this score.")
    open_defence(page, arm="theirs")
    expect(words).to_contain_text("No model has been trained on what a filter leaves of theirs")
    expect(words.locator("code")).to_contain_text("study retrain")


def test_what_is_not_measured_names_its_command(world, serve_app, watch_page):
    with serve_app("--study", world[1], "--no-warm-up") as address, watch_page(address) as page:
        page.goto("/?tab=defence")
        page.locator(".missing-step code", has_text="filters").wait_for()
