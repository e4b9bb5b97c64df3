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
from explorer.alignment.layouts import LayoutQuality, LayoutSettings
from explorer.core.provenance import ManifestError, write_manifest
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
        settings=LayoutSettings(), seed=0,
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
    place = f"graphs/{name}"
    names = write_built_graphs(folder / place, graphs, name=name, table=table, scores=scores,
                               read_images=lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8))  # fmt: skip
    return [f"{place}/{name}" for name in names]


@pytest.fixture
def context(tmp_path):
    files = write_set(tmp_path, "dirty") + write_set(tmp_path, "clean", poisoned=False)
    write_manifest(tmp_path, kind="precomputed", config={}, seed=0, files=files)
    return AppContext(settings=AppSettings(precomputed=tmp_path))


def test_payload_lists_every_set_and_where_its_files_are(context):
    sets = graphs_payload(context)["sets"]
    assert [entry["name"] for entry in sets] == ["clean", "dirty"]
    assert sets[1]["columns_url"].startswith("/precomputed/graphs/dirty/columns.bin?v=" + sets[1]["stamp"])
    assert sets[1]["thumbnails_url"].startswith("/precomputed/graphs/dirty/thumbnails.png?v=")
    assert (sets[1]["pairs"], sets[1]["poisoned_pairs"], sets[1]["poison_recorded"]) == (4, 1, False)


@pytest.mark.parametrize("name", ["columns.bin", "graphs.json"])
def test_changed_artefact_is_refused(context, name):
    path = context.settings.precomputed / "graphs" / "dirty" / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ManifestError, match=rf"{name} was changed"):
        graphs_payload(context)


def test_missing_thumbnails_are_refused(context):
    (context.settings.precomputed / "graphs" / "dirty" / "thumbnails.png").unlink()
    with pytest.raises(ManifestError, match=r"thumbnails\.png is missing"):
        graphs_payload(context)


def test_without_graphs_or_with_another_versions_it_says_so(tmp_path):
    context = AppContext(settings=AppSettings(precomputed=tmp_path))
    with pytest.raises(ManifestError, match="No graphs have been drawn yet"):
        graphs_payload(context)
    folder = tmp_path / "graphs" / "old"
    folder.mkdir(parents=True)
    (folder / "graphs.json").write_text(json.dumps({"version": 1}))
    write_manifest(tmp_path, kind="precomputed", config={}, seed=0, files=["graphs/old/graphs.json"])
    with pytest.raises(ManifestError, match="format version 1: expected 2"):
        graphs_payload(context)


def test_inspection_of_a_poisoned_pair(context):
    found = inspection(drawn_set(context, ""), FIRST)
    assert (found["set"], found["caption"], found["concepts"]) == ("dirty", MALICIOUS, ["turtle", "hat"])
    assert (found["is_poison"], found["poisoned_concept"], found["target_concept"]) == (True, "turtle", "hat")
    assert found["scores"]["structure_distance"] == pytest.approx(0.9)
    assert (found["ranks"]["structure_distance"], found["last_ranks"]["structure_distance"]) == (1, 2)
    assert found["ranked_pairs"] == 4
    assert [near["uid"] for near in found["neighbours"]["text"]] == UIDS[1:]
    assert found["neighbours"]["image"][0]["similarity"] == pytest.approx(0.9)
    assert json.dumps(found), "plain data"


def test_inspection_tells_what_nobody_recorded_measured_or_drew(context):
    found = inspection(drawn_set(context, "dirty"), UIDS[2])
    assert (found["is_poison"], found["poisoned_concept"]) == (None, None)
    assert found["neighbours"]["text"][1] == {
        "uid": None, "row": 3, "caption": None, "is_poison": None, "similarity": pytest.approx(0.1),
    }  # fmt: skip
    other = inspection(drawn_set(context, "dirty"), "b")
    assert (other["scores"]["loss"], other["ranks"]["loss"]) == (None, None)


def test_inspection_separates_agreeing_from_disagreeing_neighbours(context):
    found = inspection(drawn_set(context, "clean"), "b")
    assert (found["agreed"], found["only_text"], found["only_image"]) == ([UIDS[2]], [FIRST], ["b"])


def test_what_is_not_there_is_named(context):
    with pytest.raises(ValueError, match="pair 'z' is not drawn: expected one of the 3 pairs of dirty"):
        inspection(drawn_set(context, "dirty"), "z")
    with pytest.raises(ValueError, match="set is 'gone': expected one of clean, dirty"):
        drawn_set(context, "gone")
    with pytest.raises(ValueError, match="have been drawn again since"):
        drawn_set(context, "dirty", stamp="00000000")


def test_screen_builds_and_exposes_a_plain_endpoint(context):
    with gr.Blocks() as blocks:
        build_graphs_screen(context)
    names = [function.api_name for function in blocks.fns.values()]
    assert "inspect_pair" in names
    assert set(context.payloads) == {"graphs"}


def export(context, code, form):
    stamp = graphs_payload(context)["sets"][1]["stamp"]
    return export_selection(context, "dirty", stamp, code, form)


def test_a_selection_is_saved_as_parquet(context):
    table = parquet.read_table(io.BytesIO(export(context, "bAw", "parquet")))  # bits 0 and 1
    assert table["uid"].to_pylist() == UIDS[:2]
    assert table["caption"].to_pylist() == [MALICIOUS, "a dog"]
    assert table["kind"].to_pylist() == ["poisoned", "benign"]
    assert table["structure_distance"].to_pylist() == pytest.approx([0.9, 0.1])
    assert json.loads(table.schema.metadata[b"origin"])["set"]["name"] == "dirty"


def test_a_selection_is_saved_for_datacomp(context):
    found = np.load(io.BytesIO(export(context, "gAAE", "npy")), allow_pickle=False)  # row 0, then one is left out
    assert found.dtype == np.dtype("u8,u8")
    assert found.tolist() == [(int(FIRST[:16], 16), int(FIRST[16:], 16)), (2**64 - 1, 2**64 - 1)]
    with pytest.raises(ValueError, match="uid 'b' is none of DataComp's: expected 32 hexadecimal digits"):
        export(context, "bAw", "npy")
    with pytest.raises(ValueError, match="format is 'exe': expected parquet or npy"):
        export(context, "bAw", "exe")


@pytest.mark.parametrize("code", ["", "x", "g", "bAA", "gAP8", "b~~", "gBA", "gAAAAAA", "g" + "_" * 9999, "bCA"])
def test_what_is_no_selection_is_refused(code):
    with pytest.raises(ValueError, match="rows is no selection of these 3 pairs"):
        decode_rows(code, 3)


def test_rows_are_decoded():
    assert decode_rows("gAA", 3).tolist() == [0]
    assert decode_rows("gyAEA", 1000).tolist() == [200, 201], "a gap of 200 takes two bytes"
    assert decode_rows("bBQ", 3).tolist() == [0, 2]
