"""Splits by names, in the layouts that dataset hubs use."""

import io
import tarfile
from collections import Counter

import pandas
import pytest

from explorer.pairs.quarantine import Reason
from explorer.pairs.sources.detection import open_source
from explorer.pairs.sources.splits import canonical, named_in_braces, split_in, split_of_file, split_of_folders


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00005.parquet", "train"),
        ("data/validation-00000-of-00001-0123abcd.parquet", "validation"),
        ("train_sft-00000-of-00003.parquet", "train_sft"),
        ("unsplash-00000-of-00003.parquet", "unsplash"),
        ("cc3m-train-0000.tar", "train"),
        ("train_0001.tar", "train"),
        ("test.csv", "test"),
        ("metadata_val.jsonl", "validation"),
        ("default/train/0000.parquet", "train"),
        ("Training/0.tar", "train"),
        ("eval/0.tar", "test"),
        ("dev.parquet", "validation"),
        ("val2017/0.tar", "validation"),
        ("00000.tar", ""),
        ("trains.tar", ""),
        ("latest.parquet", ""),
        ("contest-0.tar", ""),
    ],
)
def test_files_say_their_split(path, split):
    assert split_of_file(path) == split


def test_words():
    assert [canonical(word) for word in ("Train", "val", "DEV", "eval", "sft")] == [
        "train", "validation", "validation", "test", "sft",
    ]  # fmt: skip
    assert split_in("test tube") == "", "a class's name"
    assert split_of_folders("a/test/train/1.jpg") == "test", "the outermost"
    assert named_in_braces("data/{train,test}-*.parquet", Counter(["train", "test"]))
    assert not named_in_braces("data/train_test/{0..3}.parquet", Counter(["train", "test"]))
    assert not named_in_braces("data/{train,dev}-*.parquet", Counter(["train", "test"]))


@pytest.mark.parametrize(
    "names", [("train/0", "test/0"), ("x-train-0", "x-val-0"), ("data/train", "data/dev"), ("0", "test/0")]
)
@pytest.mark.parametrize("suffix", [".tar", ".parquet"])
def test_shards_of_several_splits_are_not_joined_unasked(tmp_path, names, suffix):
    for name in names:
        path = tmp_path / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".tar":
            tarfile.open(path, "w").close()
        else:
            pandas.DataFrame({"image": [b"1"], "text": ["x"]}).to_parquet(path)
    for location in (tmp_path, f"{tmp_path}/**/*{suffix}"):
        with pytest.raises(ValueError, match=r"holds the splits .*: expected one; name it with --split"):
            open_source(location)
        assert len(open_source(location, split="all").files) == 2
        last = split_of_file(names[1])
        chosen = open_source(location, split=last)
        assert (len(chosen.files), sum(chosen.left_out.values())) == (1, 1)


def test_a_column_of_splits(tmp_path):
    path = tmp_path / "a.parquet"
    table = {"image": [b"1"] * 3, "text": ["x"] * 3, "split": ["train", "val", "train"]}
    pandas.DataFrame(table).to_parquet(path)
    with pytest.raises(ValueError, match=r"column 'split' holds the splits train \(2\), validation \(1\)"):
        open_source(path)
    source = open_source(path, split="train")
    records = list(source.records())
    assert [record.split if record.problem is None else str(record.problem.reason) for record in records] == [
        "train", "another split", "train",
    ]  # fmt: skip
    assert source.left_out == {"validation": 1}
    assert [record.split for record in open_source(path, split="all").records()] == ["train", "validation", "train"]


def test_splits_inside_a_shard_are_not_joined_unasked(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for key in ("train/0", "train/1", "test/0"):
            for extension in ("jpg", "txt"):
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = 1
                archive.addfile(member, io.BytesIO(b"x"))
    for asked, used in ((None, ["train", "train"]), ("test", ["test"]), ("all", ["train", "train", "test"])):
        records = list(open_source(tmp_path, split=asked).records())
        assert len(records) == 3
        assert [record.split for record in records if record.problem is None] == used
        others = [record.problem.reason for record in records if record.problem is not None]
        assert set(others) <= {Reason.OTHER_SPLIT}
        assert [record.place for record in open_source(tmp_path, split=asked).records(2)] == ["0.tar:test/0"]


def test_two_data_sets_of_one_hub_are_not_joined(tmp_path):
    for name in ("en/train-00000-of-00001", "fr/train-00000-of-00001"):
        (tmp_path / name).parent.mkdir()
        pandas.DataFrame({"image": [b"1"], "text": ["x"]}).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"holds train-00000-of-00001\.parquet in the folders en, fr: expected one"):
        open_source(tmp_path)
    assert len(open_source(tmp_path / "fr").files) == 1


def test_pictures_that_all_name_a_split_are_not_joined(tmp_path):
    for name in ("train_1", "train_2", "test_1"):
        (tmp_path / f"{name}.jpg").write_bytes(b"1")
        (tmp_path / f"{name}.txt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds the splits test \(1\), train \(2\)"):
        open_source(tmp_path)
    for extension in ("jpg", "txt"):
        (tmp_path / f"dog.{extension}").write_bytes(b"x")
    assert len(list(open_source(tmp_path).records())) == 4, "names that say what a picture shows"
