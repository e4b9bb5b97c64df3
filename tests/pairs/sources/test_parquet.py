"""Parquet sources: columns of the usual names, class names, broken rows, damaged files, the same numbers."""

import json
import os
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from explorer.core.provenance import ROOT
from explorer.pairs.quarantine import Reason
from explorer.pairs.sources.base import Fields
from explorer.pairs.sources.parquet import ParquetSource

DATA = Path(os.environ.get("IMPLOSION_TEST_DATA", ROOT.parent / "shared" / "data")) / "cifar10"


def struct(*pictures):
    cells = [None if data is None else {"bytes": data, "path": "x.png"} for data in pictures]
    return pyarrow.array(cells, pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]))


def write(path, columns, group=None, metadata=None):
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(table, path, row_group_size=group, compression="none")
    return path


def read(*paths, start=0, **options):
    return list(ParquetSource(list(paths), **options).records(start))


def reasons(records):
    return [None if record.problem is None else record.problem.reason for record in records]


def test_rows_are_read_in_order_with_caption_metadata_and_uid(tmp_path):
    first = write(tmp_path / "a.parquet", {"image": struct(b"1", b"2"), "text": ["x", "y"], "width": [3, 4]})
    second = write(tmp_path / "b.parquet", {"image": struct(b"3"), "text": ["z"], "uid": ["f00d"], "width": [5]})
    records = read(first, second)
    assert [record.caption for record in records] == ["x", "y", "z"]
    assert [record.image for record in records] == [b"1", b"2", b"3"]
    assert [record.uid for record in records] == ["a/000000", "a/000001", "f00d"]
    assert records[1].place == "a.parquet:1"
    assert records[1].metadata == {"width": 4}


@pytest.mark.parametrize(("image", "caption"), [("image", "caption"), ("jpg", "TEXT"), ("img", "prompt")])
def test_plain_bytes_and_other_names(tmp_path, image, caption):
    path = write(tmp_path / "a.parquet", {image: pyarrow.array([b"1"]), caption: ["x"]})
    assert [(record.image, record.caption) for record in read(path)] == [(b"1", "x")]


def test_class_numbers_take_the_names_of_the_files_own_metadata(tmp_path):
    described = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    path = write(
        tmp_path / "a.parquet",
        {"image": struct(b"1", b"2", b"3"), "label": [1, 0, 7]},
        metadata={"huggingface": json.dumps(described)},
    )
    records = read(path)
    assert [record.caption for record in records] == ["dog", "cat", ""]
    assert reasons(records) == [None, None, Reason.NO_CAPTION]
    assert read(path, label_names=("one", "two"))[0].caption == "two"


def test_broken_rows_say_why(tmp_path):
    captions = pyarrow.array([b"x", b"caf\xe9", None, b"x", b"x"], pyarrow.binary()).view(pyarrow.string())
    pictures = struct(b"1", b"1", b"1", None, b"1")
    records = read(write(tmp_path / "a.parquet", {"image": pictures, "text": captions}))
    assert reasons(records) == [None, Reason.NOT_UTF8, Reason.NO_CAPTION, Reason.NO_IMAGE, None]


def test_a_damaged_row_group_costs_its_own_rows_and_a_damaged_file_only_itself(tmp_path):
    marks = [f"picture-{row}-".encode() * 40 for row in range(6)]
    path = write(tmp_path / "b.parquet", {"image": struct(*marks), "text": list("uvwxyz")}, group=2)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    content = path.read_bytes()
    # The page header lies before the values: overwriting it makes the page unreadable.
    group = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    offset = group.dictionary_page_offset or group.data_page_offset
    path.write_bytes(content[:offset] + b"\xff" * 16 + content[offset + 16 :])
    records = read(tmp_path / "a.parquet", path)
    broken = Reason.UNREADABLE_SHARD
    assert reasons(records) == [broken, None, None, broken, broken, None, None]
    assert [record.caption for record in records if record.problem is None] == list("uvyz")
    for start in range(len(records) + 1):
        tail = read(tmp_path / "a.parquet", path, start=start)
        assert [record.place for record in tail] == [record.place for record in records[start:]]


def test_a_file_of_other_columns_is_set_aside(tmp_path):
    first = write(tmp_path / "a.parquet", {"image": struct(b"1"), "text": ["x"]})
    second = write(tmp_path / "b.parquet", {"image": struct(b"1"), "text": [3.5]})
    assert reasons(read(first, second)) == [None, Reason.UNREADABLE_SHARD]


def write_repeated(path, name, **columns):
    """One row of picture and caption, and a column more whose name is there already."""
    columns = {"image": struct(b"1"), "text": pyarrow.array(["x"]), **columns}
    table = pyarrow.Table.from_arrays([*columns.values(), columns[name]], names=[*columns, name])
    parquet.write_table(table, path)
    return path


def test_columns_of_one_name_cost_no_more_than_themselves(tmp_path):
    numbers = pyarrow.array([3])
    extra = write_repeated(tmp_path / "a.parquet", "width", width=numbers, height=numbers)
    assert [(record.caption, record.metadata) for record in read(extra)] == [("x", {"height": 3})]
    captions = write_repeated(tmp_path / "b.parquet", "text")
    records = read(extra, captions)
    assert reasons(records) == [None, Reason.UNREADABLE_SHARD]
    assert records[1].problem.detail == "2 columns are named 'text': expected one"


@pytest.mark.parametrize("name", ["image", "text"])
def test_a_first_file_with_two_pictures_or_captions_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=rf"a\.parquet: 2 columns are named '{name}': expected one"):
        read(write_repeated(tmp_path / "a.parquet", name))


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": ["x"]}, {}, r"columns text \(string\): expected encoded pictures"),
        ({"image": ["path.png"], "text": ["x"]}, {}, r"image \(string\).*expected encoded pictures"),
        ({"image": struct(b"1")}, {}, "expected captions in one of caption, text, prompt"),
        ({"image": struct(b"1"), "text": ["x"]}, {"fields": Fields(caption="alt")}, "expected captions in alt"),
        ({"image": struct(b"1"), "label": [1]}, {}, "class numbers without names"),
        ({"image": struct(b"1"), "text": [["x", "y"]]}, {}, "holds list.*: expected text or class numbers"),
    ],
)
def test_columns_that_do_not_fit_are_named(tmp_path, columns, options, message):
    with pytest.raises(ValueError, match=message):
        ParquetSource([write(tmp_path / "a.parquet", columns)], **options)


@pytest.mark.skipif(not list(DATA.glob("test*.parquet")), reason=f"no parquet files in {DATA} (IMPLOSION_TEST_DATA)")
def test_the_real_cifar10_can_be_entered_anywhere():
    source = ParquetSource(sorted(DATA.glob("test*.parquet")))
    record = next(source.records(4321))
    assert record.place.endswith(":4321")
    assert source.caption_column == "text"
    assert record.image[:2] == b"\xff\xd8"
