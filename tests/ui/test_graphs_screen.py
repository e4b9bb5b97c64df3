"""Payload and endpoint of the Graphs screen."""

import copy
import json

import gradio as gr
import pytest

from explorer.core.provenance import ManifestError
from explorer.studies.results import GRAPHS, step_folder
from explorer.ui.screens.graphs.screen import build_graphs_screen, check_graphs, graphs_payload, inspection
from explorer.ui.shell.context import AppContext, AppSettings

MALICIOUS = "a <img src=x onerror=alert(1)> & “turtle”"


def graphs():
    """Three pairs, each with two neighbours on either side."""
    scores = {name: [0.9, 0.1, 0.4] for name in ("feature_distance", "structure_distance", "sample_ad")}
    ranks = {f"{name}_rank": [1, 30, 12] for name in scores}
    side = {"layout": [[0, 1], [1, 0], [-1, -1]], "similarities": [[0.9, 0.2], [0.8, 0.3], [0.7, 0.1]]}
    return {
        "version": 1,
        "set": {"name": "dirty", "pairs": 40, "poisoned_pairs": 8, "poisoned_concept_count": 2},
        **dict.fromkeys(("extractor", "alpha", "convention", "feature_range")),
        "sampling": {"method": "3 of 40 pairs are drawn"},
        "neighbour_count": 2,
        "thumbnails": {"size": 48, "columns": 40},
        "samples": {
            "uid": ["a", "b", "c"],
            "caption": [MALICIOUS, "a dog", "a cat"],
            "concepts": [["turtle"], ["dog"], ["cat"]],
            "main_concept": ["turtle", "dog", "cat"],
            "is_poison": [1, 0, 0],
            "poisoned_concept": ["turtle", "", ""],
            "target_concept": ["hat", "", ""],
            **scores,
            **ranks,
        },
        "text": {**side, "neighbours": [[1, 2], [0, 2], [1, 0]]},
        "image": {**side, "neighbours": [[2, 1], [2, 0], [0, 1]]},
        "movers": [0, 2, 1],
    }


@pytest.fixture
def study(tmp_path, make_study, open_study):
    files = {"graphs.json": json.dumps(graphs()), "thumbnails.png": b"png"}
    return open_study(make_study(tmp_path / "mine", results={GRAPHS: files}).folder)


def test_payload_adds_the_thumbnails_and_leaves_the_kept_json_alone(study):
    payload = graphs_payload(study)
    assert payload["thumbnails_url"].startswith("/study/mine/graphs/thumbnails.png?v=")
    assert "thumbnails_url" not in study.result_json(GRAPHS, "graphs.json")
    assert payload["samples"]["caption"][0] == MALICIOUS, "data, not HTML: the browser writes it into a text node"


def test_changed_artefact_is_refused(study):
    path = step_folder(study.study, GRAPHS) / "graphs.json"
    path.write_text(path.read_text().replace("0.9", "0.8"))
    with pytest.raises(ManifestError, match=r"graphs\.json was changed"):
        graphs_payload(study)


def test_missing_thumbnails_are_refused(study):
    (step_folder(study.study, GRAPHS) / "thumbnails.png").unlink()
    with pytest.raises(ManifestError, match=r"thumbnails\.png is missing"):
        graphs_payload(study)


def test_other_versions_and_broken_lists_are_refused():
    payload = graphs()
    check_graphs(payload)
    with pytest.raises(ManifestError, match="format version 9: expected 1"):
        check_graphs({**payload, "version": 9})
    broken = copy.deepcopy(payload)
    broken["image"]["layout"] = broken["image"]["layout"][:2]
    with pytest.raises(ManifestError, match="2 entries of image layout for 3 pairs"):
        check_graphs(broken)


def test_inspection_of_a_poisoned_pair():
    found = inspection(graphs(), "a")
    assert (found["is_poison"], found["poisoned_concept"], found["target_concept"]) == (True, "turtle", "hat")
    assert found["scores"]["sample_ad"] == 0.9
    assert found["ranks"]["sample_ad"] == 1
    assert found["ranked_pairs"] == 40
    assert [near["uid"] for near in found["neighbours"]["text"]] == ["b", "c"]
    assert [near["uid"] for near in found["neighbours"]["image"]] == ["c", "b"]
    assert found["neighbours"]["text"][0]["similarity"] == 0.9


def test_inspection_tells_ties_and_what_nobody_recorded():
    payload = graphs()
    payload["samples"] |= {"is_poison": [None, 0, 0], "sample_ad_rank_last": [7, 30, 12]}
    found = inspection(payload, "a")
    assert (found["is_poison"], inspection(payload, "b")["neighbours"]["text"][0]["is_poison"]) == (None, None)
    assert (found["ranks"]["sample_ad"], found["last_ranks"]["sample_ad"]) == (1, 7)
    assert found["last_ranks"]["feature_distance"] is None, "an artefact of an earlier release does not say"


def test_inspection_separates_agreeing_from_disagreeing_neighbours():
    payload = graphs()
    payload["image"]["neighbours"][1] = [2, 1]
    payload["text"]["neighbours"][1] = [0, 2]
    found = inspection(payload, "b")
    assert (found["agreed"], found["only_text"], found["only_image"]) == (["c"], ["a"], ["b"])


def test_inspection_of_an_unknown_pair_names_it():
    with pytest.raises(ValueError, match="pair 'z' is not drawn: expected one of the 3 pairs"):
        inspection(graphs(), "z")


def test_screen_builds_and_exposes_a_plain_endpoint(study):
    context = AppContext(settings=AppSettings(studies=(study.study.folder,)))
    with gr.Blocks() as blocks:
        build_graphs_screen(context)
    names = [function.api_name for function in blocks.fns.values()]
    assert "inspect_pair" in names
    assert set(context.payloads) == {"graphs"}
