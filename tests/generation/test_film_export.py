import io
import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from explorer.core.provenance import ROOT
from explorer.generation.film_export import (
    BAR,
    BOTTOM,
    GAP,
    LABEL,
    LEAST_WIDTH,
    LINE,
    MAP_COLOURS,
    MARK,
    SCALE,
    THEMES,
    TOP,
    VERDICT,
    film_strip_gif,
)
from explorer.generation.film_verdicts import DOUBT, RIGHT, WRONG, bounds_of, verdict_of

CELL = 16


@pytest.fixture
def strip():
    concepts = [{"concept": f"noun{row}", "poisoned_from": 2 if row == 0 else None} for row in range(3)]
    models = [
        {"name": name, "poisoned_concept_count": len(aims), "poisoned_concepts": aims, "poisoned_concepts_known": True,
         "cells": [{"scatter": 0.5} for _ in concepts]}
        for name, aims in (("benign", []), ("dirty", ["noun0", "elsewhere"]))
    ]  # fmt: skip
    description = {
        "cell": CELL, "seed": 7, "steps": 3, "guidance_scale": 4.0, "map_scale": 0.2, "prompt": "a photo of {phrase}",
        "concepts": concepts, "models": models,
    }  # fmt: skip
    grey = np.arange(6, dtype=np.uint8).reshape(3, 2).repeat(CELL, 0).repeat(CELL, 1) * 40
    sheets = {"images": Image.fromarray(np.stack([grey] * 3, axis=-1)), "maps": Image.fromarray(255 - grey)}
    return description, sheets


def frames_of(data):
    with Image.open(io.BytesIO(data)) as gif:
        comment, loop = gif.info["comment"], gif.info["loop"]
        frames = []
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
    return frames, json.loads(comment), loop


def test_one_frame_a_model_shows_its_own_cells(strip):
    frames, settings, loop = frames_of(film_strip_gif(*strip, [2, 0], ["images", "maps"]))
    assert len(frames) == 2
    assert loop == 0
    assert settings["concepts"] == ["noun2", "noun0"]
    assert settings["models"] == ["benign", "dirty"]
    assert settings["seed"] == 7
    assert settings["prompt"] == "a photo of {phrase}"
    side = CELL * SCALE
    for column, frame in enumerate(frames):
        for at, row in enumerate([2, 0]):
            grey = (row * 2 + column) * 40
            left, top = GAP + at * (side + GAP) + side // 2, TOP + LABEL + side // 2
            # A GIF frame has 256 colours.
            assert abs(frame[top, left] - grey).max() <= 4
            share = (255 - grey) / 255 * (len(MAP_COLOURS) - 1)
            channels = zip(*MAP_COLOURS, strict=True)
            coloured = [np.interp(share, range(len(MAP_COLOURS)), channel) for channel in channels]
            assert abs(frame[top + side, left] - coloured).max() <= 8


def test_every_theme_has_the_colours_of_the_app():
    sheet = (ROOT / "explorer/ui/shell/base.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", part)) for part in sheet.split("body.dark {", 1))
    for theme, colours in (("light", light), ("dark", dark)):
        expected = [colours[name] for name in ("surface", "ink", "ink-soft", "benign", "poisoned")]
        assert list(asdict(THEMES[theme]).values()) == expected


@pytest.mark.parametrize("theme", THEMES)
def test_the_ground_is_the_themes(strip, theme):
    frames, *_ = frames_of(film_strip_gif(*strip, [0], ["images"], theme))
    ground = [int(THEMES[theme].surface[at : at + 2], 16) for at in (1, 3, 5)]
    assert abs(frames[0][-1, -1] - ground).max() <= 4


def test_poison_is_told_by_a_frame_and_maps_by_their_scale(strip):
    (benign, dirty), *_ = frames_of(film_strip_gif(*strip, [0, 2], ["maps"], "dark"))
    side, edge = CELL * SCALE, TOP + LABEL
    corners = [frame[edge, GAP + at * (side + GAP)] for frame in (benign, dirty) for at in (0, 1)]
    orange = [abs(corner - [0xFF, 0x8A, 0x5C]).max() <= 12 for corner in corners]
    assert orange == [False, False, True, False], "the noun poisoned at 2, in the model with 2"
    bar = dirty[-BOTTOM + 28, GAP + 78 : GAP + 76 + BAR[0] - 2].sum(-1)
    assert bar[0] < bar[len(bar) // 2] < bar[-1], "the scale goes from dark to bright"


def test_the_colours_of_maps_are_those_of_the_screens():
    script = (ROOT / "explorer" / "ui" / "shell" / "maps.js").read_text(encoding="utf-8")
    written = re.search(r"const SEQUENTIAL = .*?\n(.*?)\];", script, re.DOTALL)[1]
    triples = re.findall(r"\[(\d+), (\d+), (\d+)\]", written)
    assert [tuple(map(int, triple)) for triple in triples] == list(MAP_COLOURS)


def test_only_a_map_that_is_the_same_everywhere_is_marked_flat(strip):
    description, sheets = strip
    usual = frames_of(film_strip_gif(*strip, [0, 1, 2], ["maps"]))[0]
    sheets["maps"].putpixel((CELL + 3, 3), 255 - 40 - 5)  # of the second model's first map
    for model in description["models"]:
        model["cells"] = [{"scatter": 1.0}, {"scatter": 1.0}, {"scatter": 0.9999}]
    marked = frames_of(film_strip_gif(*strip, [0, 1, 2], ["maps"]))[0]
    side, found = CELL * SCALE, []
    for before, after in zip(usual, marked, strict=True):
        assert after.shape[0] - before.shape[0] == LINE, "every frame, so that none jumps"
        for at in range(3):
            left, top = GAP + at * (side + GAP), TOP + LABEL
            found.append(bool((after[top + side - 18, left + 5 : left + 9].sum(-1) < 20).all()))
    assert found == [True, True, False, False, True, False]
    unmarked = frames_of(film_strip_gif(*strip, [0, 1, 2], ["images"]))[0]
    assert unmarked[0].shape[0] == usual[0].shape[0], "nothing to explain where no map is shown"


def test_guidance_maps_have_a_scale_of_their_own_and_a_model_without_any_says_so(strip):
    description, sheets = strip
    description["guidance_map_scale"] = 0.5
    sheets["guidance"] = Image.new("L", sheets["maps"].size, 128)
    for model, why in zip(description["models"], ("", "its guidance is distilled"), strict=True):
        model["no_guidance"] = why
    one, other = frames_of(film_strip_gif(*strip, [0], ["guidance"]))[0]
    side = CELL * SCALE
    marks = [bool((frame[TOP + LABEL + side - 18, GAP + 5 : GAP + 9].sum(-1) < 20).all()) for frame in (one, other)]
    assert marks == [False, True]
    place = 128 / 255 * (len(MAP_COLOURS) - 1)
    coloured = [np.interp(place, range(len(MAP_COLOURS)), channel) for channel in zip(*MAP_COLOURS, strict=True)]
    assert abs(one[TOP + LABEL + 2, GAP + side // 2] - coloured).max() <= 8
    (all_three, _), *_ = frames_of(film_strip_gif(*strip, [0], ["images", "maps", "guidance"]))
    assert all_three.shape[0] - one.shape[0] == 2 * side + LINE, "two cells more, and a scale more"


def test_many_concepts_break_into_lines(strip):
    (first, _), _, _ = frames_of(film_strip_gif(*strip, [0, 1, 2] * 3, ["images"]))
    side = CELL * SCALE
    assert first.shape[:2] == (TOP + 2 * (LABEL + side + GAP) + BOTTOM, max(8 * (side + GAP) + GAP, LEAST_WIDTH))


@pytest.mark.parametrize(
    ("rows", "kinds", "message"),
    [
        ([], ["images"], "0 concepts were asked for: expected 1 to 16"),
        ([3], ["images"], "row 3 is not in the film strip: expected 0 to 2"),
        ([-1], ["images"], "row -1 is not in the film strip"),
        ([0], ["images", "sound"], "images, sound is to be shown: expected some of images, maps"),
        ([0], ["guidance"], "guidance is to be shown: expected some of images, maps"),
        ([0], [], "nothing is to be shown: expected some of images, maps"),
    ],
)
def test_what_cannot_be_drawn_is_refused(strip, rows, kinds, message):
    with pytest.raises(ValueError, match=message):
        film_strip_gif(*strip, rows, kinds)
    with pytest.raises(ValueError, match="theme is 'blue': expected one of light, dark"):
        film_strip_gif(*strip, [0], ["images"], "blue")


def test_a_model_without_a_record_is_called_neither_benign_nor_poisoned(strip):
    description, sheets = strip
    titles = {}
    for poisoned, count in ((None, None), (True, None), (True, 2), (False, 0)):
        description["models"][1] |= {"poisoned": poisoned, "poisoned_concept_count": count}
        titles[poisoned, count] = frames_of(film_strip_gif(description, sheets, [0, 1, 2], ["images"]))[0][1][:TOP]
    shown = list(titles.values())
    assert all(np.abs(one - other).max() > 64 for place, one in enumerate(shown) for other in shown[:place])


def test_every_model_is_named(strip):
    description, sheets = strip

    def titles():
        return [frame[:TOP] for frame in frames_of(film_strip_gif(description, sheets, [0, 1, 2], ["images"]))[0]]

    (benign, before), found = titles(), []
    for name in ("another", "m" * 80):
        description["models"][1]["name"] = name
        same, named = titles()
        assert np.abs(same - benign).max() <= 4
        assert np.abs(named - before).max() > 64
        found.append(np.abs(named - named[0, -1]).max(axis=(0, 2)).nonzero()[0].max())
    assert found[0] < found[1] < LEAST_WIDTH - 1, "a long name is not cut off at the edge"


def test_what_the_judge_says_stands_below_each_picture(strip):
    description, sheets = strip
    usual = frames_of(film_strip_gif(*strip, [0, 1, 2], ["images"]))[0]
    seen = [
        {"top_concept": "noun0", "clip_similarity": 0.9, "margin": 0.2, "rank": 1},
        {"top_concept": "noun1", "clip_similarity": 0.6, "margin": 0.2, "rank": 1},
        {"top_concept": "noun0", "clip_similarity": 0.9, "margin": 0.2, "rank": 12},
    ]
    for model in description["models"]:
        model["cells"] = [{"scatter": 0.5, **cell} for cell in seen]
    description["sure"] = {"clip_similarity": 0.8, "margin": 0.1, "pictures": 9}
    frames, settings, _ = frames_of(film_strip_gif(description, sheets, [0, 1, 2], ["images"]))
    assert settings["sure"] == description["sure"]
    side, light = CELL * SCALE, THEMES["light"]
    assert frames[0].shape[0] > usual[0].shape[0] + VERDICT, "with what the marks mean"
    band = frames[0][TOP + LABEL + side : TOP + LABEL + side + VERDICT]
    for at, colour in enumerate((light.benign, light.soft, light.poisoned)):
        left = GAP + at * (side + GAP)
        darkest = min(band[:, left : left + side].reshape(-1, 3).tolist(), key=sum)
        expected = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert np.abs(np.array(darkest) - expected).max() <= 24, (at, darkest)


@pytest.mark.parametrize(
    ("cell", "bounds", "expected"),
    [
        ({"clip_similarity": 0.9, "margin": 0.2}, {"clip_similarity": 0.8, "margin": 0.1}, (RIGHT, "0.90")),
        ({"clip_similarity": 0.9, "margin": 0.0}, {"clip_similarity": 0.8, "margin": 0.1}, (DOUBT, "0.90")),
        ({"clip_similarity": 0.9}, {"clip_similarity": 0.8, "margin": 0.1}, (DOUBT, "0.90")),
        ({"clip_similarity": 0.9}, {"clip_similarity": 0.8, "margin": None}, (RIGHT, "0.90")),
        ({"clip_similarity": 0.9, "margin": 0.2}, None, (DOUBT, "0.90")),
        ({"top_concept": "cat", "rank": 2}, None, (WRONG, "cat, 2nd")),
        ({"top_concept": "cat", "rank": 113}, None, (WRONG, "cat, 113th")),
        ({"top_concept": "cat"}, None, (WRONG, "cat")),
    ],
)
def test_a_verdict_is_the_one_of_the_screens(cell, bounds, expected):
    found = verdict_of({"top_concept": "dog", **cell}, "dog", bounds)
    assert (found.kind, found.words) == expected
    assert verdict_of({"scatter": 0.5}, "dog", bounds) is None


def test_strips_of_earlier_releases_are_sure_by_tau_alone():
    assert bounds_of({"sure": None, "tau": 0.7}) is None
    assert bounds_of({"tau": 0.7}) == {"clip_similarity": 0.7, "margin": None}
    assert bounds_of({}) is None


def test_frames_are_what_the_models_own_poison_aims_at(strip):
    """Another model with as many poisoned concepts need not be poisoned with the same."""
    description, sheets = strip
    other = {**description["models"][1], "name": "other", "poisoned_concepts": ["noun2", "elsewhere"]}
    nested, _, _ = frames_of(film_strip_gif(description, sheets, [0, 1, 2], ["images"]))
    apart, _, _ = frames_of(
        film_strip_gif({**description, "models": [description["models"][0], other]}, sheets, [0, 1, 2], ["images"])
    )
    band = slice(TOP + LABEL, TOP + LABEL + CELL * SCALE)  # where the pictures are, and their frames
    changed = (abs(nested[1] - apart[1])[band].max(axis=(0, 2)) > 60).nonzero()[0]
    assert {(place - GAP) // (CELL * SCALE + GAP) for place in changed} == {0, 2}


def test_a_model_whose_aims_are_not_recorded_calls_nothing_unpoisoned(strip):
    description, sheets = strip
    silent = {**description["models"][1], "poisoned_concepts": [], "poisoned_concepts_known": False}
    models = [description["models"][0], silent]
    known, _, _ = frames_of(film_strip_gif(description, sheets, [1], ["images"]))
    unknown, _, _ = frames_of(film_strip_gif({**description, "models": models}, sheets, [1], ["images"]))
    assert (known[1][:, : GAP + MARK] != unknown[1][:, : GAP + MARK]).any(), "no mark stands before the noun"
