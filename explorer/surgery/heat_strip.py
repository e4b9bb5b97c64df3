"""A picture of what each block of the U-Net brings back by itself: a strip of colours, in the order of the network."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw, ImageFont

PREFIX = "block-"
SIDE, HIGH, LEFT, TOP, FOOT, BAR = 132, 56, 110, 40, 34, 30
LEAST = 720
"""Pixels of width, for the words beside the bar of colours."""
INK, PAPER = (24, 24, 28), (255, 255, 255)
UNKNOWN = (200, 200, 200)
"""Of every block where the graft ``all`` is where the recipient was, so that there is no scale."""
MORE, LESS = (27, 120, 55), (178, 24, 43)
"""Of a block that moves the model all the way to the graft ``all``, and as far the other way; white moves nothing."""


def heat_strip(way: dict[str, Any]) -> Image.Image | None:
    """One direction of a ``graft-study.json``: for every block top-1 and, where it was metered and the graft ``all``
    has any, sensitivity, coloured by their way from the recipient's (white) to those of the graft ``all``.

    Returns:
        An RGB picture; None where no block was measured by itself.
    """
    entries = {entry["name"]: entry for entry in way["operations"]}
    blocks = [entry for name, entry in entries.items() if name.startswith(PREFIX)]
    if not blocks:
        return None
    rows = {"top-1": lambda entry: entry["groups"][way["group"]]["accuracy"]["value"]}
    meter = entries["all"]["meter"]
    if meter is not None and meter[way["group"]]["sensitivity"]["of_all"] is not None:
        rows["hears"] = lambda entry: entry["meter"][way["group"]]["sensitivity"]["of_all"]["value"]
    size = (max(LEFT + SIDE * len(blocks) + 10, LEAST), TOP + HIGH * len(rows) + FOOT + BAR)
    picture = Image.new("RGB", size, PAPER)
    pen, plain = ImageDraw.Draw(picture), ImageFont.load_default(16)
    pen.text((10, 10), f"{way['recipient']} with one block of {way['donor']}", fill=INK, font=plain)
    for line, (label, value) in enumerate(rows.items()):
        none, everything = value(entries["none"]), value(entries["all"])
        top = TOP + line * HIGH
        pen.text((10, top + 10), f"{label}\n{none:.2f} to {everything:.2f}", fill=INK, font=ImageFont.load_default(13))
        for at, entry in enumerate(blocks):
            found = value(entry)
            share = (found - none) / (everything - none) if everything != none else None
            box = (LEFT + at * SIDE, top, LEFT + (at + 1) * SIDE - 3, top + HIGH - 3)
            pen.rectangle(box, fill=_colour(share), outline=INK)
            pen.text((box[0] + 10, top + 16), f"{found:.2f}", fill=INK if abs(share or 0) < 0.6 else PAPER, font=plain)
    for at, entry in enumerate(blocks):
        place = (LEFT + at * SIDE, TOP + HIGH * len(rows) + 6)
        pen.text(place, entry["name"].removeprefix(PREFIX), fill=INK, font=ImageFont.load_default(14))
    _colour_bar(pen, size[1] - BAR)
    return picture


def _colour_bar(pen: ImageDraw.ImageDraw, top: int) -> None:
    """What the colours mean, from the one end by white to the other."""
    left, width, plain = LEFT + 120, 240, ImageFont.load_default(13)
    for at in range(width):
        pen.line((left + at, top + 4, left + at, top + 16), fill=_colour(2 * at / (width - 1) - 1))
    pen.rectangle((left - 1, top + 3, left + width, top + 17), outline=INK)
    pen.text((left - 8, top + 2), "as far the other way", fill=INK, font=plain, anchor="ra")
    pen.text((left + width + 8, top + 2), "as far as all weights; white: not at all", fill=INK, font=plain)


def _colour(share: float | None) -> tuple[int, int, int]:
    if share is None:
        return UNKNOWN
    weight, end = min(1.0, abs(share)), MORE if share > 0 else LESS
    return tuple(round(paper + weight * (colour - paper)) for paper, colour in zip(PAPER, end, strict=True))
