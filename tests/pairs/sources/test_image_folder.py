"""Image folders: three places for captions, what is missing on either side, and paths that lead out."""

import errno
import os
import unicodedata

import pytest

from explorer.pairs.quarantine import Reason
from explorer.pairs.sources.base import Fields
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
