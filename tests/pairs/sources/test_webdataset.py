"""Webdataset shards: img2dataset's conventions, every kind of broken sample, damaged archives, the same numbers."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from explorer.core.provenance import ROOT
from explorer.pairs.quarantine import Reason
from explorer.pairs.sources.base import MAX_IMAGE_BYTES, Fields
from explorer.pairs.sources.webdataset import WebdatasetSource

SHARD = Path(os.environ.get("IMPLOSION_TEST_DATA", ROOT.parent / "shared" / "data")) / "cifar10"
SHARD /= "webdataset-sample-00000.tar"


def picture(colour="red", side=20):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(stream, "PNG")
    return stream.getvalue()


def write_shard(path, files):
    """``files`` are (name, bytes) pairs, or TarInfo objects without content."""
    with tarfile.open(path, "w") as archive:
        for file in files:
            if isinstance(file, tarfile.TarInfo):
                archive.addfile(file)
                continue
            member = tarfile.TarInfo(file[0])
            member.size = len(file[1])
            archive.addfile(member, io.BytesIO(file[1]))
    return path


def sample(key, caption="a cat", **metadata):
    files = [(f"{key}.png", picture()), (f"{key}.txt", caption.encode())]
    return [*files, (f"{key}.json", json.dumps(metadata).encode())] if metadata else files


def read(*paths, start=0, **options):
    return list(WebdatasetSource(list(paths), **options).records(start))


def test_samples_are_read_in_order_with_caption_metadata_and_uid(tmp_path):
    first = write_shard(tmp_path / "0.tar", [*sample("a", "one", width=3), *sample("dir/b", "two")])
    second = write_shard(tmp_path / "1.tar", sample("a", "three", uid="f00d", url="http://x"))
    records = read(first, second)
    assert [record.caption for record in records] == ["one", "two", "three"]
    assert [record.uid for record in records[::2]] == ["0/a", "f00d"]
    assert [record.place for record in records] == ["0.tar:a", "0.tar:dir/b", "1.tar:a"]
    assert records[0].image == picture()
    assert records[0].metadata == {"width": 3}


def test_an_extension_is_all_that_follows_the_first_dot_unless_keys_hold_dots(tmp_path):
    shard = write_shard(tmp_path / "0.tar", [("a.JPG", b"1"), ("a.mask.png", b"2"), ("a.txt", b"x"), *sample("b.c")])
    whole, further, dotted = read(shard)
    assert whole.image == b"1"
    assert (further.place, further.problem.reason) == ("0.tar:a.mask", Reason.SEVERAL_IMAGES)
    assert (dotted.place, dotted.caption, dotted.caption_source) == ("0.tar:b.c", "a cat", "member .txt")
    chosen, _ = read(shard, fields=Fields(image="mask.png"))
    assert chosen.image == b"2"


def test_a_hundred_keys_with_dots_are_a_hundred_pairs(tmp_path, monkeypatch):
    names = [f"www.site.com_{number:04d}" for number in range(100)]
    shard = write_shard(tmp_path / "0.tar", [file for name in names for file in sample(name, name)])
    for longest in (4096, 7):  # a run that is taken apart piece by piece gives the same
        monkeypatch.setattr("explorer.pairs.sources.webdataset.LONGEST_RUN", longest)
        records = read(shard)
        assert [(record.uid, record.caption) for record in records] == [(f"0/{name}", name) for name in names]
        assert [record.uid for record in read(shard, start=42)] == [record.uid for record in records[42:]]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([("b.jpg", b"1"), ("b.txt", b"x"), ("b.2.jpg", b"1"), ("b.2.txt", b"y")], {"b": "x", "b.2": "y"}),
        ([("b.jpg", b"1"), ("b.png", b"1"), ("b.txt", b"x")], {"b": Reason.SEVERAL_IMAGES}),
        ([("b", b"1"), ("b.txt", b"x")], {"b": Reason.NO_IMAGE}),
        ([("b.heic", b"1"), ("b.txt", b"x")], {"b": Reason.NO_IMAGE}),
        ([("b.jfif", b"1"), ("b.caption", b"x")], {"b": "x"}),
        ([("._b.jpg", b"1"), ("b.jpg", b"1"), ("._b.txt", b"1"), ("b.txt", b"x")],
         {"._b.jpg": Reason.HIDDEN, "._b.txt": Reason.HIDDEN, "b": "x"}),
        ([("b.jpg", b"1"), ("b.txt", b"x"), ("b.json", b'{"caption": "y"}')], {"b": Reason.DIFFERING_CAPTIONS}),
        ([("b.jpg", b"1"), ("b.json", b'{"caption": "x", "caption": "y"}')], {"b": Reason.UNREADABLE_METADATA}),
        ([("README.md", b"x")], {"README": Reason.NO_CAPTION}),
    ],
)  # fmt: skip
def test_every_file_belongs_to_a_record(tmp_path, files, expected):
    records = read(write_shard(tmp_path / "0.tar", files))
    found = {record.place.removeprefix("0.tar:"): record.problem.reason if record.problem else record.caption
             for record in records}  # fmt: skip
    assert {name.removeprefix("0.tar:"): kind for name, kind in found.items()} == expected
    assert len(records) == len(expected)


def test_fields_can_be_named(tmp_path):
    files = [("a.jpg", b"1"), ("a.txt", b"x"), ("a.json", b'{"caption": "y", "id": 7}')]
    shard = write_shard(tmp_path / "0.tar", [*files, ("b.jpg", b"1"), ("b.txt", b"x"), ("b.json", b'{"id": null}')])
    first, without = read(shard, fields=Fields(caption="txt", uid="id"))
    assert (first.uid, first.caption) == ("7", "x")
    assert without.problem.reason == Reason.NO_UID


def test_a_caption_can_come_from_the_json(tmp_path):
    files = [("a.jpg", b"1"), ("a.json", b'{"caption": "from json", "recaption": "better"}')]
    shard = write_shard(tmp_path / "0.tar", [*files, ("b.jpg", b"1"), ("b.json", b'{"caption": null}')])
    assert read(shard)[0].caption == "from json"
    assert read(shard)[1].problem.reason == Reason.NO_CAPTION
    assert read(shard, fields=Fields(caption="recaption"))[0].caption == "better"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("a.txt", b"x")], Reason.NO_IMAGE),
        ([("a.png", b"x")], Reason.NO_CAPTION),
        ([("a.png", b"x"), ("a.txt", b"caf\xe9")], Reason.NOT_UTF8),
        ([("a.png", b"x"), ("a.txt", b"x"), ("a.json", b"{")], Reason.UNREADABLE_METADATA),
        ([("a.png", b"x"), ("a.txt", b"x"), ("a.json", b"[" * 100_000)], Reason.UNREADABLE_METADATA),
        ([("a.png", b"x"), ("a.txt", b"x"), ("a.json", b"[1]")], Reason.UNREADABLE_METADATA),
        ([("a.png", b"x"), ("a.txt", b"x" * (2**20 + 1))], Reason.LONG_CAPTION),
        ([("a.png", bytes(MAX_IMAGE_BYTES + 1)), ("a.txt", b"x")], Reason.LARGE_IMAGE),
    ],
)
def test_a_broken_sample_says_why_and_costs_no_other(tmp_path, files, reason):
    shard = write_shard(tmp_path / "0.tar", [*sample("0"), *files, *sample("z")])
    before, broken, after = read(shard)
    assert (before.problem, after.problem) == (None, None)
    assert broken.problem.reason == reason
    assert broken.place == "0.tar:a"
    assert broken.image is None


def test_a_link_is_not_followed_and_nothing_is_written(tmp_path):
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = ("../../outside.png", b"x")
    shard = write_shard(tmp_path / "0.tar", [link, ("a.txt", b"x"), outside, ("../../outside.txt", b"x")])
    linked, named_outside = read(shard)
    assert linked.problem.reason == Reason.NO_IMAGE
    assert named_outside.image == b"x"
    assert list(tmp_path.iterdir()) == [shard]


def test_a_repeated_sample_is_a_record_of_its_own(tmp_path):
    records = read(write_shard(tmp_path / "0.tar", [*sample("a", "one"), *sample("a", "two")]))
    assert [(record.uid, record.caption) for record in records] == [("0/a", "one"), ("0/a", "two")]


def test_a_name_that_is_no_unicode_can_be_written_down(tmp_path):
    shard = write_shard(tmp_path / "0.tar", [(b"\xff.png".decode(errors="surrogateescape"), b"x")])
    uid = read(shard)[0].uid
    assert uid.encode("utf-8").startswith(b"0/")


def damaged_archives(good):
    """What is left of an archive of three samples, and how many samples can still be read whole."""
    third = good.index(b"c.png")
    yield "not an archive", b"hello" * 300, 0
    yield "empty", b"", 0
    yield "cut within a picture", good[: third + 512 + 10], 2
    yield "cut before the end marker", good[:third], 2
    yield "a header overwritten", good[:third] + b"\xaa" * 512 + good[third + 512 :], 2


def test_a_damaged_archive_gives_what_is_readable_and_then_says_so(tmp_path):
    good = write_shard(tmp_path / "good.tar", [*sample("a"), *sample("b"), *sample("c")]).read_bytes()
    after = write_shard(tmp_path / "z.tar", sample("d"))
    for name, content, readable in damaged_archives(good):
        (tmp_path / "broken.tar").write_bytes(content)
        records = read(tmp_path / "broken.tar", after)
        usable = [record.uid for record in records if record.problem is None]
        assert usable == [*["broken/a", "broken/b"][:readable], "z/d"], name
        problems = [record.problem for record in records if record.problem is not None]
        assert problems[-1].reason == Reason.UNREADABLE_SHARD, name
        numbered = [(record.uid, record.place) for record in records]
        for start in range(len(records) + 1):
            tail = read(tmp_path / "broken.tar", after, start=start)
            assert [(record.uid, record.place) for record in tail] == numbered[start:], name


def test_the_fingerprint_follows_files_and_settings(tmp_path):
    shard = write_shard(tmp_path / "0.tar", sample("a"))
    before = WebdatasetSource([shard]).fingerprint()
    assert WebdatasetSource([shard]).fingerprint() == before
    assert WebdatasetSource([shard], fields=Fields(caption="x")).fingerprint() != before
    write_shard(shard, [*sample("a"), *sample("b")])
    assert WebdatasetSource([shard]).fingerprint() != before


@pytest.mark.skipif(not SHARD.is_file(), reason=f"no {SHARD} (IMPLOSION_TEST_DATA)")
def test_a_real_shard_of_cifar10():
    records = read(SHARD)
    assert len(records) == 1000
    assert all(record.problem is None for record in records)
    assert (records[0].caption, records[0].metadata["label"]) == ("truck", 9)
    assert [record.uid for record in read(SHARD, start=998)] == [record.uid for record in records[998:]]
