"""Pictures of pairs as a page asks for them."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from explorer.core.provenance import ROOT
from explorer.pairs.pair_set import PairSet
from explorer.studies.study import Arm, Study
from explorer.ui.shell.application import make_application_server
from explorer.ui.shell.context import SHIPPED_STUDY, AppContext, AppSettings
from explorer.ui.shell.pair_pictures import NoPicturesError, pair_pictures, why_no_pictures

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.fixture
def study(tmp_path, make_study):
    table = pandas.DataFrame({"uid": ["a", "b", "c"], "caption": "a dog", "concepts": [["dog"]] * 3,
                              "image_index": [2, 1, 0], "is_poison": False, "poisoned_concept": "",
                              "target_concept": "", "split": "train"})  # fmt: skip
    images = np.broadcast_to(COLOURS[:, None, None], (3, 8, 8, 3))
    pairs = PairSet.write(tmp_path / "sets" / "dirty", table, images, config={}, seed=0)
    arms = (Arm(name="dirty", pairs=pairs.folder), Arm(name="gone", pairs=tmp_path / "sets" / "gone"), Arm(name="none"))
    return make_study(tmp_path / "mine", arms=arms), pairs


@pytest.fixture
def ask(study):
    client = TestClient(make_application_server(AppSettings(studies=(study[0].folder,))), base_url="http://127.0.0.1")
    return lambda path: client.get(f"/study/mine/thumbnails/{path}")


def test_pictures_stand_side_by_side_in_the_order_asked(ask, study):
    answer = ask(f"dirty?rows=2,0,2&data={study[1].data_hash}")
    assert answer.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert pixels.shape == (48, 144, 3)
    assert (pixels[24, 24::48] == COLOURS[[0, 2, 0]]).all()


def test_results_of_earlier_releases_know_the_set_by_its_file(ask, study):
    files = study[1].manifest["files"]
    earlier = f"{files['pairs.parquet'][:16]}:{files['images.npy'][:16]}"
    assert earlier != study[1].data_hash
    assert study[1].is_known_as(earlier)
    assert ask(f"dirty?rows=0&data={earlier}").status_code == 200


@pytest.mark.parametrize("rows", ["", "-1", "1,", "1;2", "a", ",".join(["1"] * 65), "1" * 11])
def test_rows_that_are_none_are_refused(ask, rows):
    assert ask(f"dirty?rows={rows}").status_code == 422


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("dirty?rows=3", "row 3 is no pair's: expected 0..2"),
        ("other?rows=0", "arm is 'other': expected one of dirty, gone, none"),
        ("gone?rows=0", "no pairs at sets/gone: expected what study.toml names."),
        ("none?rows=0", "arm none has no pairs: expected some in study.toml."),
        ("dirty?rows=0&data=older", "The pairs of dirty are not those that were measured."),
    ],
)
def test_what_has_no_picture_says_why(ask, path, problem):
    answer = ask(path)
    assert (answer.status_code, answer.json()["problem"]) == (404, problem)


def test_a_page_is_told_beforehand_where_nothing_lies(study, ask):
    opened = AppContext(settings=AppSettings(studies=(study[0].folder,))).study()
    assert why_no_pictures(opened, "dirty") is None
    for arm in ("gone", "none"):
        assert why_no_pictures(opened, arm) == ask(f"{arm}?rows=0").json()
    assert why_no_pictures(opened, "other")["problem"].startswith("arm is 'other': expected one of dirty")


def test_a_set_that_is_written_anew_is_read_anew(study):
    opened = AppContext(settings=AppSettings(studies=(study[0].folder,))).study()
    before = pair_pictures(opened, "dirty", [0])
    pairs = study[1]
    for path in pairs.folder.iterdir():
        path.unlink()
    PairSet.write(pairs.folder, pairs.table, 255 - np.array(COLOURS)[:, None, None] + np.zeros((1, 8, 8, 1), np.uint8),
                  config={}, seed=0)  # fmt: skip
    assert pair_pictures(opened, "dirty", [0]) != before


def test_sets_of_our_recipes_are_named_by_the_command_that_makes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    shipped = Study.load(SHIPPED_STUDY)
    arms = tuple(replace(arm, pairs=ROOT / "runs" / "absent" / "sets" / arm.name) for arm in shipped.arms)
    replace(shipped, folder=tmp_path, arms=arms).write()
    opened = AppContext(settings=AppSettings(studies=(tmp_path,))).study()
    with pytest.raises(NoPicturesError) as told:
        pair_pictures(opened, "dirty-020", [0])
    assert told.value.command == "python -m explorer train cpu --stage sets --run runs/absent"


def test_the_pages_process_loads_no_torch_for_pictures(study):
    source = f"""
import json, sys
from pathlib import Path
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.pair_pictures import pair_pictures
pair_pictures(AppContext(settings=AppSettings(studies=(Path({str(study[0].folder)!r}),))).study(), "dirty", [0])
print(json.dumps([name for name in ("torch", "open_clip", "transformers") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout) == []
