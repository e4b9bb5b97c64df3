"""Shards at an address are read as the same files are on this machine."""

import io
import pickle
import tarfile

import fsspec
import numpy as np
import pandas
import pytest
from PIL import Image

from explorer.pairs.sources.detection import open_source
from explorer.pairs.sources.remote import RemoteFile


def encoded(number):
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def tar(numbers):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number in numbers:
            for name, data in ((f"{number}.png", encoded(number)), (f"{number}.txt", b"a dog")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture
def both(tmp_path):
    """The same files at ``memory://SHARDS`` and in a local folder; returns both places."""
    table = io.BytesIO()
    pandas.DataFrame({"image": [encoded(7)], "caption": ["a cat"]}).to_parquet(table)
    files = {"a/0.tar": tar([0, 1]), "a/1.tar": tar([2]), "a/2.tar": tar([3])[:700], "b/x.parquet": table.getvalue()}
    memory = fsspec.filesystem("memory")
    for name, data in files.items():
        memory.pipe(f"/{tmp_path.name}/{name}", data)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    yield f"memory://{tmp_path.name}", str(tmp_path)
    memory.rm(f"/{tmp_path.name}", recursive=True)


def told(source, start=0):
    return [(record.uid, record.place, record.image, record.caption, str(record.problem))
            for record in source.records(start)]  # fmt: skip


@pytest.mark.parametrize("name", ["a", "a/*.tar", "a/{0..2}.tar", "b", "b/x.parquet"])
def test_records_are_those_of_local_files(both, name):
    remote, local = (open_source(f"{place}/{name}") for place in both)
    assert remote.kind == local.kind == ("webdataset" if name.startswith("a") else "parquet")
    assert told(remote) == told(local)
    assert told(remote, 1) == told(local)[1:]
    assert told(pickle.loads(pickle.dumps(remote))) == told(local)


def test_a_file_that_changes_has_another_fingerprint(both):
    before = open_source(f"{both[0]}/b").fingerprint()
    assert open_source(f"{both[0]}/b").fingerprint() == before
    path = f"{both[0]}/b/x.parquet".removeprefix("memory:/")
    memory = fsspec.filesystem("memory")
    memory.pipe(path, memory.cat(path))
    assert open_source(f"{both[0]}/b").fingerprint() != before


def test_file_addresses_are_local_paths(both):
    source = open_source(f"file://{both[1]}/a/*.tar")
    assert told(source) == told(open_source(f"{both[1]}/a"))
    assert source.files[0].is_absolute()


def test_what_is_missing_at_an_address_is_named(both):
    with pytest.raises(FileNotFoundError, match=r"names 4 files, of which 1 are missing: memory:.*3\.tar"):
        open_source(f"{both[0]}/a/{{0..3}}.tar")
    with pytest.raises(FileNotFoundError, match="names nothing"):
        open_source(f"{both[0]}/c")
    with pytest.raises(ValueError, match=r"3 \.tar and 1 \.parquet files: expected one kind"):
        open_source(both[0])
    assert RemoteFile("s3://bucket/a/b.tar").address == "s3://bucket/a/b.tar"
