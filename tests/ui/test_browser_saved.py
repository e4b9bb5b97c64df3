"""The PNG that Compare saves: what is drawn on it and what is stored in it."""

import base64
import json

import pytest

from explorer.generation.files import read_settings

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
COLOURS_IN_A_ROW = """async (data) => {
  const picture = new Image();
  picture.src = `data:image/png;base64,${data}`;
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.width, 150);
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  const coloursOf = (y) => {
    const { data: row } = context.getImageData(0, y, picture.width, 1);
    const pixels = Array.from({ length: picture.width }, (_, at) => [...row.slice(4 * at, 4 * at + 3)]);
    return new Set(pixels.filter((pixel) => Math.max(...pixel) - Math.min(...pixel) > 40).map(String)).size;
  };
  return Math.max(...Array.from({ length: 150 }, (_, y) => coloursOf(y)));
}"""
WRAPPED = """async (texts) => {
  const { wrapped } = await import('/explorer-static/text_lines.js');
  const context = document.createElement('canvas').getContext('2d');
  const lines = (text) => wrapped(context, text, 256, 'plain');
  return texts.map((text) => lines(text).map((line) => [line, context.measureText(line).width]));
}"""
DRAWN_TEXTS = """() => {
  window.drawnTexts = [];
  const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    window.drawnTexts.push(text);
    draw.call(this, text, ...rest);
  };
}"""


def save(page):
    """Where the saved file lies, its name, and the texts drawn on it."""
    playwright_api.expect(page.locator(".maps figure").first).to_be_visible()
    page.evaluate(DRAWN_TEXTS)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    return download.value.path(), download.value.suggested_filename, page.evaluate("window.drawnTexts")


def test_the_saved_picture_says_which_kind_it_shows(page):
    page.goto("/?map=guidance")
    path, name, _ = save(page)
    assert name == "compare-guidance-seed7.png"
    said = read_settings(path)["map"]
    assert said["kind"] == "guidance"
    assert said["top_of_scale"] > 0
    assert said["of"] == {"Denoising step": "all steps"}
    drawn = page.evaluate(COLOURS_IN_A_ROW, base64.b64encode(path.read_bytes()).decode())
    assert drawn > 30, "the colour bar"
    assert page.complaints == []


def test_step_layer_and_judgement_are_on_the_saved_picture_and_its_numbers_are_those_shown(page):
    page.goto("/?t=1")
    path, _, texts = save(page)
    chosen = read_settings(path)
    assert (chosen["study"], chosen["link"].split("?")[0]) == ("tiny", page.url.split("?")[0])
    assert chosen["map"]["of"]["Denoising step"] == "1 of 2"
    assert {"Layer", "Head"} <= set(chosen["map"]["of"])
    assert any(text.startswith("Denoising step: 1 of 2   Layer: ") for text in texts)
    figures = page.locator(".maps figure").first.locator("figcaption .figure").all()
    values = [figure.locator("b").inner_text() for figure in figures]
    shown = {figure.inner_text().removesuffix(value).strip(): value
             for figure, value in zip(figures, values, strict=True)}  # fmt: skip
    assert chosen["models"][0]["maps"][0] == {"of": "dog", "numbers": shown}
    judged = page.locator(".numbers").first.locator("dt").all_inner_texts()
    assert judged
    for name in judged:
        assert any(text.startswith(f"{name}: ") for text in texts)
    assert not any("Blamed pairs" in text for text in texts)
    assert page.complaints == []


LEFT_OUT = """async () => {
  const { withValues } = await import('/explorer-static/compare_saved.js');
  const map = Object.assign(new Float32Array(65536), { width: 256, height: 256 });
  const column = { guidance: [map] };
  const screen = { first: column, rows: [-1], shown: [column], state: { kind: 'guidance', step: 0, view: 'map' } };
  return withValues({ models: [{ maps: [{}] }] }, screen, [column]).values_left_out;
}"""


def test_what_a_comparison_shows_is_saved_as_json(page):
    page.goto("/?t=1&w=difference")
    playwright_api.expect(page.locator(".maps figure").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").click()
    assert download.value.suggested_filename == "compare-attention-seed7.json"
    text = download.value.path().read_text(encoding="utf-8")
    told = json.loads(text)
    path, *_ = save(page)
    in_picture = read_settings(path)
    assert "hover" not in told["view"]
    for model in told["models"]:
        for each in model["maps"]:
            values = each.pop("values")
            assert len(values) == len(values[0]) > 1
            assert (model["model"] == "benign") == (max(map(max, values)) == min(map(min, values)) == 0), "differences"
    assert told == in_picture
    assert [(each["model"], each["poisoned_concept_count"], each["poisoned"]) for each in told["models"]] == [
        ("benign", 0, False), ("dirty-002", 2, True), ("dirty-004", 4, True),
    ]  # fmt: skip
    assert page.complaints == []


def test_too_many_values_are_left_out_and_it_says_so(loaded_page):
    left_out = loaded_page.evaluate(LEFT_OUT)
    assert left_out == "The maps have 65536 values: more than 50000 are not written."


def test_long_names_take_lines_instead_of_being_squeezed(loaded_page):
    tag = "graft: Cross-attention: keys and values 1; Cross-attention: queries and output 1"
    for text, lines in zip((tag, "m" * 120), loaded_page.evaluate(WRAPPED, [tag, "m" * 120]), strict=True):
        assert len(lines) > 1
        assert max(width for _, width in lines) <= 256
        assert "".join(line for line, _ in lines).replace(" ", "") == text.replace(" ", "")
