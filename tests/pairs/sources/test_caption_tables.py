"""Tables of captions in image folders: as people write them, and what a row or a header that is broken costs."""

import csv
import json

import pandas
import pytest

from explorer.pairs.quarantine import Reason
from explorer.pairs.sources.base import Fields
from explorer.pairs.sources.detection import open_source
from tests.pairs.sources.test_image_folder import found, lay, read


@pytest.mark.parametrize("table", ["metadata.jsonl", "captions.csv"])
def test_a_table_in_a_subfolder(tmp_path, table):
    rows = [{"file_name": "x/a.png", "text": "a cat"}, {"file_name": "b.png", "text": "a dog"}]
    if table.endswith("csv"):
        content = "file_name,text\n" + "".join(f"{row['file_name']},{row['text']}\n" for row in rows)
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows)
    lay(tmp_path, {"train/x/a.png": b"1", "train/b.png": b"2", f"train/{table}": content})
    assert found(read(tmp_path)) == {"train/b.png": "a dog", "train/x/a.png": "a cat"}
    assert found(read(tmp_path, fields=Fields(caption="alt"))) == dict.fromkeys(
        ["train/b.png", "train/x/a.png"], Reason.NO_CAPTION
    )


def test_a_table_and_a_folder_that_disagree(tmp_path):
    lines = [
        '{"file_name": "a.png", "text": "a cat"}',
        '{"file_name": "a.png", "text": "a dog"}',
        '{"file_name": "gone.png", "text": "x"}',
        '{"file_name": "../../etc/passwd", "text": "x"}',
        '{"file_name": "/etc/passwd", "text": "x"}',
        "{broken",
        '{"text": "names none"}',
        '{"file_name": "c.png", "text": 3}',
    ]
    lay(tmp_path, {"metadata.jsonl": "\n".join(lines), **dict.fromkeys(["a.png", "b.png", "c.png"], b"1")})
    records = read(tmp_path)
    assert found(records) == {
        "a.png": "a cat",
        "b.png": Reason.NO_CAPTION,
        "c.png": Reason.NO_CAPTION,
        "metadata.jsonl:2": Reason.DUPLICATE_UID,
        "metadata.jsonl:4": Reason.OUTSIDE_FOLDER,
        "metadata.jsonl:5": Reason.OUTSIDE_FOLDER,
        "metadata.jsonl:6": Reason.UNREADABLE_METADATA,
        "metadata.jsonl:7": Reason.UNREADABLE_METADATA,
        "metadata.jsonl:3": Reason.NO_IMAGE,
    }
    for start in range(len(records) + 1):
        assert [record.uid for record in read(tmp_path, start)] == [record.uid for record in records[start:]]


def test_a_linked_table_is_set_aside_and_no_other_captions_are_taken(tmp_path):
    lay(tmp_path, {"in/cat/a.png": b"1", "in/dog/b.png": b"2", "x.jsonl": '{"file_name": "cat/a.png", "text": "x"}'})
    (tmp_path / "in" / "metadata.jsonl").symlink_to(tmp_path / "x.jsonl")
    assert found(read(tmp_path / "in")) == {
        **dict.fromkeys(["cat/a.png", "dog/b.png"], Reason.NO_CAPTION),
        "metadata.jsonl": Reason.LINK,
    }


def test_a_table_that_names_a_link_gives_one_record(tmp_path):
    lay(tmp_path, {"a.png": b"1", "metadata.csv": "file_name,text\na.png,one\nb.png,two\n"})
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert [(record.uid, record.caption) for record in read(tmp_path)] == [("a.png", "one"), ("b.png", "")]
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match="holds no pictures besides 1 files that are not read: expected"):
        read(tmp_path)


def test_a_long_field_of_a_csv_costs_no_other_row(tmp_path):
    limit, long = csv.field_size_limit(), "x" * 140_000
    rows = f"file_name,text\na.png,one\nb.png,{long}\nc.png,three\n"
    lay(tmp_path, {"metadata.csv": rows, **dict.fromkeys(["a.png", "b.png", "c.png"], b"1")})
    assert found(read(tmp_path)) == {"a.png": "one", "b.png": long, "c.png": "three"}, "consumers refuse long captions"
    assert csv.field_size_limit() == limit


def one(tmp_path, table, name="metadata.csv", pictures=("1.jpg",), **options):
    """What becomes of a folder with one table: captions or reasons by place, and the sources of captions."""
    content = {name: table, **dict.fromkeys(pictures, b"1")}
    records = read(lay(tmp_path, content), **options)
    return found(records), {record.caption_source for record in records} - {""}


@pytest.mark.parametrize(
    ("table", "caption"),
    [
        ("\ufefffile_name,text\r\n1.jpg,a cat\r\n", "a cat"),
        ("file_name,text\r1.jpg,a cat\r", "a cat"),
        ("file_name;text\n1.jpg;a cat, black\n", "a cat, black"),
        ("file_name\ttext\n1.jpg\ta cat\n", "a cat"),
        ("File_Name , Text\n1.jpg, a cat\n", "a cat"),
        ('file_name, text\n1.jpg, "a cat, black"\n', "a cat, black"),
        ('file_name,text\n1.jpg,"a cat\non a mat"\n', "a cat\non a mat"),
        ('file_name,text\n1.jpg,"a ""cat"", 5"\n', 'a "cat", 5'),
        ('file_name,text\n1.jpg,a 5" cat\n', 'a 5" cat'),
        ("file_name,text\n.\\1.jpg,a cat\n", "a cat"),
        ("text,image\na cat,1.jpg\n", "a cat"),
        (",file_name,text\n0,1.jpg,a cat\n", "a cat"),
        ("file_name,text,caption\n1.jpg,a cat,a cat\n", "a cat"),
        ("file_name,text,caption\n1.jpg,,a cat\n", "a cat"),
        ("file_name,text,label\n1.jpg,a cat,3\n", "a cat"),
        ("file_name,label\n1.jpg,cat\n", "cat"),
    ],
)
def test_tables_as_people_write_them(tmp_path, table, caption):
    assert one(tmp_path, table)[0] == {"1.jpg": caption}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("file_name,text\n1.jpg,1girl, solo, red hair\n", Reason.UNREADABLE_METADATA),
        ("file_name,text,x\n1.jpg,a cat\n", Reason.UNREADABLE_METADATA),
        ('file_name,text\n1.jpg,"a cat" he said\n', Reason.UNREADABLE_METADATA),
        ('file_name,text\n1.jpg,"a cat\n', Reason.UNREADABLE_METADATA),
        ("file_name,text,caption\n1.jpg,ON THE SHIRT,a man\n", Reason.DIFFERING_CAPTIONS),
        ("file_name,label\n1.jpg,0\n", Reason.NO_CAPTION),
        ("file_name,text,label\n1.jpg,,cat\n", Reason.EMPTY_CAPTION),
        ("file_name,alt\n1.jpg,a cat\n", Reason.NO_CAPTION),
    ],
)
def test_a_row_that_is_not_what_the_header_says_costs_itself(tmp_path, table, reason):
    kept = {1: "2.jpg,a dog\n", 2: "2.jpg,a dog,\n"}[table.split("\n")[0].count(",")]
    records = read(lay(tmp_path, {"metadata.csv": table + kept, "1.jpg": b"1", "2.jpg": b"2"}))
    broken = next(record for record in records if record.place == "1.jpg")
    if reason == Reason.EMPTY_CAPTION:  # whoever consumes it says so
        assert (broken.problem, broken.caption) == (None, "")
    else:
        assert broken.problem.reason == reason
    usable = [(record.place, record.caption) for record in records if record.problem is None and record.caption]
    assert usable in ([("2.jpg", "a dog")], []), "label and alt have no other caption"


def test_an_open_quotation_mark_swallows_no_row(tmp_path):
    table = 'file_name,text\n1.jpg,"open\n2.jpg,a dog\n3.jpg,a hat"\n4.jpg,"shut"\n'
    records, _ = one(tmp_path, table, pictures=("1.jpg", "2.jpg", "3.jpg", "4.jpg"))
    assert records == {"1.jpg": Reason.UNREADABLE_METADATA, "2.jpg": "a dog", "3.jpg": 'a hat"', "4.jpg": "shut"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name,text,text\n1.jpg,a,b\n", "the header names 'text' more than once"),
        ("file_name,text,Text \n1.jpg,a,b\n", "the header names 'text' more than once"),
        ("id,text\n1,a cat\n", "fields are id, text: expected one of file_name"),
        ("", "an empty table"),
        (",".join(map(str, range(100_000))), "100000 columns: expected at most 2000"),
        ('"file_name,text\n1.jpg,a\n', "header: quotation marks out of place"),
    ],
)
def test_a_header_that_cannot_be_followed_is_said_and_no_folder_name_is_taken(tmp_path, table, message):
    lay(tmp_path, {"cat/1.jpg": b"1", "dog/1.jpg": b"1", "metadata.csv": table})
    with pytest.raises(
        ValueError, match=rf"though metadata\.csv lies there and is not read \(metadata\.csv: {message}"
    ):
        read(tmp_path)
    named = read(tmp_path, captions="folder")
    assert found(named) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog", "metadata.csv": Reason.UNKNOWN_FILE}


def test_uid_picture_and_caption_can_be_named(tmp_path):
    lay(tmp_path, {"m.csv": "id,where,alt,text\n7,1.jpg,a cat,x\n,2.jpg,a dog,y\n", "1.jpg": b"1", "2.jpg": b"1"})
    named, without = read(tmp_path, fields=Fields(image="where", caption="alt", uid="id"))
    assert (named.uid, named.place, named.caption) == ("7", "1.jpg", "a cat")
    assert without.problem.reason == Reason.NO_UID


def test_a_parquet_table_of_captions(tmp_path):
    lay(tmp_path, {"1.jpg": b"1", "2.jpg": b"1"})
    pandas.DataFrame({"file_name": ["1.jpg", "gone.jpg"], "text": ["a cat", "x"]}).to_parquet(
        tmp_path / "metadata.parquet"
    )
    assert open_source(tmp_path).kind == "imagefolder"
    assert found(open_source(tmp_path).records()) == {
        "1.jpg": "a cat", "2.jpg": Reason.NO_CAPTION, "metadata.parquet:1": Reason.NO_IMAGE,
    }  # fmt: skip
