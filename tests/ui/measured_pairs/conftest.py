"""The whole app on a study of made-up pairs, for the screens that show pairs: Graphs and Alignment difficulty."""

import json

import numpy as np
import pytest

from explorer.studies.results import EVALUATION, GRAPHS, SCORES
from tests.ui.measured_pairs.made_up_pairs import SPACED, describe_set, write_graphs

MEANS = (0.8, 0.5, 0.3)
"""What the models draw right, of nouns that are not targeted."""
HOW_DRAWN = {"prompt": "a photo of C", "seeds": [0], "steps": 2, "guidance_scale": 2.0}


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
    apart = {**describe_set("apart", 0, poisoned & False, recorded=False), "extractor": "another"}
    apart["alignment_difficulty"]["structure_ad"] = apart["mean_offset"]["mean_absolute_offset"] = 0  # as of one pair
    sets.insert(1, apart)
    bounds = [{"low": mean - 0.1, "high": mean + 0.2} for mean in MEANS]
    shares = [{"mean": mean, **each, "over_concepts": each} for mean, each in zip(MEANS, bounds, strict=True)]
    del shares[-1]["over_concepts"]  # as of an earlier release
    judged = [{"name": name, "accuracy": {"unpoisoned": share}} for name, share in zip(names, shares, strict=True)]
    results = {
        SCORES: {"alignment.json": json.dumps({"version": 1, "sets": sets})},
        EVALUATION: {"evaluation.json": json.dumps({"models": judged, **HOW_DRAWN})}, GRAPHS: write,
    }  # fmt: skip
    study = make_study(tmp_path_factory.mktemp("studies") / "measured", results=results)
    return study, kept["graphs"], kept["scores"]


@pytest.fixture(scope="module")
def app(drawn, watch_page, serve_app):
    """Address of the whole app on that study, and the study."""
    study, _, _ = drawn
    with serve_app("--study", study.folder, "--no-warm-up") as address:
        yield address, study


@pytest.fixture
def page(app, watch_page):
    """A page whose console errors and requests beyond this machine fail the test."""
    with watch_page(app[0]) as page:
        page.goto("/")
        yield page
        assert page.complaints == []
