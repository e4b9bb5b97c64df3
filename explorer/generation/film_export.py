"""The film strip as an animated GIF: one frame a model, the same concepts in the same places."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from explorer.generation.film_verdicts import DOUBT, RIGHT, Verdict, bounds_of, verdict_of
from explorer.generation.payload_formats import FILM_KINDS

SCALES = {"maps": ("attention", "map_scale"), "guidance": ("guidance", "guidance_map_scale")}
"""Of every kind of map what it is called, and where the description has the top of its scale."""
FRAME_MILLISECONDS = 1600
LAST_FRAME_MILLISECONDS = 3200
MAX_CONCEPTS = 16
SCALE, GAP, TOP, LABEL, BOTTOM = 2, 8, 52, 22, 40
MARK = 9
"""Pixels of the diamond before what is poisoned and of the disc before what is not: no kind is told by colour alone."""
TICK, CROSS = "✓", "✗"
STROKES = {TICK: (((0, 5), (3, 8), (8, 0)),), CROSS: (((0, 0), (8, 8)), ((0, 8), (8, 0)))}
"""The marks of verdicts, as lines: the font has neither."""
LEAST_SIZE = 8
BAR = (120, 10)
LEAST_WIDTH = 440
SETTINGS = ("study", "prompt", "seed", "steps", "guidance_scale", "sure")
LINE = 17
"""Pixels of a line of the legend."""
VERDICT = 18
"""Pixels below a picture where a judge looked at it."""
ROUNDING = 2
"""Levels of grey that a map on the sheet may vary by and still be the same everywhere, as in compare_kinds.js."""
# Inferno from dark to bright, as maps.js draws maps on the screens.
MAP_COLOURS = (
    (0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99),
    (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Of what stands around the pictures."""

    surface: str
    ink: str
    soft: str
    benign: str
    poisoned: str


THEMES = {
    "light": Colours(surface="#ffffff", ink="#16212b", soft="#4a5866", benign="#0b6b6b", poisoned="#b03a0a"),
    "dark": Colours(surface="#151c23", ink="#e8eef3", soft="#a3b2c0", benign="#2fc0b8", poisoned="#ff8a5c"),
}
"""The app's own, as its style sheet has them."""


def film_strip_gif(
    description: dict[str, Any], sheets: dict[str, Image.Image], rows: Sequence[int], kinds: Sequence[str],
    theme: str = "light",
) -> bytes:  # fmt: skip
    """Animate ``rows`` of a film strip from the benign model to the most poisoned one.

    Args:
        description: ``film_strip.json``, with ``study`` and ``prompt``, the prompts' template, where they are known,
            and of every model with ``poisoned_concepts``, those that its poison is known to aim at, and
            ``poisoned_concepts_known``, whether these are all. What a judge saw stands below the pictures.
        sheets: those written beside it by their kind, ``images`` (colour), ``maps`` and, where it has one, ``guidance``
            (grey, coloured here as on the screens).
        rows: indices into ``description["concepts"]``, 1 to ``MAX_CONCEPTS`` of them.
        kinds: some of those of ``sheets``, one below the other.
        theme: one of ``THEMES``.

    Returns:
        The GIF, endless, with study, prompt, seed, steps, guidance scale, concepts and models as JSON in its comment.

    Raises:
        ValueError: if there are no rows or too many, one does not exist, there are no kinds, or one of them, or
            ``theme``, is unknown or not in this strip.
    """
    concepts = description["concepts"]
    if not kinds or set(kinds) - set(sheets):
        raise ValueError(f"{', '.join(kinds) or 'nothing'} is to be shown: expected some of {', '.join(sheets)}")
    if theme not in THEMES:
        raise ValueError(f"theme is {theme!r}: expected one of {', '.join(THEMES)}")
    if not 1 <= len(rows) <= MAX_CONCEPTS:
        raise ValueError(f"{len(rows)} concepts were asked for: expected 1 to {MAX_CONCEPTS}")
    for row in rows:
        if not 0 <= row < len(concepts):
            raise ValueError(f"row {row} is not in the film strip: expected 0 to {len(concepts) - 1}")
    flat = _flat_maps(description, sheets["maps"], rows) if "maps" in kinds else set()
    shown = {kind: _coloured(sheets[kind]) if kind in SCALES else sheets[kind] for kind in FILM_KINDS if kind in kinds}
    frames = [
        _frame(description, shown, column, rows, THEMES[theme], flat) for column in range(len(description["models"]))
    ]
    settings = {
        **{name: description[name] for name in SETTINGS if name in description},
        "concepts": [concepts[row]["concept"] for row in rows],
        "models": [model["name"] for model in description["models"]],
    }
    stream = io.BytesIO()
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
    frames[0].save(
        stream, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, disposal=2,
        comment=json.dumps(settings).encode("ascii"),
    )  # fmt: skip
    return stream.getvalue()


def _flat_maps(description: dict[str, Any], maps: Image.Image, rows: Sequence[int]) -> set[tuple[int, int]]:
    """Column and row of every map among ``rows`` that is the same everywhere."""
    size, models = description["cell"], description["models"]
    grey = maps.convert("L")
    return {
        (column, row)
        for column, model in enumerate(models)
        for row in rows
        if _is_flat(model["cells"][row], grey.crop(_box(size, column, row)))
    }


def _is_flat(cell: dict[str, Any], grey: Image.Image) -> bool:
    """Scatter is rounded, and is 1 for maps that still vary by some percent; the sheet is rounded on one scale for all,
    and has faint maps without their shape. Only both together say that a map is the same everywhere."""
    low, high = grey.getextrema()
    return cell["scatter"] >= 1 and high - low <= ROUNDING


def _box(size: int, column: int, row: int) -> tuple[int, int, int, int]:
    return column * size, row * size, (column + 1) * size, (row + 1) * size


def _coloured(maps: Image.Image) -> Image.Image:
    """A grey sheet of maps in the colours of the screens."""
    places = np.linspace(0, len(MAP_COLOURS) - 1, 256)
    channels = [np.interp(places, range(len(MAP_COLOURS)), channel) for channel in zip(*MAP_COLOURS, strict=True)]
    coloured = maps.convert("L")
    coloured.putpalette(np.stack(channels, axis=-1).round().astype(np.uint8).tobytes())
    return coloured.convert("RGB")


def _frame(
    description: dict[str, Any], sheets: dict[str, Image.Image], column: int, rows: Sequence[int],
    colours: Colours, flat: set[tuple[int, int]],
) -> Image.Image:  # fmt: skip
    model, size = description["models"][column], description["cell"]
    across = min(len(rows), 8)
    side = size * SCALE
    height = LABEL + len(sheets) * side + GAP
    width = max(across * (side + GAP) + GAP, LEAST_WIDTH)
    judged, bounds = _is_judged(description), bounds_of(description)
    height += VERDICT if judged else 0
    words = _map_words(description, sheets, bool(flat))
    lines = 1 + len(words) + judged + (judged and bounds is not None)
    below = max(BOTTOM, lines * LINE + 6)
    frame = Image.new("RGB", (width, TOP + -(-len(rows) // across) * height + below), colours.surface)
    draw = ImageDraw.Draw(frame)
    _head(draw, description, model, colours)
    for at, row in enumerate(rows):
        concept = description["concepts"][row]
        left, top = GAP + at % across * (side + GAP), TOP + at // across * height
        named = concept["concept"] in model["poisoned_concepts"]
        if named or model["poisoned_concepts_known"]:
            _mark(draw, left, top + 5, named, colours)
        _write(draw, left + MARK + 5, top, concept["concept"], 14, colours.poisoned if named else colours.ink)
        for line, (kind, sheet) in enumerate(sheets.items()):
            cell = sheet.crop(_box(size, column, row)).convert("RGB")
            place = (left, top + LABEL + line * side)
            frame.paste(cell.resize((side, side), Image.Resampling.NEAREST), place)
            if named:
                draw.rectangle((*place, place[0] + side - 1, place[1] + side - 1), outline=colours.poisoned, width=2)
            if kind == "maps" and (column, row) in flat:
                _map_mark(draw, place[0] + 4, place[1] + side - 20, "flat")
            if kind == "guidance" and model["no_guidance"]:
                _map_mark(draw, place[0] + 4, place[1] + side - 20, "none")
        if verdict := verdict_of(model["cells"][row], concept["concept"], bounds):
            _verdict(draw, left, top + LABEL + len(sheets) * side + 2, side, verdict, colours)
    _foot(frame, draw, frame.height - below + 4, model, description, words, colours)
    return frame


def _head(draw: ImageDraw.ImageDraw, description: dict[str, Any], model: dict[str, Any], colours: Colours) -> None:
    """Which model drew, by what it was trained on, and with which settings."""
    count = model["poisoned_concept_count"]
    poisoned = model.get("poisoned", bool(count))
    title = _title(count, poisoned)
    if poisoned is not None:
        _mark(draw, GAP, 13, poisoned, colours)
    fill = colours.soft if poisoned is None else colours.poisoned if poisoned else colours.benign
    _write(draw, GAP + MARK + 6, 6, title, 20, fill)
    if model["name"] != title:
        left = GAP + MARK + 16 + int(ImageFont.load_default(20).getlength(title))
        _write(draw, left, 11, model["name"], 15, colours.soft, LEAST_WIDTH - left)
    prompt = description.get("prompt", "").replace("{phrase}", "…")
    settings = f"seed {description['seed']}, {description['steps']} steps, guidance {description['guidance_scale']}"
    _write(draw, GAP, 32, f"{prompt}: {settings}" if prompt else settings, 12, colours.soft)


def _foot(
    frame: Image.Image, draw: ImageDraw.ImageDraw, top: int, model: dict[str, Any], description: dict[str, Any],
    words: Sequence[tuple[str, str]], colours: Colours,
) -> None:  # fmt: skip
    """What the marks mean and, where there are maps, their colours with both ends of the scale."""
    _mark(draw, GAP, top + 3, True, colours)
    _write(draw, GAP + MARK + 5, top, "and frame: poisoned in this model", 12, colours.soft)
    if model["poisoned_concepts_known"]:
        _mark(draw, GAP + 230, top + 3, False, colours)
    unmarked = "benign, or not poisoned here" if model["poisoned_concepts_known"] else "no mark: not recorded"
    _write(draw, GAP + 230 + MARK + 5, top, unmarked, 12, colours.soft)
    for before, after in words:
        top += LINE
        _write(draw, GAP, top, before, 12, colours.soft)
        if after:
            frame.paste(_coloured(Image.linear_gradient("L").rotate(90).resize(BAR)), (GAP + 76, top + 3))
            _write(draw, GAP + 84 + BAR[0], top, after, 12, colours.soft)
    if _is_judged(description):
        _judge_lines(draw, top + LINE, bounds_of(description), colours)


def _map_words(description: dict[str, Any], kinds: Iterable[str], flat: bool) -> list[tuple[str, str]]:
    """What is said of the maps, a line each: words, and what stands behind the bar of colours, empty without one."""
    words = [
        (f"{name}: 0", f"{description[scale]:.3g}, one scale for all")
        for kind, (name, scale) in SCALES.items()
        if kind in kinds
    ]
    if flat:
        words.append(("flat: the same everywhere, this map says nothing", ""))
    if "guidance" in kinds and any(model["no_guidance"] for model in description["models"]):
        words.append(("none: this model has no guidance maps", ""))
    return words


def _judge_lines(draw: ImageDraw.ImageDraw, top: int, bounds: dict[str, Any] | None, colours: Colours) -> None:
    """What the marks of the verdicts mean, and from where on one is sure."""
    parts = ("Judge:", TICK, "named first, surely", "? named first, in doubt", CROSS, "taken for another")
    _marked(draw, GAP, top, parts, colours.soft)
    if bounds is not None:
        margin = "" if bounds["margin"] is None else f", {bounds['margin']:.2f} before the next noun"
        _marked(draw, GAP, top + LINE, (TICK, f"from a fit of {bounds['clip_similarity']:.2f}{margin}"), colours.soft)


def _verdict(
    draw: ImageDraw.ImageDraw, left: int, top: int, side: int, verdict: Verdict, colours: Colours
) -> None:  # fmt: skip
    """A cell's verdict, as below the pictures of the other files that are saved of a strip."""
    if verdict.kind == DOUBT:
        _write(draw, left, top, f"? {verdict.words}", 12, colours.soft, side)
        return
    mark, fill = (TICK, colours.benign) if verdict.kind == RIGHT else (CROSS, colours.poisoned)
    _marked(draw, left, top, (mark, verdict.words), fill, side)


def _marked(
    draw: ImageDraw.ImageDraw, left: int, top: int, parts: Sequence[str], fill: str, width: int = LEAST_WIDTH
) -> None:  # fmt: skip
    """Texts, and the two marks that the font lacks, one after the other."""
    end = left + width
    for part in parts:
        if part in STROKES:
            for stroke in STROKES[part]:
                draw.line([(left + x, top + 3 + y) for x, y in stroke], fill=fill, width=2)
            left += MARK + 5
            continue
        _write(draw, left, top, part, 12, fill, end - left)
        left += int(ImageFont.load_default(12).getlength(part)) + 9


def _is_judged(description: dict[str, Any]) -> bool:
    return bool(description["models"][0]["cells"][0].get("top_concept"))


def _mark(draw: ImageDraw.ImageDraw, left: int, top: int, poisoned: bool, colours: Colours) -> None:
    """A diamond or a disc, as the screens mark both kinds."""
    right, bottom, half = left + MARK, top + MARK, MARK // 2
    if poisoned:
        corners = [(left + half, top), (right, top + half), (left + half, bottom), (left, top + half)]
        draw.polygon(corners, fill=colours.poisoned)
    else:
        draw.ellipse((left, top, right, bottom), fill=colours.benign)


def _map_mark(draw: ImageDraw.ImageDraw, left: int, top: int, word: str) -> None:
    """On its own ground, so that it is read on every colour of a map and in both themes."""
    draw.rectangle((left, top, left + (28 if word == "flat" else 34), top + 16), fill="#000000")
    _write(draw, left + 4, top + 1, word, 12, "#ffffff")


def _write(
    draw: ImageDraw.ImageDraw, left: int, top: int, text: str, size: int, fill: str, width: int | None = None
) -> None:  # fmt: skip
    """A text, smaller where it is wider than ``width``, and cut off before nobody could read it."""
    font = ImageFont.load_default(size)
    while width is not None and size > LEAST_SIZE and font.getlength(text) > width:
        size -= 1
        font = ImageFont.load_default(size)
    while width is not None and len(text) > 1 and font.getlength(text) > width:
        text = f"{text.removesuffix('…')[:-1]}…"
    draw.text((left, top), text, fill=fill, font=font)


def _title(count: int | None, poisoned: bool | None) -> str:
    if poisoned is None:
        return "poison not recorded"
    if not poisoned:
        return "benign"
    return "C_P not recorded" if count is None else f"{count} poisoned concepts"
