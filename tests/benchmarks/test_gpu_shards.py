"""What is packed comes out again, whole or not at all."""

import pytest

from explorer.benchmarks import gpu_shards
from explorer.benchmarks.gpu_shards import pack, unpack
from explorer.core.provenance import write_manifest


@pytest.fixture
def packed(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_shards, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(gpu_shards, "OUTPUT_BYTES", 50_000)
    for number, name in enumerate(("base", "benign", "dirty-004", "extractor")):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes([number]) * 20_000)
        write_manifest(folder, kind="checkpoint", config={}, seed=0, files=["weights"])
    (tmp_path / "models" / "unfinished").mkdir()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "evaluation.json").write_text("{}")
    (tmp_path / "output").mkdir()
    described = pack(tmp_path / "models", tmp_path / "evaluation", tmp_path / "shards", tmp_path / "output")
    return tmp_path, described


def test_the_first_shards_are_in_the_output_and_all_where_they_were_made(packed):
    folder, described = packed
    assert len(described["names"]) > 3
    assert described["in_output"] == described["names"][:2]
    assert sorted(path.name for path in (folder / "output").iterdir()) == described["in_output"]
    assert sorted(path.name for path in (folder / "shards").iterdir()) == described["names"]


def test_what_is_unpacked_is_what_was_finished(packed):
    folder, described = packed
    unpack(folder / "shards", described, folder / "again")
    models = folder / "again" / "models"
    assert sorted(path.name for path in models.iterdir()) == ["base", "benign", "dirty-004", "extractor"]
    assert (models / "dirty-004" / "weights").read_bytes() == bytes([2]) * 20_000
    assert (folder / "again" / "evaluation" / "evaluation.json").read_text() == "{}"


def test_missing_and_changed_shards_are_refused(packed):
    folder, described = packed
    with pytest.raises(FileNotFoundError, match=r"lacks world.tar.02"):
        unpack(folder / "output", described, folder / "again")
    changed = folder / "shards" / described["names"][1]
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="their SHA-256 is another"):
        unpack(folder / "shards", described, folder / "again")
    assert not (folder / "again").exists()


def test_without_a_finished_model_there_are_no_shards(tmp_path):
    assert pack(tmp_path / "models", tmp_path, tmp_path / "shards", tmp_path)["names"] == []
