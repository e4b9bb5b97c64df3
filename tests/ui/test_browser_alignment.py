"""The Graphs and Alignment difficulty screens in a real chromium, in the whole app, on small artefacts."""

import json
import re
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
from pyarrow import parquet

from explorer.alignment.description import ALPHA_STOPS, SHARES, describe_distribution, describe_moments
from explorer.alignment.graph_files import write_built_graphs
from explorer.alignment.graphs import FeatureGraph, PairGraphs
from explorer.alignment.layouts import LayoutQuality, LayoutSettings
from explorer.generation.files import read_settings
from explorer.pairs.poison_flags import PoisonFlags
from explorer.studies.results import EVALUATION, GRAPHS, SCORES, step_folder
from explorer.ui.shell.context import AppSettings
from tests.ui.test_browser_saved import DRAWN_TEXTS

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 120_000
PAIRS, NEIGHBOURS = 24, 4
SPACED = "dirty, 50 % of it"
MALICIOUS = "a photo of <img src=x onerror='window.hacked = 1'> & a turtle"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="needs Debian's chromium (apt-get install chromium)"),
]


def described_local(share):
    """Local AD that grows with the share of poison."""
    values = {"picture_scatter": 0.1 + share, "local_structure_ad": 0.08 + share, "local_feature_ad": share**2}
    bounds = {f"{name}_interval": [value - 0.01, value + 0.01] for name, value in values.items()}
    return {**values, **bounds, "caption_spread": 0.02, "neighbours": 15, "local_pairs": 200}


def describe_set(name, concepts, poisoned, recorded=True):
    flags = PoisonFlags(poisoned=poisoned, benign=~poisoned if recorded else poisoned & False)
    generator = np.random.default_rng(concepts)
    feature = np.clip(generator.normal(0.4, 0.1, 200) + 0.4 * poisoned, 0, 1)
    structure = np.clip(generator.normal(0.15, 0.02, 200), 0, 1)
    mixtures = [alpha * feature + (1 - alpha) * structure for alpha in ALPHA_STOPS]
    return {
        "name": name,
        "poisoned_concept_count": concepts if recorded else None,
        "poison_recorded": recorded,
        "data_hash": f"{concepts:016}:{0:016}",
        "pairs": 200,
        **flags.counts(),
        "extractor": "tiny",
        "alignment_difficulty": {
            "feature_ad": feature.mean(),
            "structure_ad": structure.mean(),
            "ad": 0.8 * feature.mean() + 0.2 * structure.mean(),
            "alpha": 0.8,
            "convention": "authors",
            "n": 200,
            "feature_range": [0.1, 0.6],
        },
        "moments": describe_moments(feature, structure),
        "local": described_local(poisoned.mean()),
        "mean_offset": {
            "mean_absolute_offset": 0.1,
            "centred_structure_ad": 0.05,
            "image_mean_norm": 0.4,
            "text_mean_norm": 0.5,
        },
        "alpha_stops": ALPHA_STOPS,
        "shares": SHARES,
        "distributions": {
            "feature_distance": describe_distribution(feature, flags, (0.0, 1.0)),
            "structure_distance": describe_distribution(structure, flags),
            "sample_ad": [describe_distribution(mixture, flags) for mixture in mixtures],
            "picture_scatter": describe_distribution(structure, flags),
        },
    }


def write_graphs(folder):
    """Made-up graphs of 24 of 200 pairs: the first eight are poison, of the last nobody recorded it."""
    generator = np.random.default_rng(0)
    is_poison = [*(row < 8 for row in range(PAIRS - 1)), None, *[False] * (200 - PAIRS)]
    ranks = np.full(200, -1.0)
    scores = {name: np.concatenate([generator.random(PAIRS).round(3), ranks[PAIRS:]]) for name in
              ("feature_distance", "structure_distance", "sample_ad")}  # fmt: skip
    scores["feature_distance"][:8] = 1.0
    scores["loss"] = 0.1 * np.arange(200)

    def side():
        near = [generator.permutation([other for other in range(PAIRS) if other != row])[:NEIGHBOURS]
                for row in range(PAIRS)]  # fmt: skip
        grid = np.stack(np.meshgrid(np.linspace(-0.9, 0.9, 6), np.linspace(-0.9, 0.9, 4)), -1).reshape(-1, 2)
        return FeatureGraph(
            neighbours=np.array(near),
            similarities=np.tile(np.array([0.9, 0.8, 0.7, 0.6], np.float32), (PAIRS, 1)),
            layout=generator.permutation(grid).astype(np.float32),
            quality=LayoutQuality(trustworthiness=0.91, preservation=0.42, neighbours=11, anchors=PAIRS),
        )

    graphs = PairGraphs(text=side(), image=side(), rows=np.arange(PAIRS), settings=LayoutSettings(), seed=0)
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(200)],
            "caption": [MALICIOUS, *(f"a photo of hat {row}" for row in range(1, 200))],
            "concepts": [["turtle" if row < 8 else "hat"] for row in range(200)],
            "is_poison": is_poison,
            "poisoned_concept": [None if flag is None else "turtle" if flag else "" for flag in is_poison],
            "target_concept": [None if flag is None else "hat" if flag else "" for flag in is_poison],
        }
    )
    names = write_built_graphs(
        folder, graphs, name="dirty", table=table, scores=scores, facts={"loss_model": "control"},
        read_images=lambda rows: np.full((len(rows), 8, 8, 3), 90, np.uint8),
    )  # fmt: skip
    return graphs, scores, names


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, make_study):
    """A study with results of these two screens only, its graphs and their scores."""
    kept = {}

    def write(place):
        kept["graphs"], kept["scores"], _ = write_graphs(place / "dirty")

    poisoned = np.arange(200) < 60
    names = {"benign": 0, SPACED: 1, "dirty": 3}
    sets = [describe_set(name, concepts, poisoned & (concepts > 0)) for name, concepts in names.items()]
    sets.insert(1, describe_set("theirs", 0, poisoned & False, recorded=False))
    sets.insert(1, {**describe_set("apart", 0, poisoned & False, recorded=False), "extractor": "another"})
    judged = [
        {"name": name, "accuracy": {"unpoisoned": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}}
        for name, mean in zip(names, (0.8, 0.5, 0.3), strict=True)
    ]
    results = {
        SCORES: {"alignment.json": json.dumps({"version": 1, "sets": sets})},
        EVALUATION: {"evaluation.json": json.dumps({"models": judged})}, GRAPHS: write,
    }  # fmt: skip
    study = make_study(tmp_path_factory.mktemp("studies") / "measured", results=results)
    return study, kept["graphs"], kept["scores"]


@pytest.fixture(scope="module")
def app(drawn):
    """Address of the whole app on that study, and the study."""
    import uvicorn

    from explorer.ui.shell.application import make_application_server

    study, _, _ = drawn
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = AppSettings(studies=(study.folder,), port=port, warm_up=False)
    config = uvicorn.Config(make_application_server(settings), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE / 1000
    while not server.started:
        assert time.monotonic() < deadline, "the app did not start"
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}", study
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments, timeout=PATIENCE)
        yield chromium
        chromium.close()


@pytest.fixture
def page(app, browser):
    """A page whose console errors and requests beyond this machine fail the test."""
    address, _ = app
    problems = []
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: _is_local(request.url, address) or problems.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert problems == []


def _is_local(url, address):
    return url.startswith((address, "data:", "blob:"))


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


def test_without_a_comparison_resizing_and_the_swap_key_do_nothing(page):
    missing = page.get_by_role("status").get_by_text("this place shows one prompt drawn by several models")
    missing.wait_for()
    page.set_viewport_size({"width": 1000, "height": 700})
    page.keyboard.press("b")
    missing.wait_for()
    assert page.locator(".compare-column").count() == 0


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
    page.get_by_role("searchbox").fill("unicorn")
    expect(summary).to_have_text("No pair passes these filters.")
    page.locator(".graph-frame[data-side='text']").press("Escape")
    page.get_by_role("searchbox").fill("unicorn")
    expect(summary).to_have_text("No pair passes these filters.")
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
    expect(summary).to_contain_text("Every pair")
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
    page.goto(page.url.replace("g.rows=", "g.rows=0"))
    page.get_by_role("alert").get_by_text("a selection of other pairs").wait_for()


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


def test_alpha_recomposes_ad_on_the_page(page):
    open_tab(page, "Alignment difficulty")
    card = page.locator(".difficulty-card[data-set='dirty'] .big-number")
    card.wait_for()
    parts = describe_set("dirty", 3, np.arange(200) < 60)["alignment_difficulty"]
    assert card.inner_text().startswith(f"{parts['ad']:.3f}")
    slider = page.get_by_role("slider", name="alpha, the weight of feature AD")
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    expected = 0.5 * parts["feature_ad"] + 0.5 * parts["structure_ad"]
    page.locator(".difficulty-card[data-set='dirty'] .big-number", has_text=f"{expected:.3f}").wait_for()
    assert page.locator(".score-panel .main-svg").count() > 0
    assert "The paper's numbers" in page.locator(".alignment-screen figcaption").nth(1).inner_text()


FIELDS = """() => [...document.querySelectorAll('.calculator .form > .block')].filter((field) => field.offsetParent)
  .map((field) => field.getBoundingClientRect().toJSON())"""


@pytest.mark.parametrize("width", [390, 1280])
def test_the_fields_of_the_calculators_stand_apart(page, width):
    open_tab(page, "Alignment difficulty")
    page.set_viewport_size({"width": width, "height": 844})
    page.get_by_label("m, poisoned pairs").wait_for()
    fields = page.evaluate(FIELDS)
    assert len(fields) > 10
    for at, one in enumerate(fields):
        for other in fields[:at]:
            aside = max(one["left"] - other["right"], other["left"] - one["right"])
            above = max(one["top"] - other["bottom"], other["top"] - one["bottom"])
            assert max(aside, above) >= 8


def test_local_ad_stands_beside_ad_the_share_and_what_models_draw(page):
    open_tab(page, "Alignment difficulty")
    section = page.locator(".local-section")
    section.locator(".js-plotly-plot").nth(2).wait_for()
    lines = section.locator("tbody tr")
    assert lines.filter(has_text=SPACED).inner_text().split("\t")[1] == "0.300"
    assert lines.filter(has_text="theirs").inner_text().count("not ") == 2, (
        "its share is not recorded, nor was it drawn"
    )
    words = section.locator("> .note").nth(1).inner_text()
    shares, top1 = [0, 0.3, 0.3], [0.8, 0.5, 0.3]
    r = np.corrcoef(shares, top1)[0, 1]
    assert "over n = 3 models" in words
    assert f"share of poison {r:.3f}, picture scatter {r:.3f}, local structure AD {r:.3f}" in words
    assert page.locator(".score-panel[data-score='picture_scatter'] .main-svg").count() > 0


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


def test_where_no_set_has_a_place_on_the_axis_of_poison_the_chart_says_so(app, page):
    page.goto(f"{app[0]}/?tab=alignment&a.sets=apart&a.shown=apart")
    growth = page.locator(".alignment-screen .two-charts .measure-chart").first
    growth.get_by_text("C_P is not recorded of these sets:").wait_for()
    assert growth.locator(".xaxislayer-above text").count() == 0


def test_a_set_without_a_record_of_poison_is_not_called_benign(app, page):
    from playwright.sync_api import expect

    page.goto(f"{app[0]}/?tab=alignment&a.sets=theirs&a.shown=theirs")
    card = page.locator(".difficulty-card[data-set='theirs']")
    card.wait_for()
    expect(card.locator(".tag")).to_have_text("poison not recorded")
    expect(card).not_to_have_class(re.compile("benign"))
    expect(page.locator(".score-panel .auc").first).to_have_text("poison not recorded")
    expect(page.locator(".difficulty-table tbody tr")).to_contain_text("not recorded")
    drawn = page.evaluate("() => document.querySelector('.score-panel .histogram').data.map((trace) => trace.name)")
    assert drawn == ["all pairs", "benign control"]
    growth = page.evaluate("() => document.querySelector('.alignment-screen .two-charts .measure-chart').data[0].text")
    assert growth == ["benign", SPACED, "dirty"], "C_P of the set is not known"


def test_a_control_whose_pairs_are_not_flagged_one_by_one_is_drawn_all_the_same(app, page):
    """As of a user's photographs, of which the study says that they hold no poison."""

    def unflagged(route):
        answer = route.fetch()
        payload = answer.json()
        control = next(each for each in payload["sets"] if each["name"] == "benign")
        control.update(poison_recorded=False, poisoned_pairs=None, benign_pairs=None, unrecorded_pairs=200)
        for stored in control["distributions"].values():
            for each in stored if isinstance(stored, list) else [stored]:
                each["groups"] = {"unrecorded": each["groups"]["benign"]}
        route.fulfill(response=answer, json=payload)

    page.route("**/payload/alignment.json*", unflagged)
    page.goto(f"{app[0]}/?tab=alignment&a.sets=dirty&a.shown=dirty")
    page.locator(".score-panel .histogram .main-svg").first.wait_for()
    drawn = page.evaluate("() => document.querySelector('.score-panel .histogram').data.map((trace) => trace.name)")
    assert drawn[-1] == "benign control"


POINT_COLOURS = """() => {
  const style = getComputedStyle(document.body);
  const colour = (kind) => style.getPropertyValue(`--${kind}`).trim();
  const kindOf = (found) => ['benign', 'poisoned'].find((kind) => colour(kind) === found);
  const charts = ['.two-charts', '.local-section'].map((place) => document.querySelector(`${place} .measure-chart`));
  return charts.map(({ data: [{ text, marker }] }) => text.map((name, at) => [name, kindOf(marker.color[at])]));
}"""


def test_poison_has_its_colour_however_it_is_recorded(app, page):
    def told(route):
        answer = route.fetch()
        payload = answer.json()
        sets = {each["name"]: each for each in payload["sets"]}
        sets["dirty"].update(poison_recorded=False, poisoned_pairs=None, benign_pairs=None, unrecorded_pairs=200)
        sets[SPACED]["poisoned_concept_count"] = 0  # of an attack that aims at no concept
        route.fulfill(response=answer, json=payload)

    page.route("**/payload/alignment.json*", told)
    page.goto(f"{app[0]}/?tab=alignment&a.shown=dirty")
    page.locator(".local-section .js-plotly-plot").first.wait_for()
    kinds = {"benign": "benign", SPACED: "poisoned", "dirty": "poisoned"}
    assert [dict(points) for points in page.evaluate(POINT_COLOURS)] == [kinds, kinds]


def test_a_link_opens_the_screen_with_its_choices(app, page):
    address, _ = app
    page.goto(f"{address}/?tab=graphs&g.colour=loss&g.pair=pair-5")
    page.locator(".graph-inspector").get_by_text("pair-5", exact=True).wait_for()
    assert page.locator("#graph-colouring").input_value() == "loss"
    page.locator("#graph-colouring").select_option("concept")
    page.wait_for_function("() => location.search.includes('g.colour=concept')")
    page.goto(f"{address}/?tab=alignment&a.alpha=0.5&a.sets=dirty&a.shown=nonsense")
    page.locator(".difficulty-card[data-set='dirty']").wait_for()
    assert page.locator(".difficulty-card").count() == 1
    assert page.locator(".alpha-field output").inner_text() == "0.50"
    open_tab(page, "Checkpoints")
    page.wait_for_function("() => location.search.includes('tab=checkpoints')")
    assert "a.alpha=0.5" in page.url


def test_a_link_keeps_the_names_of_sets_whole(app, page):
    page.goto(f"{app[0]}/?tab=alignment")
    page.get_by_role("checkbox", name=f"{SPACED} (C_P = 1)").check()
    page.get_by_role("checkbox", name="benign (C_P = 0)").uncheck()
    shown = [SPACED, "dirty"]
    for again in (False, True):
        if again:
            page.goto(page.url)
        page.locator(f".difficulty-card[data-set='{SPACED}']").wait_for()
        assert [card.get_attribute("data-set") for card in page.locator(".difficulty-card").all()] == shown
        assert page.locator("#distribution-set").input_value() == SPACED


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
