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
import explorer.cli.pair_import  # noqa: F401 - registers the commands
from explorer.alignment.description import describe_measurement
from explorer.alignment.pair_sets import measure
from explorer.alignment.scores import REPORT_KEY
from explorer.cli.application import application
from explorer.cli.extractor_options import DEFAULT_EXTRACTOR
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.cifar10 import CLASSES


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
    local = ["picture_scatter", "local_structure_distance", "local_feature_distance"]
    assert list(table) == ["row", "uid", "is_poison", *local, *ranked]
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
    assert DEFAULT_EXTRACTOR.parts[-3:] == ("checkpoints", "iconworld", "extractor")


@pytest.fixture
def flagged(tmp_path):
    """Six solid pictures with the flags of somebody's table: one poison, two benign, three unknown; one unreadable."""
    folder = tmp_path / "flagged"
    folder.mkdir()
    flags = [True, 0, "no", None, "", float("nan"), "perhaps"]
    for row in range(len(flags)):
        Image.new("RGB", (32, 32), (row * 20, 0, 0)).save(folder / f"{row}.png")
    lines = [
        {"file_name": f"{row}.png", "text": CLASSES[9 if flag is True else row], "bad": flag, "of": CLASSES[9]}
        for row, flag in enumerate(flags)
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def imported(invoke, source, out, *options):
    result = invoke("import", source, out, "--size", 32, *options, "--json")
    assert result.exit_code == 0, repr(result.exception)
    return json.loads(result.stdout)


def test_poison_that_nobody_recorded_is_null_everywhere(invoke, flagged, tmp_path):
    made = imported(invoke, flagged, tmp_path / "set")
    unknown = {"poisoned_pairs": None, "benign_pairs": None, "unrecorded_pairs": 7}
    assert {name: made[name] for name in unknown} == unknown
    printed = json.loads(invoke("ad", tmp_path / "set", "--scores", tmp_path / "s.parquet", "--json").stdout)
    assert {name: printed[name] for name in unknown} == unknown
    aucs = [name for name in printed if name.endswith("_auc")]
    assert (len(aucs), {printed[name] for name in aucs}) == (6, {None})
    column = parquet.read_table(tmp_path / "s.parquet")["is_poison"]
    assert (str(column.type), column.null_count) == ("bool", 7)
    words = dict(line.split(maxsplit=1) for line in invoke("ad", tmp_path / "set").stdout.splitlines())
    assert words["poisoned_pairs"] == words["benign_pairs"] == "not recorded"
    assert words["sample_ad_auc"].startswith("none: it takes pairs known to be poison")
    assert "nobody recorded whether it is poison" in str(invoke("ad", tmp_path / "set", "--labels").exception)
    measured = measure(tmp_path / "set", RedExtractor())
    entry = describe_measurement("theirs", PairSet.load(tmp_path / "set"), measured)
    assert (entry["poisoned_concept_count"], entry["poisoned_pairs"], entry["poison_recorded"]) == (None, None, False)
    assert list(entry["distributions"]["feature_distance"]["groups"]) == ["unrecorded"]


def test_a_field_of_the_data_says_which_pairs_are_poison(invoke, flagged, tmp_path):
    fields = ("--poison-field", "bad", "--poisoned-concept-field", "of", "--target-field", "of")
    made = imported(invoke, flagged, tmp_path / "set", *fields)
    assert (made["poisoned_pairs"], made["benign_pairs"], made["unrecorded_pairs"]) == (1, 2, 3)
    assert made["quarantined"] == {"unreadable metadata": 1}, "what is neither true nor false is not guessed"
    table = PairSet.load(tmp_path / "set").table
    assert [None if pandas.isna(flag) else bool(flag) for flag in table["is_poison"]] == [
        True,
        False,
        False,
        *[None] * 3,
    ]
    assert table["poisoned_concept"].fillna("?").tolist() == [CLASSES[9], "", "", "?", "?", "?"]
    printed = json.loads(invoke("ad", tmp_path / "set", "--scores", tmp_path / "s.parquet", "--json").stdout)
    assert (printed["poisoned_pairs"], printed["unrecorded_pairs"], printed["feature_distance_auc"]) == (1, 3, 1.0)
    assert parquet.read_table(tmp_path / "s.parquet")["is_poison"].to_pylist() == [True, False, False, None, None, None]
    assert (printed["clipped_below"], printed["clipped_above"]) == (1 / 6, 5 / 6)
    for options, message in (
        (("--poison-field", "baad"), r"no record has a field 'baad': expected one of theirs (bad, "),
        (("--target-field", "of"), "expected a field that says which pairs are poison, too"),
    ):
        assert message in str(invoke("import", flagged, tmp_path / "other", *options).exception)
    assert not (tmp_path / "other").exists()


def test_an_import_of_an_earlier_release_does_not_say_that_it_is_benign(invoke, cifar_set, tmp_path):
    """It wrote ``is_poison`` false for every pair, and ``poison_recorded`` false (or nothing) beside a fingerprint."""
    for config in ({"poison_recorded": False}, {"fingerprint": "0"}):
        manifest = json.loads((cifar_set / "manifest.json").read_text())
        (cifar_set / "manifest.json").write_text(json.dumps({**manifest, "config": config}))
        printed = json.loads(invoke("ad", cifar_set, "--json").stdout)
        assert (printed["poisoned_pairs"], printed["unrecorded_pairs"]) == (None, 248)
