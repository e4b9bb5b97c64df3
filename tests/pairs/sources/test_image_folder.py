"""Image folders: three places for captions, what is missing on either side, and paths that lead out."""

import csv
import errno
import json
import os
import unicodedata

import pandas
import pytest

from explorer.pairs.quarantine import Reason
from explorer.pairs.sources.base import Fields
from explorer.pairs.sources.detection import open_source
from explorer.pairs.sources.image_folder import ImageFolderSource


def lay(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def read(root, start=0, **options):
    return list(ImageFolderSource(root, **options).records(start))


def found(records):
    return {record.place: record.caption if record.problem is None else record.problem.reason for record in records}


def test_captions_beside_pictures_with_img2datasets_json(tmp_path):
    files = {"00/a.jpg": b"1", "00/a.txt": "a cat", "00/a.json": '{"width": 3}', "00/b.PNG": b"2", "notes.md": "x"}
    records = read(lay(tmp_path, files))
    assert found(records) == {
        "00/a.jpg": "a cat",
        "00/b.PNG": Reason.NO_CAPTION,
        "notes.md": Reason.UNKNOWN_FILE,
    }
    assert (records[0].uid, records[0].image, records[0].metadata) == ("00/a.jpg", b"1", {"width": 3})


def test_class_folders(tmp_path):
    files = {"cat/1.png": b"1", "dog/1.png": b"2", "cat/more/2.png": b"3", ".hidden/x/1.png": b"4", ".git/config": b""}
    records = read(lay(tmp_path, files))
    assert found(records) == {
        "cat/1.png": "cat",
        "cat/more/2.png": "more",
        "dog/1.png": "dog",
        ".hidden/x/1.png": Reason.HIDDEN,
    }
    assert {record.caption_source for record in records} == {"folder name", ""}


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


def test_links_are_set_aside(tmp_path):
    lay(tmp_path, {"in/a.png": b"1", "in/a.txt": "a cat", "in/c.png": b"3", "out/b.png": b"2", "out/c.txt": "x"})
    before = ImageFolderSource(tmp_path / "in").fingerprint()
    for name, target in (("b.png", "b.png"), ("more", ""), ("c.txt", "c.txt"), ("notes.md", "c.txt")):
        (tmp_path / "in" / name).symlink_to(tmp_path / "out" / target)
    records = read(tmp_path / "in")
    links = ["b.png", "c.png", "more", "notes.md"]
    assert found(records) == {"a.png": "a cat", **dict.fromkeys(links, Reason.LINK)}
    assert {record.place: record.problem.detail for record in records[1:]} == {
        "b.png": "is a link: expected a regular file",
        "c.png": "c.txt is a link: expected a regular file",
        "notes.md": "is a link: expected a regular file",
        "more": "is a link: expected a regular folder",
    }
    for start in range(len(records) + 1):
        assert [record.uid for record in read(tmp_path / "in", start)] == [record.uid for record in records[start:]]
    assert ImageFolderSource(tmp_path / "in").fingerprint() != before


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


def test_a_folder_that_cannot_be_listed_is_set_aside(tmp_path, monkeypatch):
    lay(tmp_path, {"cat/1.png": b"1", "dog/1.png": b"2", "dog/locked/2.png": b"3"})
    scandir, locked = os.scandir, {str(tmp_path / "dog" / "locked")}

    def refuse(path):  # as the system does, except to root, who may run this test
        if str(path) in locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    records = read(tmp_path)
    assert found(records) == {"cat/1.png": "cat", "dog/1.png": "dog", "dog/locked": Reason.UNREADABLE_FOLDER}
    assert records[-1].problem.detail == "Permission denied: expected a folder that can be listed"
    locked.add(str(tmp_path))
    with pytest.raises(PermissionError, match="Permission denied"):
        read(tmp_path)


def test_a_long_field_of_a_csv_costs_no_other_row(tmp_path):
    limit, long = csv.field_size_limit(), "x" * 140_000
    rows = f"file_name,text\na.png,one\nb.png,{long}\nc.png,three\n"
    lay(tmp_path, {"metadata.csv": rows, **dict.fromkeys(["a.png", "b.png", "c.png"], b"1")})
    assert found(read(tmp_path)) == {"a.png": "one", "b.png": long, "c.png": "three"}, "consumers refuse long captions"
    assert csv.field_size_limit() == limit


def test_a_changed_caption_changes_the_fingerprint(tmp_path):
    lay(tmp_path, {"a.png": b"1", "a.txt": "a cat"})
    before = ImageFolderSource(tmp_path).fingerprint()
    (tmp_path / "a.txt").write_text("a dog!")
    assert ImageFolderSource(tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": "x"}, "holds no pictures besides 1 files that are not read: expected files named jpg"),
        ({"a.png": b"1", "b.png": b"1"}, "2 pictures without captions"),
        ({"train/a.png": b"1", "test/b.png": b"1"}, "2 pictures without captions"),
        ({"cat/a.png": b"1"}, "1 pictures without captions"),
    ],
)
def test_a_folder_without_captions_is_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        ImageFolderSource(lay(tmp_path, files))


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


def test_every_captions_source_is_told(tmp_path):
    lines = '{"file_name":"1.jpg","text":"a"}\n{"file_name":"2.jpg","text":null,"caption":"b"}\n'
    lines += '{"image":"3.jpg","prompt":"c"}'
    files = dict.fromkeys(["4.jpg", "5.jpg", "6.jpg", "7.jpg"], b"1")
    files |= {"4.caption": "d", "5.jpg.txt": "e", "6.json": '{"caption": "f"}', "7.text": "g", "7.txt": "g"}
    lay(tmp_path, {"metadata.jsonl": lines, **dict.fromkeys(["1.jpg", "2.jpg", "3.jpg"], b"1"), **files})
    assert [(record.caption, record.caption_source) for record in read(tmp_path)] == [
        ("a", "metadata.jsonl: text"), ("b", "metadata.jsonl: caption"), ("c", "metadata.jsonl: prompt"),
        ("d", "sidecar .caption"), ("e", "sidecar .txt"), ("f", "sidecar .json: caption"), ("g", "sidecar .text"),
    ]  # fmt: skip


def test_captions_that_differ_are_not_chosen_among(tmp_path):
    lay(tmp_path, {"1.jpg": b"1", "1.txt": "a cat", "metadata.csv": "file_name,text\n1.jpg,a dog\n", "2.jpg": b"1"})
    lay(tmp_path, {"2.txt": "tags", "2.caption": "a hat"})
    records = read(tmp_path)
    assert found(records) == dict.fromkeys(["1.jpg", "2.jpg"], Reason.DIFFERING_CAPTIONS)
    assert "metadata.csv: text says 'a dog', sidecar .txt says 'a cat'" in records[0].problem.detail
    assert found(read(tmp_path, captions="table"))["1.jpg"] == "a dog"
    assert found(read(tmp_path, fields=Fields(caption="caption")))["2.jpg"] == "a hat"
    assert found(read(tmp_path, fields=Fields(caption="txt")))["1.jpg"] == "a cat"


@pytest.mark.parametrize("name", ["cat/1.foo", "cat/1.npz", "captions.xlsx", "prompts.yaml", "labels.csv", "1.caption"])
def test_what_may_hold_captions_keeps_folder_names_from_being_taken(tmp_path, name):
    lay(tmp_path, {"cat/1.jpg": b"1", "dog/1.jpg": b"1", "README.md": "x", "LICENSE.txt": "x"})
    assert {record.caption for record in read(tmp_path)} == {"cat", "dog", ""}
    lay(tmp_path, {name: "x"})
    with pytest.raises(ValueError, match=f"though {name} lies there and is not read"):
        read(tmp_path)


def test_numbers_beside_a_picture_are_no_caption(tmp_path):
    lay(tmp_path, {"1.jpg": b"1", "1.txt": "0 0.5 0.5 0.2 0.2\n1 .1 .2 .3 .4\n", "2.jpg": b"1", "2.txt": "1984"})
    assert found(read(tmp_path)) == {"1.jpg": Reason.NO_CAPTION, "2.jpg": "1984"}


def test_pictures_are_known_by_their_content_where_the_name_says_nothing(tmp_path):
    lay(
        tmp_path,
        {"1": b"\x89PNG\r\n\x1a\n", "1.txt": "a", "2.img": b"\xff\xd8\xff", "2.txt": "b", "3.heic": b"x", "4": b"x"},
    )
    lay(tmp_path, {"3.txt": "c", "5.jfif": b"1", "5.txt": "d"})
    assert found(read(tmp_path)) == {"1": "a", "2.img": "b", "3.heic": "c", "4": Reason.UNKNOWN_FILE, "5.jfif": "d"}


def test_names_of_letters_taken_apart_are_the_same_names(tmp_path):
    apart = unicodedata.normalize("NFD", "café.jpg")
    lay(tmp_path, {apart: b"1", "thé.jpg": b"1", unicodedata.normalize("NFD", "thé.txt"): "tea"})
    lay(tmp_path, {"metadata.csv": "file_name,text\ncafé.jpg,a cup\n"})
    assert found(read(tmp_path)) == {apart: "a cup", "thé.jpg": "tea"}


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


SPLITS = {
    "folders": {"train/1.jpg": b"1", "train/1.txt": "a", "test/1.jpg": b"1", "test/1.txt": "b"},
    "words in folders": {"train2017/1.jpg": b"1", "train2017/1.txt": "a", "my_val/1.jpg": b"1", "my_val/1.txt": "b"},
    "classes in folders": {"training/cat/1.jpg": b"1", "training/dog/1.jpg": b"1", "dev/cat/1.jpg": b"1"},
    "a table for each": {"1.jpg": b"1", "2.jpg": b"1", "train.csv": "file_name,text\n1.jpg,a\n",
                         "eval.csv": "file_name,text\n2.jpg,b\n"},
    "a column": {"1.jpg": b"1", "2.jpg": b"1", "metadata.csv": "file_name,text,Split\n1.jpg,a,train\n2.jpg,b,val\n"},
    "one beside what has none": {"1.jpg": b"1", "1.txt": "a", "holdout/1.jpg": b"1", "holdout/1.txt": "b"},
}  # fmt: skip


@pytest.mark.parametrize("layout", SPLITS)
def test_splits_are_not_joined_unasked(tmp_path, layout):
    lay(tmp_path, SPLITS[layout])
    with pytest.raises(ValueError, match=r"holds the splits .*: expected one; name it with --split, or join them"):
        ImageFolderSource(tmp_path)
    whole = read(tmp_path, split="all")
    assert all(record.problem is None for record in whole)
    assert len({record.split for record in whole}) == 2
    first = "train" if layout != "one beside what has none" else "unnamed"
    source = ImageFolderSource(tmp_path, split=first)
    kept = list(source.records())
    assert 0 < len(kept) < len(whole)
    assert sum(source.left_out.values()) == len(whole) - len(kept)
    with pytest.raises(ValueError, match="expected one of them, not 'trian'"):
        ImageFolderSource(tmp_path, split="trian")


def test_a_split_that_no_name_says_is_what_the_pairs_become(tmp_path):
    lay(tmp_path, {"1.jpg": b"1", "1.txt": "a"})
    assert [record.split for record in read(tmp_path)] == [""]
    assert [record.split for record in read(tmp_path, split="val")] == ["validation"]


def test_classes_named_like_splits_stay_classes(tmp_path):
    lay(tmp_path, {"bullet_train/1.jpg": b"1", "test-tube/1.jpg": b"1", "dog/1.jpg": b"1"})
    assert {record.caption for record in read(tmp_path)} == {"bullet_train", "test-tube", "dog"}
    lay(tmp_path, {"train/1.jpg": b"1"})
    with pytest.raises(ValueError, match="4 pictures without captions"):
        read(tmp_path)
    assert "train" in {record.caption for record in read(tmp_path, captions="folder")}
