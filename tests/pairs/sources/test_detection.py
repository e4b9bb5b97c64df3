"""Which source a path or glob opens, and what is said where none fits."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pandas
import pytest
import torchvision

from explorer.core.provenance import ROOT
from explorer.pairs.sources.detection import open_source

DATA = Path(os.environ.get("IMPLOSION_TEST_DATA", ROOT.parent / "shared" / "data")) / "cifar10"


def shard(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    tarfile.open(path, "w").close()
    return path


def table(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(columns or {"image": [b"1"], "text": ["x"]}).to_parquet(path)
    return path


def names(source):
    return [path.name for path in source.files]


def test_shards_by_file_folder_and_glob_whatever_img2dataset_writes_beside(tmp_path):
    for number in (0, 1, 10):
        shard(tmp_path / f"{number:05d}.tar")
        table(tmp_path / f"{number:05d}.parquet", url=["http://x"])
    for location in (tmp_path, str(tmp_path / "*.tar")):
        source = open_source(location)
        assert source.kind == "webdataset"
        assert names(source) == ["00000.tar", "00001.tar", "00010.tar"]
    assert names(open_source(tmp_path / "00001.tar")) == ["00001.tar"]
    assert names(open_source(str(tmp_path / "0000*.tar"))) == ["00000.tar", "00001.tar"]


def test_braces_name_shards_one_by_one(tmp_path):
    for number in range(8, 12):
        shard(tmp_path / "a" / f"{number:05d}.tar")
    shard(tmp_path / "b" / "00008.tar")
    pattern = str(tmp_path / "a" / "{00008..00011}.tar")
    assert names(open_source(pattern)) == ["00008.tar", "00009.tar", "00010.tar", "00011.tar"]
    assert names(open_source(str(tmp_path / "a" / "{00011,00009}.tar"))) == ["00011.tar", "00009.tar"]
    both = open_source(str(tmp_path / "{b,a}" / "*8.tar"))
    assert [path.parent.name for path in both.files] == ["b", "a"]
    (tmp_path / "a" / "00009.tar").unlink()
    (tmp_path / "a" / "00010.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"names 4 files, of which 2 are missing: .*00009\.tar, .*00010\.tar$"):
        open_source(pattern)
    with pytest.raises(FileNotFoundError, match="names nothing"):
        open_source(str(tmp_path / "c" / "{0..3}.tar"))
    literal = shard(tmp_path / "{0..1}.tar")
    assert open_source(literal).files == (literal.resolve(),), "a file of that name is what is meant"


def test_links_are_read_under_their_own_names(tmp_path):
    """A hub's cache holds links to files that are named by their hash."""
    (tmp_path / "blobs").mkdir()
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for make, name in ((table, "train.parquet"), (shard, "0.tar")):
        make(tmp_path / "blobs" / name).rename(tmp_path / "blobs" / name.encode().hex())
        (snapshot / name).symlink_to(Path("../../blobs") / name.encode().hex())
    for location in (snapshot / "train.parquet", str(snapshot / "*.parquet")):
        source = open_source(location)
        assert (source.kind, names(source)) == ("parquet", ["train.parquet"])
        assert [record.uid for record in source.records()] == ["train/000000"]
    for location in (snapshot / "0.tar", str(snapshot / "{0..0}.tar")):
        assert names(open_source(location)) == ["0.tar"]


def test_a_file_and_a_link_to_it_are_read_once(tmp_path):
    table(tmp_path / "a.parquet")
    (tmp_path / "latest.parquet").symlink_to("a.parquet")
    assert names(open_source(str(tmp_path / "*.parquet"))) == ["a.parquet"]


def test_paths_are_absolute(tmp_path, monkeypatch):
    table(tmp_path / "a" / "x.parquet")
    monkeypatch.chdir(tmp_path)
    for location in ("a", "a/x.parquet", "a/*.parquet"):
        assert open_source(location).files == (tmp_path / "a" / "x.parquet",)


def test_parquet_and_image_folder(tmp_path):
    assert open_source(table(tmp_path / "tables" / "a.parquet").parent).kind == "parquet"
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").write_bytes(b"1")
        (tmp_path / "pictures" / name / "1.txt").write_text("a pet")
    assert open_source(tmp_path / "pictures").kind == "imagefolder"
    # img2dataset's output format "files": a table without pictures beside every folder.
    table(tmp_path / "pictures" / "cat.parquet", url=["http://x"])
    assert open_source(tmp_path / "pictures").kind == "imagefolder"


def test_the_official_cifar10_archive(tmp_path, monkeypatch):
    class Archive:
        def __init__(self, root, train, download):
            assert (train, download) == (False, False)
            self.data, self.targets = np.zeros((3, 32, 32, 3), np.uint8), [1, 2, 3]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Archive)
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"1")
    source = open_source(tmp_path, split="test")
    assert [(record.uid, record.caption) for record in source.records(1)] == [
        ("cifar10-test-00001", "bird"),
        ("cifar10-test-00002", "cat"),
    ]
    assert next(source.records()).image.shape == (32, 32, 3)


def test_cifar10_parquet_names_its_classes_and_splits(tmp_path):
    for split, label in (("train", 3), ("test", 9)):
        table(tmp_path / f"{split}-0.parquet", image=[b"1"], label=[label])
    assert [record.caption for record in open_source(tmp_path, kind="cifar10").records()] == ["cat"]
    assert [record.caption for record in open_source(tmp_path, kind="cifar10", split="test").records()] == ["truck"]
    with pytest.raises(ValueError, match="class numbers without names"):
        open_source(tmp_path / "train-0.parquet")
    with pytest.raises(ValueError, match="split is 'valid'"):
        open_source(tmp_path, kind="cifar10", split="valid")


def test_splits_that_a_hub_keeps_apart_are_not_joined_unasked(tmp_path):
    data = tmp_path / "data"
    for name in ("test-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
        table(data / name)
    for location in (data, str(data / "*.parquet")):
        with pytest.raises(ValueError, match=r"holds the splits test \(1\), train \(2\): expected one; name it with"):
            open_source(location)
    assert names(open_source(str(data / "train-*.parquet"))) == [f"train-0000{n}-of-00002.parquet" for n in (0, 1)]
    assert len(open_source(str(data / "{train,test}-*.parquet")).files) == 3
    assert len(open_source(data, split="all").files) == 3
    trained = open_source(tmp_path, split="train")
    assert (len(trained.files), trained.left_out) == (2, {"test": 1})
    assert {record.split for record in trained.records()} == {"train"}
    (data / "test-00000-of-00001.parquet").unlink()
    assert len(open_source(data).files) == 2


def test_what_fits_nothing_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    shard(tmp_path / "both" / "a.tar")
    table(tmp_path / "both" / "b.parquet")
    for location, kind, message in (
        (tmp_path / "both", "auto", "1 .tar and 1 .parquet files: expected one kind"),
        (tmp_path / "a.txt", "auto", "is of a.txt: expected .tar shards"),
        (tmp_path / "both", "imagefolder", "holds no pictures"),
        (tmp_path / "both" / "a.tar", "parquet", "is of a.tar: expected .parquet files"),
        (tmp_path / "both" / "a.tar", "cifar10", r"expected train\*.parquet or cifar-10-batches-py"),
        (tmp_path / "both", "laion", "kind is 'laion': expected one of auto"),
        ("pipe:cat 0.tar", "auto", "is a command: expected a path"),
        ("nowhere://0.tar", "auto", "cannot be opened: Protocol not known: nowhere"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(location, kind=kind)
    with pytest.raises(FileNotFoundError, match="names nothing"):
        open_source(str(tmp_path / "*.tar"))
    assert open_source(tmp_path / "both", kind="webdataset").kind == "webdataset"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA} (IMPLOSION_TEST_DATA)")
def test_the_real_cifar10_folder_asks_which_kind():
    with pytest.raises(ValueError, match="expected one kind"):
        open_source(DATA)
    assert open_source(str(DATA / "*.tar")).kind == "webdataset"
    assert next(open_source(DATA, kind="cifar10", split="test").records()).caption == "truck"
