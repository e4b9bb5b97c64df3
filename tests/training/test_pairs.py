"""What fine-tuning takes for its pairs, and what an import beside a run keeps."""

import os

import numpy as np
import pytest
from PIL import Image

from explorer.core.folder_lock import locked
from explorer.pairs.pair_import import import_pairs
from explorer.pairs.pair_set import PairSet
from explorer.pairs.quarantine import QUARANTINE_NAME, read_quarantine
from explorer.pairs.sources.base import Fields
from explorer.pairs.sources.detection import open_source
from explorer.training.pairs import imported_pairs, pair_set_or_source


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 40 x 30 and a broken one, in class folders."""
    for name, colour in (("cat/1.png", 10), ("cat/2.png", 20), ("dog/1.png", 30)):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (colour, 0, 0)).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "dog" / "2.png").write_bytes(b"broken")
    return tmp_path / "pictures"


def test_a_pair_set_is_opened_and_anything_else_is_a_source(folder, tmp_path):
    assert pair_set_or_source(folder).kind == "imagefolder"
    import_pairs(open_source(folder), tmp_path / "set", size=16)
    assert isinstance(pair_set_or_source(tmp_path / "set"), PairSet)
    with pytest.raises(ValueError, match="is a pair set and kind is 'parquet': expected it for other sources only"):
        pair_set_or_source(tmp_path / "set", kind="parquet")
    with pytest.raises(ValueError, match="caption is 'text'"):
        pair_set_or_source(tmp_path / "set", fields=Fields(caption="text"))
    with pytest.raises(FileNotFoundError, match="names nothing"):
        pair_set_or_source(tmp_path / "nowhere")


def test_a_source_is_imported_once_and_says_what_was_set_aside(folder, tmp_path):
    lines, source = [], open_source(folder)
    made = imported_pairs(
        source, tmp_path / "run", 24, on_progress=lambda progress: progress.message and lines.append(progress.message)
    )
    assert made.images.shape == (3, 24, 24, 3)
    assert made.table["caption"].tolist() == ["cat", "cat", "dog"]
    assert (np.array(made.images[2]) == [30, 0, 0]).all()
    assert [record.place for record in read_quarantine(tmp_path / "run" / "pairs" / QUARANTINE_NAME)] == ["dog/2.png"]
    again = imported_pairs(
        source, tmp_path / "run", 24, on_progress=lambda progress: progress.message and lines.append(progress.message)
    )
    assert again.manifest["created"] == made.manifest["created"]
    assert lines[1:4] == ["caption sources: 3 folder name", "converted: none", "splits: 3 unnamed"]
    assert lines[:4] == lines[5:]
    assert lines[0].endswith("pairs: 3 pairs, 1 set aside, 1 undecodable image")


def test_pairs_of_another_source_are_not_taken(folder, tmp_path):
    imported_pairs(open_source(folder), tmp_path / "run", 24)
    with pytest.raises(ValueError, match="holds a pair set made with another size: expected the same source"):
        imported_pairs(open_source(folder), tmp_path / "run", 32)
    os.utime(folder / "cat" / "1.png", (0, 0))
    with pytest.raises(ValueError, match="holds a pair set made with another fingerprint"):
        imported_pairs(open_source(folder), tmp_path / "run", 24)


def test_two_imports_beside_one_run_do_not_mix(folder, tmp_path):
    with (
        locked(tmp_path / "run" / "pairs"),
        pytest.raises(ValueError, match=rf"is being written by process {os.getpid()} on"),
    ):
        imported_pairs(open_source(folder), tmp_path / "run", 24)
    assert len(imported_pairs(open_source(folder), tmp_path / "run", 24)) == 3
