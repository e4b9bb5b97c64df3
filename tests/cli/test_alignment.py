"""``explorer ad`` and ``explorer cifar10`` from the command line."""

import io
import json

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

import explorer.cli.alignment
from explorer.cli.application import application
from explorer.data.cifar10 import CLASSES
from explorer.experiments.sample_scores import REPORT_KEY
from explorer.models.universal_extractor import UniversalExtractor


class RedExtractor:
    """Class number from a picture's red value or a caption's class name, as a one-hot direction."""

    picture_size = None
    name = "red"
    identity = "1" * 64
    feature_range = (0.0, 1.0)

    def encode_images(self, images, batch_size=256):
        return torch.eye(10)[torch.from_numpy(np.array(images[:, 0, 0, 0], dtype=np.int64)) // 20]

    def encode_texts(self, captions, batch_size=256):
        return torch.eye(10)[torch.tensor([CLASSES.index(caption) for caption in captions])]


@pytest.fixture
def source(tmp_path):
    """Two hundred solid pictures, as many of each class."""

    def encoded(label):
        stream = io.BytesIO()
        Image.new("RGB", (32, 32), (int(label) * 20, 0, 0)).save(stream, format="PNG")
        return {"bytes": stream.getvalue(), "path": None}

    labels = np.arange(200) % 10
    folder = tmp_path / "source"
    folder.mkdir()
    pandas.DataFrame({"image": [encoded(label) for label in labels], "label": labels}).to_parquet(
        folder / "train-0.parquet"
    )
    return folder


@pytest.fixture
def invoke(monkeypatch):
    monkeypatch.setattr(UniversalExtractor, "load", staticmethod(lambda folder, device: RedExtractor()))
    return lambda *arguments: CliRunner().invoke(application, [str(argument) for argument in arguments])


@pytest.fixture
def cifar_set(invoke, source, tmp_path):
    folder = tmp_path / "set"
    result = invoke("cifar10", folder, "--source", source, "--poisoned-classes", 4, "--seed", 1, "--json")
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    assert (written["pairs"], written["poisoned_pairs"], written["seed"]) == (248, 48, 1)
    return folder


def test_ad_prints_every_number_as_json(invoke, cifar_set):
    result = invoke("ad", cifar_set, "--alpha", 0.5, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["feature_ad"] == pytest.approx(48 / 248)
    assert printed["ad"] == pytest.approx(0.5 * printed["feature_ad"] + 0.5 * printed["structure_ad"])
    for key in ("feature_ad", "structure_ad", "ad"):
        assert printed[f"{key}_standard_error"] > 0
    assert (printed["n"], printed["alpha"], printed["convention"]) == (248, 0.5, "authors")
    assert printed["feature_range"] == [0.0, 1.0]
    assert printed["mean_offset"] <= printed["structure_ad"]


def test_ad_writes_every_pairs_scores(invoke, cifar_set, tmp_path):
    scores = tmp_path / "scores.parquet"
    printed = json.loads(invoke("ad", cifar_set, "--scores", scores, "--json").stdout)
    table = pandas.read_parquet(scores)
    kept = ("feature_distance", "structure_distance", "sample_ad")
    ranked = [f"{name}{end}" for name in kept for end in ("", "_rank", "_rank_last")]
    assert list(table) == ["row", "uid", "is_poison", *ranked]
    wrong = table[table["is_poison"]]
    assert (wrong["feature_distance_rank"].unique(), wrong["feature_distance_rank_last"].unique()) == (1, 48), "tied"
    assert table["uid"].tolist() == pandas.read_parquet(cifar_set / "pairs.parquet")["uid"].tolist()
    assert table["row"].tolist() == list(range(248))
    assert table["sample_ad"].mean() == pytest.approx(printed["ad"])
    assert table["structure_distance"].mean() == pytest.approx(printed["structure_ad"])
    assert table["is_poison"].sum() == 48
    kept = json.loads(parquet.read_schema(scores).metadata[REPORT_KEY])
    assert (kept["ad"], kept["alpha"], kept["n"]) == (printed["ad"], 0.8, 248)
    for place, message in (
        (scores, "exists already"),
        ("scores.csv", "ends in .parquet"),
        ("no/s.parquet", "no is no"),
    ):
        assert message in str(invoke("ad", cifar_set, "--scores", place).exception)


def test_ad_says_how_it_was_computed(invoke, cifar_set):
    exact = json.loads(invoke("ad", cifar_set, "--json").stdout)
    assert (exact["estimator"], exact["precision"], exact["device"], exact["workers"]) == ("exact", "fp32", "cpu", 1)
    assert exact["estimator_standard_error"] == 0
    assert 0 <= exact["self_check_deviation"] <= exact["self_check_tolerance"]
    assert exact["plan"].startswith("exact fits: about")
    drawn = json.loads(
        invoke("ad", cifar_set, "--estimator", "stratified", "--samples", 80, "--seed", 2, "--json").stdout
    )
    assert (drawn["estimator"], drawn["samples"], drawn["estimator_seed"]) == ("stratified", 80, 2)
    assert abs(drawn["structure_ad"] - exact["structure_ad"]) <= 5 * drawn["estimator_standard_error"] + 1e-6
    assert drawn["feature_ad"] == exact["feature_ad"]


def test_landmarks_come_from_a_file(invoke, cifar_set, tmp_path):
    table = pandas.read_parquet(cifar_set / "pairs.parquet")
    rows = np.flatnonzero(~table["is_poison"])[:40]
    (tmp_path / "trusted.txt").write_text("\n".join(table["uid"].iloc[rows]))
    options = ("--estimator", "landmarks", "--landmarks", tmp_path / "trusted.txt", "--samples", 40, "--json")
    result = invoke("ad", cifar_set, *options)
    assert result.exit_code == 0, repr(result.exception)
    printed = json.loads(result.stdout)
    assert (printed["samples"], printed["trusted_landmarks"]) == (40, 40)
    assert set(printed["self_check_rows"]) <= set(rows.tolist())
    labelled = json.loads(invoke("ad", cifar_set, "--labels", *options).stdout)
    assert labelled["trusted_landmarks"] == 40
    assert json.loads(invoke("ad", cifar_set, "--json").stdout)["trusted_landmarks"] is None


def test_labels_give_the_feature_ad_of_table_5(invoke, cifar_set):
    printed = json.loads(invoke("ad", cifar_set, "--labels", "--json").stdout)
    assert round(printed["feature_ad"], 3) == 0.194
    assert printed["distances"] == "labels"
    assert printed["feature_range"] is None


def test_a_person_gets_a_table(invoke, cifar_set):
    result = invoke("ad", cifar_set)
    assert result.exit_code == 0
    assert "structure_ad_standard_error" in result.stdout
    assert "{" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "--convention", "halved"), "expected authors, the only one labels are defined for"),
        (("--alpha", "2"), r"alpha is 2.0: expected a weight in \[0, 1\]"),
        (("--convention", "laion"), "convention is 'laion'"),
        (("--split", "test"), "split is 'test'"),
        (("--estimator", "exact", "--budget-seconds", "1e-9"), "exact takes about .* expected a larger budget"),
        (("--precision", "bf16"), "precision is 'bf16'"),
        (("--device", "tpu"), "device is 'tpu'"),
        (("--landmarks", "trusted.txt"), "landmarks are given and estimator is 'auto': expected landmarks"),
        (("--landmarks", "trusted.txt", "--estimator", "landmarks"), "names '248': not among the measured pairs"),
    ],
)
def test_bad_options_are_named(invoke, cifar_set, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trusted.txt").write_text("0\n248\n")
    result = invoke("ad", cifar_set, *arguments)
    assert isinstance(result.exception, ValueError)
    with pytest.raises(ValueError, match=message):
        raise result.exception


def test_default_extractor_is_the_shipped_one():
    assert explorer.cli.alignment.DEFAULT_EXTRACTOR.parts[-3:] == ("checkpoints", "iconworld", "extractor")
