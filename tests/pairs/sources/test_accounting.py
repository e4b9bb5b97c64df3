"""Nothing vanishes: of everything a source is given, used and quarantined together are all there is, whatever it is."""

import io
import random
import tarfile

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from explorer.pairs.pair_import import import_pairs
from explorer.pairs.quarantine import QUARANTINE_NAME, read_quarantine
from explorer.pairs.sources.detection import open_source
from explorer.pairs.sources.image_folder import ImageFolderSource
from explorer.pairs.sources.webdataset import WebdatasetSource

NAMES = (
    "a",
    "B",
    "é",
    "www.site.com_1",
    "www.site.com_2",
    "IMG_2024.05.01",
    "x.y",
    ".hidden",
    "._mac",
    "a b",
    "10_dog/a",
)
SUFFIXES = (
    "jpg", "JPG", "jpeg", "jfif", "png", "webp", "gif", "bmp", "tiff", "heic", "svg", "", "bin", "txt", "TXT",
    "caption", "text", "json", "npz", "md", "mask.png", "csv", "xml", "cls",
)  # fmt: skip


def encoded(kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(stream, kind)
    return stream.getvalue()


PICTURES = [encoded("PNG"), encoded("JPEG"), encoded("WEBP"), b"broken", b""]
TEXTS = [b"a cat", b"a dog", b"", b"caf\xe9", b"1 2 3", b'{"caption": "a cat"}', b"file_name,text\na.jpg,a cat\n"]


def mixture(seed):
    """Names with contents: about forty files of every kind, some of which belong together."""
    draw = random.Random(seed)
    names = {f"{draw.choice(NAMES)}{'.' if suffix else ''}{suffix}" for suffix in SUFFIXES * 2}
    return {
        name: draw.choice(TEXTS if name.lower().endswith(("t", "n", "v")) else PICTURES + TEXTS[:1])
        for name in sorted(names)
    }


def is_hidden(name):
    return any(part.startswith(".") for part in name.split("/"))


@pytest.mark.parametrize("seed", range(12))
def test_every_file_of_a_folder_is_a_pair_a_caption_or_in_the_quarantine(tmp_path, seed):
    files = mixture(seed) | {"sure.png": PICTURES[0], "sure.txt": b"a cat"}
    for name, content in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    source = ImageFolderSource(tmp_path / "in", split="all")
    made, quarantined = import_pairs(source, tmp_path / "set", size=16)
    config = made.manifest["config"]
    assert config["records"] == len(made) + len(quarantined) == len(list(source.records()))
    assert sum(config["caption_sources"].values()) == sum(config["splits"].values()) == len(made)
    assert read_quarantine(tmp_path / "set" / QUARANTINE_NAME) == quarantined
    read = {path.relative_to(tmp_path / "in").as_posix() for path in source.files}
    told = read | {record.place for record in quarantined} | set(made.table["place"])
    pictures = {name for name, content in files.items() if content in PICTURES[:3]}
    assert {name for name in files if not is_hidden(name)} | pictures <= told
    used = set(made.table["place"])
    assert used.isdisjoint(record.place for record in quarantined)
    assert used <= {name for name in files if not is_hidden(name)}


@pytest.mark.parametrize("seed", range(12))
def test_every_file_of_a_shard_belongs_to_a_record(tmp_path, seed):
    files = mixture(seed) | {"sure.png": PICTURES[0], "sure.txt": b"a cat"}
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    made, quarantined = import_pairs(WebdatasetSource([tmp_path / "0.tar"]), tmp_path / "set", size=16)
    assert made.manifest["config"]["records"] == len(made) + len(quarantined)
    keys = [place.removeprefix("0.tar:") for place in [*made.table["place"], *(found.place for found in quarantined)]]
    for name in files:
        belongs = [key for key in keys if name == key or name.startswith(f"{key}.")]
        assert belongs, f"{name} is in no record of {sorted(keys)}"
    pictures = [name for name, content in files.items() if content in PICTURES[:3]]
    assert len(made) <= len(pictures)
    for name in pictures:
        stem, first = name.rpartition(".")[0], name.partition(".")[0]
        assert {stem, first, name} & set(keys), name


def test_every_file_beside_shards_and_every_row_is_told(tmp_path):
    table = pyarrow.table({"image": [PICTURES[0], None, b"broken"] * 40, "text": ["x", "y", None] * 40})
    parquet.write_table(table, tmp_path / "0.parquet")
    for name in ("README.md", "more.tar.gz", "sub/notes.txt", ".cache/old.parquet", ".gitattributes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "pipe.parquet").symlink_to(tmp_path / "gone")
    source = open_source(tmp_path)
    made, quarantined = import_pairs(source, tmp_path.parent / "made", size=16)
    assert (len(made), made.manifest["config"]["records"]) == (40, 120 + 5)
    beside = {record.place: str(record.reason) for record in quarantined if not record.place.startswith("0.parquet")}
    assert beside == {
        ".cache/old.parquet": "hidden file",
        "README.md": "file of no known kind",
        "more.tar.gz": "unreadable shard",
        "pipe.parquet": "no regular file",
        "sub/notes.txt": "file of no known kind",
    }
    for start in (0, 7, 119, 120, 123, 125):
        assert len(list(source.records(start))) == 125 - start


def test_a_mixture_of_kinds_is_refused_and_told_when_one_is_named(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w"):
        pass
    (tmp_path / "a.jpg").write_bytes(PICTURES[1])
    (tmp_path / "a.txt").write_bytes(b"a cat")
    with pytest.raises(ValueError, match=r"holds 1 \.tar and 1 picture files: expected one kind"):
        open_source(tmp_path)
    shards, pictures = (list(open_source(tmp_path, kind=kind).records()) for kind in ("webdataset", "imagefolder"))
    assert [record.place for record in shards] == ["a.jpg", "a.txt"]
    assert [(record.place, record.problem is None) for record in pictures] == [("a.jpg", True), ("0.tar", False)]
