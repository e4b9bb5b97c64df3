"""A study whose pairs can be filtered, and the whole app on it in a real chromium."""

import numpy as np
import pandas
import pytest
from PIL import Image

from explorer.alignment.graph_files import write_built_graphs
from explorer.alignment.graphs import FeatureGraph, PairGraphs
from explorer.alignment.layouts import LayoutQuality
from explorer.core.provenance import write_json
from explorer.defence.filter_files import Score, write_filters
from explorer.defence.payload_formats import RETRAINED as RETRAINED_FORMAT
from explorer.defence.scores import ScoreDescription
from explorer.studies.filtering import scored_pairs
from explorer.studies.results import FILTERS, GRAPHS, RETRAINED
from explorer.studies.study import Arm

PAIRS, POISONED = 40, 16
"""Of the arm ``dirty`` of :func:`scored`, the poisoned ones first."""
DRAWN = 38
"""Of these, the first ones, on Graphs."""


def _score(values, remove):
    values = np.asarray(values, np.float32)
    described = ScoreDescription(title=f"Title {remove}", words="What it says.", remove=remove)
    left = np.linspace(0.3, 0.1, np.isfinite(values).sum() + 1)
    return Score(values=values, description=described, provenance="made up", kept_structure_ad=left)


def _write_scored(place):
    random = np.random.default_rng(0)
    row, poison = np.arange(PAIRS), np.arange(PAIRS) < POISONED
    clip = (random.random(PAIRS) - 0.4 * poison).round(1)  # with equal ones
    clip[-1] = np.nan
    scores = {"clip_similarity": _score(clip, "lowest"),
              "feature_distance": _score(random.random(PAIRS) + 0.3 * poison, "highest")}  # fmt: skip
    for name, known in (("dirty", True), ("theirs", False)):
        table = pandas.DataFrame(
            {
                "uid": [f"{number:032x}" for number in row],
                "caption": [f"={number}+1, <b>a {'hat' if number % 3 else 'turtle'}" for number in row],
                "concepts": [["hat"] if number % 3 else ["turtle"] for number in row],
                "is_poison": poison if known else None,
                "poisoned_concept": np.where(poison, "turtle", "") if known else None,
                "target_concept": np.where(poison, "hat", "") if known else None,
            }
        )
        alignment = {"alpha": 0.8, "convention": "authors", "feature_ad": 0.6, "structure_ad": 0.3, "ad": 0.54}
        write_filters(place / name, name=name, table=table, rows=row, scores=scores, alignment=alignment, data_hash="h")


def _write_drawn(place):
    near = (np.arange(DRAWN)[:, None] + [1, 2]) % PAIRS
    quality = LayoutQuality(trustworthiness=0.9, preservation=0.5, neighbours=2, anchors=DRAWN)
    turn = 2 * np.pi * np.arange(PAIRS) / PAIRS
    layout = np.stack([np.cos(turn), np.sin(turn)], 1).astype(np.float32)[:DRAWN]
    side = FeatureGraph(
        neighbours=near, similarities=np.full((DRAWN, 2), 0.5, np.float32), layout=layout, quality=quality
    )
    table = pandas.DataFrame({"uid": [f"{number:032x}" for number in range(PAIRS)]})
    graphs = PairGraphs(text=side, image=side, rows=np.arange(DRAWN), seed=0)
    write_built_graphs(place / "dirty", graphs, name="dirty", table=table, scores={"structure_distance": turn})


def _write_retrained(place):
    def described(share, row):
        group = {"mean": share, "low": share - 0.1, "high": share + 0.1}
        groups = {"all": None, "pool": None, "unpoisoned": group, "poisoned": None}
        return {"metrics": {"top1": groups}, "per_concept": [share], "strip_row": row}

    def model(name, recipe, removed, row, against=None):
        return {"name": name, "kind": "filter", "recipe": recipe, "removed": removed, "kept": PAIRS - removed,
                "against_random": against, **described(0.5, row)}  # fmt: skip

    clip = {"score": "clip_similarity", "remove": "lowest", "cut": {"rank": 8}, "quota": None}
    against = {"model": "random-8", "top1": {"unpoisoned": {"mean": 0.2, "low": 0.1, "high": 0.3}}}
    models = [model("none-0", {"random": 0, "seed": 0}, 0, 1), model("clip-8", clip, 8, 2, against),
              model("random-8", {"random": 8, "seed": 0}, 8, 3)]  # fmt: skip
    recovery = {"name": "recovery-4", "kind": "recovery", "kept": 4, "share": 0.1, "steps": 20, "seconds": 3.0,
                **described(0.7, 4)}  # fmt: skip
    arms = {"dirty": {"unfiltered": described(0.3, 1), "models": models, "recovery": [recovery]}}
    payload = RETRAINED_FORMAT.written(
        concepts=[{"concept": "hat", "group": "other"}], drawn=["hat"], seeds=[0], tile=8, interval="-",
        control=described(0.9, 0), arms=arms,
    )  # fmt: skip
    write_json(place / RETRAINED_FORMAT.name, payload)
    Image.new("RGB", (8, 40)).save(place / "strip.png")


@pytest.fixture(scope="session")
def scored(tmp_path_factory, make_study):
    """A study of two arms that can be filtered, ``dirty`` and ``theirs``, of whose pairs nobody recorded the poison."""
    arms = (Arm(name="dirty"), Arm(name="theirs"))
    folder = tmp_path_factory.mktemp("scored") / "scored"
    results = {FILTERS: _write_scored, GRAPHS: _write_drawn, RETRAINED: _write_retrained}
    study = make_study(folder, arms=arms, results=results)
    (folder / "filters").mkdir()
    write_json(folder / "filters" / "kept.json", {"score": "clip_similarity", "remove": "lowest", "cut": {"rank": 5}})
    return study


@pytest.fixture(scope="module")
def address(scored, watch_page, serve_app):
    with serve_app("--study", scored.folder, "--no-warm-up") as address:
        yield address


@pytest.fixture
def page(address, watch_page):
    with watch_page(address) as page:
        yield page
        assert page.complaints == []


@pytest.fixture(scope="module")
def pairs(scored):
    return scored_pairs(scored, "dirty")
