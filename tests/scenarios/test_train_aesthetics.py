"""An aesthetics head that is fitted to damage: what it tells apart, what its file says, and what is refused."""

import json

import numpy as np
import pandas
import pytest
import torch

from explorer.cli.application import application, load_commands
from explorer.cli.small_models import with_interval
from explorer.core.provenance import check_files, read_manifest
from explorer.embeddings.open_clip_extractor import load_open_clip
from explorer.evaluation.aesthetics import AestheticsHead
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.damaged_pictures import TRAINED, UNSEEN
from explorer.scenarios.train_aesthetics import WEIGHTS_NAME, train_aesthetics


def squares(folder, count, seed):
    """Pictures of one bright square each, a test pair among them."""
    images, random = np.full((count, 32, 32, 3), 40, np.uint8), np.random.default_rng(seed)
    for image, (row, column) in zip(images, random.integers(2, 16, (count, 2)), strict=True):
        image[row : row + 12, column : column + 12] = random.integers(120, 255, 3)
    table = pandas.DataFrame({
        "uid": [f"p{row}" for row in range(count)], "caption": "a square", "concepts": [["dog"]] * count,
        "image_index": range(count), "is_poison": False, "poisoned_concept": "", "target_concept": "",
        "split": ["train"] * (count - 1) + ["test"],
    })  # fmt: skip
    return PairSet.write(folder, table, images, config={"poison": {"kind": "none"}}, seed=seed)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    return squares(folder / "seen", 400, 0), squares(folder / "fresh", 120, 1)


@pytest.fixture(scope="module")
def extractor(open_clip_folder):
    return load_open_clip(f"local-dir:{open_clip_folder}", open_clip_folder / "w.safetensors", None)


@pytest.fixture(scope="module")
def made(sets, extractor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "head"
    return folder, train_aesthetics(extractor, *sets, folder)


def test_whole_pictures_score_above_damaged_ones_that_it_never_saw(made, sets, extractor):
    _, manifest = made
    check_files(made[0], manifest)
    ways = manifest["metrics"]["ways"]
    assert {way for way, told in ways.items() if told["trained"]} == set(TRAINED)
    assert {way for way, told in ways.items() if not told["trained"]} == set(UNSEEN)
    shown, unseen = ways["bent"]["auc"], ways["faded"]["auc"]
    assert shown["1.0"]["value"] > 0.6, "what sixteen random features see of it"
    assert unseen["1.0"]["value"] > 0.7
    assert unseen["0.25"]["value"] < unseen["1.0"]["value"]
    assert unseen["1.0"]["low"] < unseen["1.0"]["value"] < unseen["1.0"]["high"] <= 1
    assert (manifest["config"]["pictures"], manifest["config"]["measured"]) == (399, 120), "of training pairs alone"


def test_a_study_reads_the_head_with_its_own_threshold(made, sets, extractor):
    folder, manifest = made
    head = AestheticsHead.load(folder / WEIGHTS_NAME, extractor)
    assert head.threshold == manifest["metrics"]["threshold"]
    scores = head.read(sets[1].images)["aesthetic_scores"].double()
    assert (scores > head.threshold).float().mean() == pytest.approx(0.9, abs=0.01)
    assert scores.mean().item() == pytest.approx(manifest["metrics"]["whole"], abs=1e-4)
    assert AestheticsHead.load(folder / WEIGHTS_NAME, extractor, 3.0).threshold == 3.0


def test_another_extractor_of_the_same_width_is_refused(made, extractor):
    from dataclasses import replace

    other = replace(extractor, identity="0" * 64)
    with pytest.raises(ValueError, match=rf"fitted to features of the extractor {extractor.identity[:16]}: expected"):
        AestheticsHead.load(made[0] / WEIGHTS_NAME, other)


def test_the_same_call_gives_the_same_head(made, sets, extractor, tmp_path):
    again = train_aesthetics(extractor, *sets, tmp_path / "head")
    assert (tmp_path / "head" / WEIGHTS_NAME).read_bytes() == (made[0] / WEIGHTS_NAME).read_bytes()
    assert again["metrics"] == made[1]["metrics"]


def test_what_cannot_be_fitted_is_refused_before_any_work(sets, extractor, tmp_path):
    few = squares(tmp_path / "few", 19, 2)
    with pytest.raises(ValueError, match="has 18 pictures for this: expected 20 or more"):
        train_aesthetics(extractor, few, sets[1], tmp_path / "head")
    with pytest.raises(ValueError, match="holds the pairs that the head is fitted to"):
        train_aesthetics(extractor, sets[0], sets[0], tmp_path / "head")
    with pytest.raises(ValueError, match="pictures is 4000, measured is 0: expected 20 or more of both"):
        train_aesthetics(extractor, *sets, tmp_path / "head", measured=0)
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine").write_text("x")
    with pytest.raises(ValueError, match="already holds mine"):
        train_aesthetics(extractor, *sets, tmp_path / "head")


def test_an_interval_that_is_not_known_is_said():
    assert with_interval({"value": 1.0, "low": None, "high": None}) == "1.000 no interval"
    assert with_interval({"value": 0.9, "low": 0.85, "high": 0.95}) == "0.900 [0.850, 0.950]"


def test_the_command_says_what_the_head_tells_apart(sets, open_clip_folder, tmp_path):
    from typer.testing import CliRunner

    load_commands("train-aesthetics")
    call = ["train-aesthetics", str(sets[0].folder), str(tmp_path / "head"), "--held-out", str(sets[1].folder),
            "--open-clip", f"local-dir:{open_clip_folder}", "--weights", str(open_clip_folder / "w.safetensors"),
            "--pictures", "60", "--measured", "40"]  # fmt: skip
    told = CliRunner().invoke(application, call)
    assert told.exit_code == 0, told.output
    assert "disordered not shown" in told.stdout
    manifest = read_manifest(tmp_path / "head")
    assert json.dumps(manifest["metrics"]["ways"]["faded"])
    assert (manifest["config"]["pictures"], manifest["config"]["measured"]) == (60, 40)
    assert torch.isfinite(torch.tensor(manifest["metrics"]["threshold"]))
