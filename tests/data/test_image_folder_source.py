"""Image folders: three places for captions, what is missing on either side, and paths that lead out."""

import csv
import errno
import json
import os

import pytest

from explorer.data.image_folder_source import ImageFolderSource
from explorer.data.quarantine import Reason


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
    assert found(records) == {"00/a.jpg": "a cat", "00/b.PNG": Reason.NO_CAPTION}
    assert (records[0].uid, records[0].image, records[0].metadata) == ("00/a.jpg", b"1", {"width": 3})


def test_class_folders(tmp_path):
    files = {"train/cat/1.png": b"1", "train/dog/1.png": b"2", "test/cat/2.png": b"3", ".hidden/x/1.png": b"4"}
    assert found(read(lay(tmp_path, files))) == {
        "test/cat/2.png": "cat",
        "train/cat/1.png": "cat",
        "train/dog/1.png": "dog",
    }


@pytest.mark.parametrize("table", ["metadata.jsonl", "captions.csv"])
def test_a_table_in_a_subfolder(tmp_path, table):
    rows = [{"file_name": "x/a.png", "text": "a cat"}, {"file_name": "b.png", "text": "a dog"}]
    if table.endswith("csv"):
        content = "file_name,text\n" + "".join(f"{row['file_name']},{row['text']}\n" for row in rows)
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows)
    lay(tmp_path, {"train/x/a.png": b"1", "train/b.png": b"2", f"train/{table}": content})
    assert found(read(tmp_path)) == {"train/b.png": "a dog", "train/x/a.png": "a cat"}
    assert found(read(tmp_path, caption_column="alt")) == dict.fromkeys(
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
        "gone.png": Reason.NO_IMAGE,
    }
    for start in range(len(records) + 1):
        assert [record.uid for record in read(tmp_path, start)] == [record.uid for record in records[start:]]


def test_links_are_set_aside(tmp_path):
    lay(tmp_path, {"in/a.png": b"1", "in/a.txt": "a cat", "in/c.png": b"3", "out/b.png": b"2", "out/c.txt": "x"})
    before = ImageFolderSource(tmp_path / "in").fingerprint()
    for name, target in (("b.png", "b.png"), ("more", ""), ("c.txt", "c.txt"), ("notes.md", "c.txt")):
        (tmp_path / "in" / name).symlink_to(tmp_path / "out" / target)
    records = read(tmp_path / "in")
    assert found(records) == {"a.png": "a cat", **dict.fromkeys(["b.png", "c.png", "more"], Reason.LINK)}
    assert {record.place: record.problem.detail for record in records[1:]} == {
        "b.png": "is a link: expected a regular file",
        "c.png": "c.txt is a link: expected a regular file",
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
    with pytest.raises(ValueError, match="holds no pictures besides 1 links or unreadable folders: expected"):
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
        ({"a.txt": "x"}, "holds no pictures: expected files named jpg"),
        ({"a.png": b"1", "b.png": b"1"}, "2 pictures without captions"),
        ({"train/a.png": b"1", "test/b.png": b"1"}, "2 pictures without captions"),
        ({"cat/a.png": b"1"}, "1 pictures without captions"),
    ],
)
def test_a_folder_without_captions_is_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        ImageFolderSource(lay(tmp_path, files))
