"""The film strip as an animated GIF: one frame a model, the same concepts in the same places."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

CONTENTS = {"images": ("images",), "maps": ("maps",), "both": ("images", "maps")}
FRAME_MILLISECONDS = 1600
LAST_FRAME_MILLISECONDS = 3200
MAX_CONCEPTS = 16
SCALE, GAP, TOP, LABEL = 2, 8, 34, 22
# Inferno from dark to bright, as static/maps.js draws maps on the screens.
MAP_COLOURS = (
    (0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99),
    (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164),
)  # fmt: skip
SURFACE, INK, BENIGN, POISONED = "#0d1217", "#e8eef3", "#2fc0b8", "#ff8a5c"


def film_strip_gif(
    description: dict[str, Any], sheets: dict[str, Image.Image], rows: Sequence[int], contents: str
) -> bytes:
    """Animate ``rows`` of a film strip from the benign model to the most poisoned one.

    Args:
        description: ``film_strip.json``.
        sheets: ``images`` (colour) and ``maps`` (grey, coloured here as on the screens) as written beside it.
        rows: indices into ``description["concepts"]``, 1 to ``MAX_CONCEPTS`` of them.
        contents: ``images``, ``maps`` or ``both``.

    Returns:
        The GIF, endless, with seed, steps, guidance scale, concepts and models as JSON in its comment.

    Raises:
        ValueError: if there are no rows or too many, one does not exist, or ``contents`` is unknown.
    """
    concepts = description["concepts"]
    if contents not in CONTENTS:
        raise ValueError(f"contents is {contents!r}: expected one of {', '.join(CONTENTS)}")
    if not 1 <= len(rows) <= MAX_CONCEPTS:
        raise ValueError(f"{len(rows)} concepts were asked for: expected 1 to {MAX_CONCEPTS}")
    for row in rows:
        if not 0 <= row < len(concepts):
            raise ValueError(f"row {row} is not in the film strip: expected 0 to {len(concepts) - 1}")
    sheets = {"images": sheets["images"], "maps": _coloured(sheets["maps"])}
    frames = [_frame(description, sheets, column, rows, contents) for column in range(len(description["models"]))]
    settings = {
        **{name: description[name] for name in ("seed", "steps", "guidance_scale")},
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


def _coloured(maps: Image.Image) -> Image.Image:
    """A grey sheet of maps in the colours of the screens."""
    import numpy as np

    places = np.linspace(0, len(MAP_COLOURS) - 1, 256)
    channels = [np.interp(places, range(len(MAP_COLOURS)), channel) for channel in zip(*MAP_COLOURS, strict=True)]
    coloured = maps.convert("L")
    coloured.putpalette(np.stack(channels, axis=-1).round().astype(np.uint8).tobytes())
    return coloured.convert("RGB")


def _frame(
    description: dict[str, Any], sheets: dict[str, Image.Image], column: int, rows: Sequence[int], contents: str
) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    model, size, kinds = description["models"][column], description["cell"], CONTENTS[contents]
    across = min(len(rows), 8)
    side = size * SCALE
    height = LABEL + len(kinds) * side + GAP
    frame = Image.new("RGB", (across * (side + GAP) + GAP, TOP + -(-len(rows) // across) * height), SURFACE)
    draw = ImageDraw.Draw(frame)
    count = model["poisoned_concept_count"]
    poisoned = model.get("poisoned", bool(count))
    title = _title(count, poisoned)
    if sum(other["poisoned_concept_count"] == count for other in description["models"]) > 1:
        title = f"{title}: {model['name']}"
    draw.text((GAP, 6), title, fill=POISONED if poisoned else BENIGN, font=ImageFont.load_default(20))
    for at, row in enumerate(rows):
        concept = description["concepts"][row]
        left, top = GAP + at % across * (side + GAP), TOP + at // across * height
        named = None not in (concept["poisoned_from"], count) and concept["poisoned_from"] <= count
        draw.text((left, top), concept["concept"], fill=POISONED if named else INK, font=ImageFont.load_default(14))
        for line, kind in enumerate(kinds):
            box = (column * size, row * size, (column + 1) * size, (row + 1) * size)
            cell = sheets[kind].crop(box).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            frame.paste(cell, (left, top + LABEL + line * side))
    return frame


def _title(count: int | None, poisoned: bool | None) -> str:
    if poisoned is None:
        return "poison not recorded"
    if not poisoned:
        return "benign"
    return "C_P not recorded" if count is None else f"{count} poisoned concepts"
