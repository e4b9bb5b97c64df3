from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from explorer.core import block_files
from explorer.core.block_files import BLOCK_ROWS, BlockArray, BlockFiles
from explorer.core.provenance import ManifestError, check_files, read_manifest

ROWS = 2 * BLOCK_ROWS + 5


def files(root, **config):
    return BlockFiles(root=root, config=config, names=("number", "square"), rows=ROWS)


def count_up(rows):
    number = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    return {"number": number, "square": np.sqrt(number).repeat(3, axis=1)}


def test_rows_come_back_as_they_were_made(tmp_path):
    made = files(tmp_path, version=1)
    made.fill(count_up)
    opened = made.open()
    rows = np.array([ROWS - 1, 0, BLOCK_ROWS, BLOCK_ROWS - 1, 0])
    whole = count_up(range(ROWS))
    assert len(opened["number"]) == ROWS
    for name in ("number", "square"):
        assert np.array_equal(opened[name][rows], whole[name][rows].astype(np.float16))
    manifest = read_manifest(made.folder, kind="encoded")
    check_files(made.folder, manifest)
    assert len(manifest["files"]) == 6


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="rows of number, square are 0: expected 1 or more"):
        replace(files(tmp_path), rows=0)


def test_a_cut_off_run_makes_only_what_is_missing(tmp_path):
    made, seen = files(tmp_path), []

    def failing(rows):
        if rows.start >= BLOCK_ROWS:
            raise RuntimeError("cut off")
        return count_up(rows)

    with pytest.raises(RuntimeError):
        made.fill(failing)
    with pytest.raises(ManifestError, match="is missing"):
        made.open()
    made.fill(lambda rows: seen.append(rows.start) or count_up(rows))
    assert seen == [BLOCK_ROWS, 2 * BLOCK_ROWS]
    made.fill(failing)  # nothing is left to do
    assert made.open()["number"][np.array([BLOCK_ROWS])] == BLOCK_ROWS


def test_blocks_are_as_long_as_is_asked(tmp_path):
    made, seen = replace(files(tmp_path), block_rows=3, rows=8), []
    assert made.missing() == [0, 1, 2]
    made.fill(lambda rows: seen.append(rows) or count_up(rows))
    assert seen == [range(3), range(3, 6), range(6, 8)]
    assert made.open()["number"][np.array([7, 2, 3])].flatten().tolist() == [7, 2, 3]
    assert (made.missing(), made.folder == replace(made, block_rows=4).folder) == ([], False)


def test_processes_share_the_blocks(tmp_path):
    made, seen = files(tmp_path), [[], []]

    def fill(rank):
        made.fill(lambda rows: seen[rank].append(rows.start) or count_up(rows), rank=rank, processes=2)
        return made.open()["number"][np.array([ROWS - 1])]

    with ThreadPoolExecutor(2) as pool:
        assert [value.item() for value in pool.map(fill, range(2))] == [ROWS - 1] * 2
    assert seen == [[0, 2 * BLOCK_ROWS], [BLOCK_ROWS]]


@pytest.mark.parametrize("rank", [0, 1])
def test_files_of_a_machine_that_shares_no_storage_are_not_awaited_for_ever(tmp_path, monkeypatch, rank):
    monkeypatch.setattr("explorer.core.block_files.PATIENCE_HOURS", 1e-5)
    made = files(tmp_path)
    message = f"{made.folder} lacks files of other processes after 1e-05 hours: expected a cache folder on storage that"
    with pytest.raises(ValueError, match=message):
        made.fill(count_up, rank=rank, processes=2)


def test_other_settings_are_other_files(tmp_path):
    assert files(tmp_path, version=1).folder != files(tmp_path, version=2).folder


def test_values_beyond_fp16_are_refused(tmp_path):
    with pytest.raises(ValueError, match="number has values beyond float16 or NaN in rows 0 and after"):
        files(tmp_path).fill(lambda rows: {name: 1e6 * value for name, value in count_up(rows).items()})


def test_values_are_kept_as_is_asked(tmp_path):
    made, finer = files(tmp_path), replace(files(tmp_path), dtype="float32")
    finer.fill(lambda rows: {name: value + 1e-6 for name, value in count_up(rows).items()})
    number = finer.open()["number"][np.array([1])]
    assert number.dtype == np.float32
    assert number.item() > 1
    assert made.folder != finer.folder


def test_rows_are_the_same_whether_held_in_memory_or_mapped(monkeypatch):
    blocks = [
        np.arange(start, start + size)[:, None] * np.ones((1, 3)) for start, size in ((0, BLOCK_ROWS), (BLOCK_ROWS, 5))
    ]
    rows = np.array([BLOCK_ROWS + 4, 0, 7, BLOCK_ROWS, 0])
    held = BlockArray(blocks)
    monkeypatch.setattr(block_files, "HELD_BYTES", 0)
    mapped = BlockArray(blocks)
    assert held.held is not None
    assert mapped.held is None
    assert (held[rows] == mapped[rows]).all()
    assert held[rows][:, 0].tolist() == rows.tolist()
    assert len(held) == len(mapped) == BLOCK_ROWS + 5
