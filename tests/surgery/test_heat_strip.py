"""The strip of blocks: one cell a block in the network's order, coloured by its way to the graft of everything."""

import json

import pytest

from explorer.core.provenance import ROOT
from explorer.surgery.heat_strip import BAR, HIGH, LEAST, LEFT, LESS, MORE, PAPER, SIDE, TOP, heat_strip


def entry(name, accuracy, hears):
    of_all = {"sensitivity": {"of_all": {"value": hears}}}
    return {"name": name, "groups": {"all": {"accuracy": {"value": accuracy}}}, "meter": {"all": of_all}}


def corner(picture, row, column):
    """The colour of a cell, away from its number."""
    return picture.getpixel((LEFT + column * SIDE + SIDE - 10, TOP + row * HIGH + HIGH - 8))


def test_a_cell_is_coloured_by_its_share_of_everything():
    operations = [entry("none", 0.2, 0.4), entry("block-down", 0.2, 1.0), entry("block-up", 0.8, 0.1),
                  entry("all", 0.8, 1.0)]  # fmt: skip
    way = {"recipient": "dirty", "donor": "benign", "group": "all", "operations": operations}
    picture = heat_strip(way)
    assert picture.width == LEAST > LEFT + 2 * SIDE
    assert [corner(picture, 0, at) for at in (0, 1)] == [PAPER, MORE], "top-1: nothing, everything"
    assert corner(picture, 1, 0) == MORE, "hears as much as with all"
    half = [(paper + end) / 2 for paper, end in zip(PAPER, LESS, strict=True)]
    assert corner(picture, 1, 1) == pytest.approx(half, abs=1), "half as far the other way"
    bar = [picture.getpixel((LEFT + 120 + at, picture.height - BAR + 10)) for at in (0, 239)]
    assert bar == [LESS, MORE]
    for each in operations:
        each["meter"]["all"]["sensitivity"]["of_all"] = None
    assert heat_strip(way).height == picture.height - HIGH, "all hears nothing, of which there is no share"
    for each in operations:
        each["meter"] = None
    assert heat_strip(way).height == picture.height - HIGH, "not metered: one row"


def test_without_blocks_there_is_no_strip():
    way = {"recipient": "a", "donor": "b", "group": "all", "operations": [entry("none", 0, 1), entry("all", 1, 1)]}
    assert heat_strip(way) is None


def test_the_shipped_strip_can_be_drawn_again():
    stored = ROOT / "assets" / "experiments" / "surgery" / "strip.json"
    (way,) = json.loads(stored.read_text(encoding="utf-8"))["directions"]
    assert heat_strip(way).width == LEFT + 7 * SIDE + 10
