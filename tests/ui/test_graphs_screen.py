"""Payload, endpoint and exports of the Graphs screen."""

import io
import json

import gradio as gr
import numpy as np
import pandas
import pytest
from pyarrow import parquet

from explorer.alignment.graph_files import write_built_graphs
from explorer.alignment.graphs import FeatureGraph, PairGraphs
from explorer.alignment.layouts import LayoutQuality
from explorer.core.provenance import ManifestError
from explorer.studies.results import GRAPHS, step_folder
from explorer.ui.screens.graphs.export import export_selection
from explorer.ui.screens.graphs.payload import drawn_set, graphs_payload
from explorer.ui.screens.graphs.screen import build_graphs_screen, inspection
from explorer.ui.screens.graphs.selection_code import decode_rows
from explorer.ui.shell.context import AppContext, AppSettings

MALICIOUS = "a <img src=x onerror=alert(1)> & “turtle”"
FIRST = "0123456789abcdef" * 2
UIDS = [FIRST, "b", "f" * 32]


def write_set(folder, name, poisoned=True):
    """Three pairs, each with two neighbours on either side; the last one's flag is not recorded."""
    quality = LayoutQuality(trustworthiness=0.9, preservation=0.5, neighbours=2, anchors=3)
    similarities = np.array([[0.9, 0.2], [0.8, 0.3], [0.7, 0.1]], np.float32)
    layout = np.array([[0, 1], [1, 0], [-1, -1]], np.float32)

    def side(neighbours):
        return FeatureGraph(neighbours=np.array(neighbours), similarities=similarities, layout=layout, quality=quality)

    graphs = PairGraphs(
        text=side([[1, 2], [0, 2], [1, 3]]), image=side([[2, 1], [2, 1], [0, 1]]), rows=np.array([0, 1, 2]),
        seed=0,
    )  # fmt: skip
    table = pandas.DataFrame(
        {
            "uid": [*UIDS, "not drawn"],
            "caption": [MALICIOUS, "a dog", "a cat", "a bird"],
            "concepts": [["turtle", "hat"], ["dog"], ["cat"], []],
            "is_poison": [poisoned, False, None, False],
            "poisoned_concept": ["turtle" if poisoned else "", "", None, ""],
            "target_concept": ["hat" if poisoned else "", "", None, ""],
        }
    )
    scores = {"structure_distance": np.array([0.9, 0.1, 0.9, 0.4]), "loss": np.array([0.2, np.nan, 0.1, np.nan])}
    write_built_graphs(folder / name, graphs, name=name, table=table, scores=scores,
                               read_images=lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8))  # fmt: skip


def write_sets(folder):
    write_set(folder, "dirty")
    write_set(folder, "clean", poisoned=False)


@pytest.fixture
def study(tmp_path, make_study, open_study):
    return open_study(make_study(tmp_path / "mine", results={GRAPHS: write_sets}).folder)


def test_payload_lists_every_set_and_where_its_files_are(study):
    sets = graphs_payload(study)["sets"]
    assert [entry["name"] for entry in sets] == ["clean", "dirty"]
    assert sets[1]["columns_url"].startswith("/study/mine/graphs/dirty/columns.bin?v=" + sets[1]["stamp"])
    assert sets[1]["pictures_url"] == "/study/mine/thumbnails/dirty"
    assert sets[1]["thumbnails_url"].startswith("/study/mine/graphs/dirty/thumbnails.png?v=")
    assert (sets[1]["pairs"], sets[1]["poisoned_pairs"], sets[1]["poison_recorded"]) == (4, 1, False)


@pytest.mark.parametrize("name", ["columns.bin", "graphs.json"])
def test_changed_artefact_is_refused(study, name):
    path = step_folder(study.study, GRAPHS) / "dirty" / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ManifestError, match=rf"{name} was changed"):
        graphs_payload(study)


def test_missing_thumbnails_are_refused(study):
    (step_folder(study.study, GRAPHS) / "dirty" / "thumbnails.png").unlink()
    with pytest.raises(ManifestError, match=r"thumbnails\.png is missing"):
        graphs_payload(study)


def test_without_graphs_or_with_another_versions_it_says_so(tmp_path, make_study, open_study):
    with pytest.raises(ManifestError, match="mine has not measured which captions"):
        graphs_payload(open_study(make_study(tmp_path / "mine").folder))

    def write_old(folder):
        (folder / "old").mkdir()
        (folder / "old" / "graphs.json").write_text(json.dumps({"version": 1}))

    make_study(tmp_path / "mine", results={GRAPHS: write_old})
    with pytest.raises(ManifestError, match="format version 1: expected 2"):
        graphs_payload(open_study(tmp_path / "mine"))


def test_inspection_of_a_poisoned_pair(study):
    found = inspection(drawn_set(study, ""), FIRST)
    assert (found["set"], found["caption"], found["concepts"]) == ("dirty", MALICIOUS, ["turtle", "hat"])
    assert (found["is_poison"], found["poisoned_concept"], found["target_concept"]) == (True, "turtle", "hat")
    assert found["scores"]["structure_distance"] == pytest.approx(0.9)
    assert (found["ranks"]["structure_distance"], found["last_ranks"]["structure_distance"]) == (1, 2)
    assert found["ranked_pairs"] == 4
    assert [near["uid"] for near in found["neighbours"]["text"]] == UIDS[1:]
    assert found["neighbours"]["image"][0]["similarity"] == pytest.approx(0.9)
    assert json.dumps(found), "plain data"


def test_inspection_tells_what_nobody_recorded_measured_or_drew(study):
    found = inspection(drawn_set(study, "dirty"), UIDS[2])
    assert (found["is_poison"], found["poisoned_concept"]) == (None, None)
    assert found["neighbours"]["text"][1] == {
        "uid": None, "row": 3, "caption": None, "is_poison": None, "similarity": pytest.approx(0.1),
    }  # fmt: skip
    other = inspection(drawn_set(study, "dirty"), "b")
    assert (other["scores"]["loss"], other["ranks"]["loss"]) == (None, None)


def test_inspection_separates_agreeing_from_disagreeing_neighbours(study):
    found = inspection(drawn_set(study, "clean"), "b")
    assert (found["agreed"], found["only_text"], found["only_image"]) == ([UIDS[2]], [FIRST], ["b"])


def test_what_is_not_there_is_named(study):
    with pytest.raises(ValueError, match="pair 'z' is not drawn: expected one of the 3 pairs of dirty"):
        inspection(drawn_set(study, "dirty"), "z")
    with pytest.raises(ValueError, match="set is 'gone': expected one of clean, dirty"):
        drawn_set(study, "gone")
    with pytest.raises(ValueError, match="have been drawn again since"):
        drawn_set(study, "dirty", stamp="00000000")


def test_screen_builds_and_exposes_a_plain_endpoint(study):
    context = AppContext(settings=AppSettings(studies=(study.study.folder,)))
    with gr.Blocks() as blocks:
        build_graphs_screen(context)
    names = [function.api_name for function in blocks.fns.values()]
    assert "inspect_pair" in names
    assert set(context.payloads) == {"graphs"}


def export(study, code, form):
    stamp = graphs_payload(study)["sets"][1]["stamp"]
    return export_selection(study, "dirty", stamp, code, form)


def test_a_selection_is_saved_as_parquet(study):
    table = parquet.read_table(io.BytesIO(export(study, "bAw", "parquet")))  # bits 0 and 1
    assert table["uid"].to_pylist() == UIDS[:2]
    assert table["caption"].to_pylist() == [MALICIOUS, "a dog"]
    assert table["kind"].to_pylist() == ["poisoned", "benign"]
    assert table["structure_distance"].to_pylist() == pytest.approx([0.9, 0.1])
    assert json.loads(table.schema.metadata[b"origin"])["set"]["name"] == "dirty"


def test_a_selection_is_saved_for_datacomp(study):
    found = np.load(io.BytesIO(export(study, "gAAE", "npy")), allow_pickle=False)  # row 0, then one is left out
    assert found.dtype == np.dtype("u8,u8")
    assert found.tolist() == [(int(FIRST[:16], 16), int(FIRST[16:], 16)), (2**64 - 1, 2**64 - 1)]
    with pytest.raises(ValueError, match="uid 'b' is none of DataComp's: expected 32 hexadecimal digits"):
        export(study, "bAw", "npy")
    with pytest.raises(ValueError, match="format is 'exe': expected parquet or npy"):
        export(study, "bAw", "exe")


@pytest.mark.parametrize("code", ["", "x", "g", "bAA", "gAP8", "b~~", "gBA", "gAAAAAA", "g" + "_" * 9999, "bCA"])
def test_what_is_no_selection_is_refused(code):
    with pytest.raises(ValueError, match="rows is no selection of these 3 pairs"):
        decode_rows(code, 3)


def test_rows_are_decoded():
    assert decode_rows("gAA", 3).tolist() == [0]
    assert decode_rows("gyAEA", 1000).tolist() == [200, 201], "a gap of 200 takes two bytes"
    assert decode_rows("bBQ", 3).tolist() == [0, 2]
