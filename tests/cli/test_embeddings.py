"""``explorer embed | ad-store | import | benchmark embeddings`` with the shipped extractor on a shard of scenes."""

import io
import json
import tarfile

import numpy as np
import pandas
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

import explorer.cli.alignment
import explorer.cli.embeddings
import explorer.cli.fine_tuning
import explorer.cli.pair_import  # noqa: F401 - registers the commands
from explorer.benchmarks.embeddings import write_benchmark_shard
from explorer.cli.application import application
from explorer.cli.extractor_options import DEFAULT_EXTRACTOR
from explorer.embeddings.store import EmbeddingStore
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.pairs.pair_set import PairSet

OURS = ("--extractor", DEFAULT_EXTRACTOR)
needs_extractor = pytest.mark.skipif(not (DEFAULT_EXTRACTOR / "manifest.json").is_file(), reason="no shipped extractor")


def invoke(*arguments):
    return CliRunner().invoke(application, [*map(str, arguments)])


def run(*arguments):
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Twelve scenes and one pair whose caption the shipped extractor's tokenizer refuses."""
    path = tmp_path_factory.mktemp("shards") / "scenes.tar"
    write_benchmark_shard(path, pairs=12, side=64, seed=0)
    with tarfile.open(path) as archive:
        image = archive.extractfile("000000000.jpg").read()
    with tarfile.open(path, "a") as archive:
        for extension, data in (("jpg", image), ("txt", b"a photo of a cat " * 30)):
            member = tarfile.TarInfo(f"long.{extension}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@needs_extractor
@pytest.mark.slow
def test_two_processes_embed_as_one(shard, tmp_path):
    options = (*OURS, "--partition-size", 5, "--batch-size", 3, "--thumbnails", 16)
    alone = run("embed", shard, tmp_path / "alone", *options)
    both = run("embed", shard, tmp_path / "both", *options, "--processes", 2)
    assert {**both, "folder": ""} == {**alone, "folder": ""}
    stores = [EmbeddingStore.open(tmp_path / name) for name in ("alone", "both")]
    assert stores[0].manifest["files"] == stores[1].manifest["files"]
    assert stores[1].thumbnails.read(np.arange(12)).shape == (12, 16, 16, 3)


@needs_extractor
def test_embed_then_measure(shard, tmp_path):
    made = run("embed", shard, tmp_path / "store", *OURS, "--partition-size", 5, "--batch-size", 3)
    assert (made["partitions"], made["records"], made["pairs"]) == (3, 13, 12)
    assert made["quarantined"] == {"caption too long": 1}
    measured = run("ad-store", tmp_path / "store")
    extractor = UniversalExtractor.load(DEFAULT_EXTRACTOR)
    assert measured["feature_range"] == list(extractor.feature_range)
    assert measured["feature_range_from"] == "extractor"
    assert measured["n"] == 12
    # Painted scenes with their own captions are what the extractor was calibrated on.
    assert measured["feature_ad"] < 0.6
    scores = tmp_path / "scores.parquet"
    options = ("--sample", 5, "--seed", 1, "--feature-range", 0.5, 0.9, "--scores", scores)
    sampled = run("ad-store", tmp_path / "store", *options)
    assert pandas.read_parquet(scores)["sample_ad"].mean() == pytest.approx(sampled["ad"])
    assert pandas.read_parquet(scores)["row"].is_monotonic_increasing
    uids = EmbeddingStore.open(tmp_path / "store").metadata()["uid"].tolist()
    assert pandas.read_parquet(scores)["uid"].tolist() == [uids[row] for row in pandas.read_parquet(scores)["row"]]
    run("ad-store", tmp_path / "store", "--scores", tmp_path / "all.parquet")
    assert pandas.read_parquet(tmp_path / "all.parquet")["uid"].tolist() == uids
    assert (sampled["n"], sampled["seed"], sampled["feature_range"]) == (5, 1, [0.5, 0.9])
    assert "structure_ad" in invoke("ad-store", tmp_path / "store").stdout
    assert (measured["estimator"], measured["precision"], measured["workers"]) == ("exact", "fp32", 1)
    assert measured["plan"].startswith("exact fits: about")
    assert measured["self_check_deviation"] <= measured["self_check_tolerance"]
    (tmp_path / "trusted.txt").write_text("0\n1\n5\n")
    options = ("--estimator", "landmarks", "--samples", 3, "--landmarks", tmp_path / "trusted.txt")
    drawn = run("ad-store", tmp_path / "store", *options)
    assert (drawn["estimator"], drawn["samples"], drawn["trusted_landmarks"]) == ("landmarks", 3, 3)
    assert drawn["plan"].startswith("landmarks asked for: 3 of 3 trusted of 12 rows are drawn")
    refused = invoke("ad-store", tmp_path / "store", "--estimator", "exact", "--budget-memory", 1e-9)
    assert "expected a larger budget" in str(refused.exception)


def test_ad_store_offers_what_ad_offers():
    commands = get_command(application).commands
    ours, theirs = ({option.name: option for option in commands[name].params} for name in ("ad-store", "ad"))
    of_encoding = {"pair_set", "extractor", "open_clip", "weights", "pretrained_tag", "labels", "split"}
    shared = theirs.keys() - of_encoding - {"as_json"}
    assert shared <= ours.keys()
    assert len(shared) == 17
    differing = [name for name in shared if ours[name].default != theirs[name].default]
    assert differing == []


@needs_extractor
def test_benchmark_embeddings(shard):
    printed = run("benchmark", "embeddings", "--pairs", 6, "--side", 96, "--batch-size", 4, "--rounds", 1)
    assert printed["pairs"] == 6
    assert printed["largest_difference"] < 1e-3
    assert printed["pairs_per_second"] > 0  # how much is for the command to say, not for a test on a busy machine
    refused = invoke("benchmark", "embeddings", "--source", shard, "--rounds", 1)
    assert isinstance(refused.exception, ValueError)


def test_import(shard, tmp_path):
    (tmp_path / "nouns.txt").write_text("cat\n")
    made = run("import", shard, tmp_path / "set", "--size", 32, "--concepts", tmp_path / "nouns.txt")
    assert (made["pairs"], made["kind"], made["quarantined"]) == (13, "webdataset", {})
    loaded = PairSet.load(tmp_path / "set")
    assert loaded.images.shape == (13, 32, 32, 3)
    mentions = np.array([list(concepts) == ["cat"] for concepts in loaded.table["concepts"]])
    assert mentions[-1]
    assert made["pairs_without_concept"] == int((~mentions).sum())
    assert run("import", shard, tmp_path / "bare", "--size", 32)["pairs_without_concept"] is None
    printed = invoke("import", shard, tmp_path / "bare", "--size", 32).stdout
    assert "pairs_without_concept  not looked for: no --concepts" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--open-clip", "ViT-B-32"), "expected --weights FILE, too"),
        (("--open-clip", "ViT-B-32", "--weights", "w.safetensors"), "expected --feature-range LO HI, too"),
        (("--feature-range", 0.2, 0.45), "expected --open-clip, too"),
        ((), "no extractor is named: expected --open-clip MODEL"),
        ((*OURS, "--kind", "parquet"), "expected .parquet files for kind parquet"),
    ],
)
def test_options_that_do_not_fit_are_named(shard, tmp_path, options, message):
    result = invoke("embed", shard, tmp_path / "store", *options)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)
    assert not (tmp_path / "store").exists()


@pytest.fixture(scope="module")
def quirks(tmp_path_factory):
    """Two splits in folders; captions from three places; a picture that lies on its side and one on its alpha."""
    folder = tmp_path_factory.mktemp("quirks")
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "test"):
        (folder / split).mkdir()
        for number, (mode, options) in enumerate((("RGB", {"exif": exif}), ("RGBA", {}), ("L", {}))):
            Image.new(mode, (64, 48)).save(folder / split / f"{number}.png", **options)
        (folder / split / "metadata.csv").write_text("file_name,text,alt,id\n0.png,a cat,the cat,7\n")
        (folder / split / "1.caption").write_text("a dog")
        (folder / split / "2.txt").write_text("a hat")
        (folder / split / "3.foo").write_text("what")
    return folder


def told(made):
    """What a command says it assumed."""
    return {
        name: made[name] for name in ("records", "pairs", "quarantined", "caption_sources", "converted", "left_out")
    }


EXPECTED = {
    "records": 5,
    "pairs": 3,
    "quarantined": {"file of no known kind": 2},
    "caption_sources": {"metadata.csv: text": 1, "sidecar .caption": 1, "sidecar .txt": 1},
    "converted": {"transparency over white": 1, "turned upright by EXIF": 1},
    "left_out": {"train": 3},
}


@needs_extractor
def test_import_and_embed_say_what_they_assumed(quirks, tmp_path):
    for command in (("import", quirks, tmp_path / "set", "--size", 16), ("embed", quirks, tmp_path / "store", *OURS)):
        refused = invoke(*command)
        assert "holds the splits test (3), train (3): expected one; name it with --split" in str(refused.exception)
        made = run(*command, "--split", "test")
        assert told(made) == EXPECTED
        assert made["splits"] == {"test": 3}
    imported = PairSet.load(tmp_path / "set")
    assert set(imported.table["split"]) == {"test"}
    assert imported.manifest["config"]["converted"] == EXPECTED["converted"]
    stored = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert (stored["caption_sources"], stored["left_out"]) == (EXPECTED["caption_sources"], {"train": 3})


def test_fields_can_be_named(quirks, tmp_path):
    named = ("--caption", "alt", "--uid", "id", "--captions", "table", "--image", "file_name")
    made = run("import", quirks / "train", tmp_path / "set", "--size", 16, *named)
    assert (made["pairs"], made["caption_sources"]) == (1, {"metadata.csv: alt": 1})
    table = PairSet.load(tmp_path / "set").table
    assert (table["uid"].tolist(), table["caption"].tolist()) == (["7"], ["the cat"])


def test_commands_that_read_a_source_offer_the_same_options():
    commands = get_command(application).commands
    offered = {name: {option for parameter in commands[name].params for option in parameter.opts} for name in commands}
    options = {"--kind", "--split", "--captions", "--image", "--caption", "--caption-column", "--uid"}
    for name in ("import", "embed", "fine-tune"):
        assert options <= offered[name], name
