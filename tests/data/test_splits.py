"""Splits by names, in the layouts that dataset hubs use."""

import tarfile
from collections import Counter

import pandas
import pytest

from explorer.data.source_detection import open_source
from explorer.data.splits import canonical, named_in_braces, split_in, split_of_file, split_of_folders


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
