"""Stores in clip-retrieval's layout, written by hand as LAION and clip-retrieval write them, and what is refused."""

import shutil

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from pyarrow import parquet

from explorer.core.provenance import ManifestError
from explorer.embeddings import store as store_module
from explorer.embeddings.store import EmbeddingStore

WIDTH = 6


def embeddings(rows, seed, dtype=np.float16, width=WIDTH):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(dtype)


def write_store(folder, sizes=(3, 0, 4), names=("img_emb", "text_emb", "metadata"), digits=4, dtype=np.float16):
    """Partitions of random rows, which are not of unit length; returns them joined."""
    image_folder, text_folder, metadata_folder = (folder / name for name in names)
    for made in (image_folder, text_folder, metadata_folder):
        made.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(sizes):
        np.save(image_folder / f"img_emb_{number:0{digits}d}.npy", embeddings(rows, 2 * number, dtype))
        np.save(text_folder / f"text_emb_{number:0{digits}d}.npy", embeddings(rows, 2 * number + 1, dtype))
        table = pandas.DataFrame({"caption": [f"{number}-{row}" for row in range(rows)]}, dtype=str)
        table.to_parquet(metadata_folder / f"metadata_{number:0{digits}d}.parquet")
    return tuple(
        np.concatenate([embeddings(rows, 2 * number + offset, dtype) for number, rows in enumerate(sizes)])
        for offset in (0, 1)
    )


def unit(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("names", "digits", "dtype"),
    [
        (("img_emb", "text_emb", "metadata"), 4, np.float16),
        (("img_emb", "text_emb", "laion2B-en-metadata"), 4, np.float16),
        (("images", "texts", "metadata"), 1, np.float32),
    ],
)
def test_partitions_are_one_array(tmp_path, names, digits, dtype):
    image, text = write_store(tmp_path, names=names, digits=digits, dtype=dtype)
    store = EmbeddingStore.open(tmp_path)
    assert len(store) == 7
    assert store.image.shape == (7, WIDTH)
    assert store.manifest is None
    for rows, expected in ((store.image, image), (store.text, text)):
        assert rows.read().dtype == torch.float32
        np.testing.assert_allclose(rows.read().numpy(), unit(expected), atol=1e-6)
        picked = np.array([6, 0, 3, 3, 2])
        np.testing.assert_allclose(rows.read(picked).numpy(), unit(expected)[picked], atol=1e-6)
        assert (rows.stored(slice(1, 5)) == expected[1:5]).all()
        assert (rows.stored(slice(-2, 99)) == expected[-2:]).all()
        assert rows.stored(slice(3, 3)).shape == (0, WIDTH)
        assert torch.equal(torch.cat(list(rows.batches(3))), rows.read())
    assert store.metadata()["caption"].tolist() == ["0-0", "0-1", "0-2", "2-0", "2-1", "2-2", "2-3"]


def test_a_column_of_the_metadata_comes_a_partition_at_a_time(tmp_path):
    write_store(tmp_path)
    store = EmbeddingStore.open(tmp_path)
    assert store.metadata_columns() == ["caption"]
    assert list(store.column("caption")) == [["0-0", "0-1", "0-2"], [], ["2-0", "2-1", "2-2", "2-3"]]
    with pytest.raises(ValueError, match=r"metadata_0000\.parquet has the columns caption: expected 'uid', too"):
        next(store.column("uid"))


def test_partitions_are_ordered_by_number(tmp_path):
    sizes = (1,) * 12
    image, _ = write_store(tmp_path, sizes=sizes, digits=1)
    assert (EmbeddingStore.open(tmp_path).image.stored() == image).all(), "img_emb_10 comes after img_emb_9"


def test_rows_stay_on_disk(tmp_path):
    write_store(tmp_path)
    store = EmbeddingStore.open(tmp_path)
    assert all(isinstance(part, np.memmap) for part in store.image._partitions)
    with pytest.raises(IndexError, match=r"row 7 is outside 0\.\.6"):
        store.image.read(np.array([0, 7]))
    with pytest.raises(ValueError, match="size is 0"):
        next(store.image.batches(0))


def test_the_partition_that_disagrees_is_named(tmp_path):
    write_store(tmp_path)
    second = tmp_path / "text_emb" / "text_emb_0002.npy"
    np.save(second, embeddings(5, 0))
    with pytest.raises(ValueError, match="partition 2 has 4 image embeddings, 5 text embeddings and 4 rows"):
        EmbeddingStore.open(tmp_path)
    np.save(second, embeddings(4, 0, width=5))
    with pytest.raises(ValueError, match=r"partition 2 has widths 6 \(image\) and 5 \(text\): expected 6"):
        EmbeddingStore.open(tmp_path)
    np.save(second, embeddings(4, 0).astype(np.int64))
    with pytest.raises(ValueError, match=r"text_emb_0002.npy is int64 \[4, 6\]: expected float16 or float32"):
        EmbeddingStore.open(tmp_path)
    np.save(second, np.array([{}] * 4), allow_pickle=True)
    with pytest.raises(ValueError, match=r"text_emb_0002\.npy is no readable"):
        EmbeddingStore.open(tmp_path)
    second.write_bytes(second.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"text_emb_0002\.npy is no readable"):
        EmbeddingStore.open(tmp_path)
    second.unlink()
    with pytest.raises(ValueError, match="partition 2 has no text"):
        EmbeddingStore.open(tmp_path)
    (tmp_path / "metadata" / "metadata_0000.parquet").write_bytes(b"x")
    second.with_name("text_emb_0002.npy").write_bytes((tmp_path / "img_emb" / "img_emb_0002.npy").read_bytes())
    with pytest.raises(ValueError, match=r"metadata_0000\.parquet is no readable parquet file"):
        EmbeddingStore.open(tmp_path)


def test_what_is_no_store_or_unfinished_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no embedding store: it has no image \(img_emb"):
        EmbeddingStore.open(tmp_path)
    write_store(tmp_path)
    (tmp_path / "extraction.json").write_text("{}")
    with pytest.raises(ManifestError, match="is unfinished: run the same extraction again"):
        EmbeddingStore.open(tmp_path)


def test_a_store_without_metadata_opens_and_says_so_only_when_it_is_asked_for(tmp_path):
    image, _ = write_store(tmp_path)
    shutil.rmtree(tmp_path / "metadata")
    store = EmbeddingStore.open(tmp_path)
    assert (len(store), store.metadata_files, store.metadata_columns()) == (7, (), [])
    np.testing.assert_allclose(store.image.read().numpy(), unit(image), atol=1e-6)
    with pytest.raises(ValueError, match=r"has no metadata: expected metadata, \*-metadata in it"):
        store.metadata()
    with pytest.raises(ValueError, match="has no metadata: expected 'caption' in it"):
        next(store.column("caption"))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "rows", [slice(None), slice(3, 9), [9, 0, 4, 4, 5], [7], [], slice(8, 2)], ids=lambda rows: str(rows)
)
def test_rows_are_read_from_wherever_they_lie(tmp_path, order, rows):
    parts = [np.random.default_rng(number).normal(size=(5, 3)).astype(np.float16) for number in range(2)]
    for name in ("img_emb", "text_emb"):
        (tmp_path / name).mkdir()
        for number, part in enumerate(parts):
            np.save(tmp_path / name / f"{name}_{number}.npy", np.asarray(part, order=order))
    stored = EmbeddingStore.open(tmp_path).image.stored(rows if isinstance(rows, slice) else np.array(rows, int))
    np.testing.assert_array_equal(stored, np.concatenate(parts)[rows])


def test_a_file_that_is_cut_off_while_it_is_read_is_named(tmp_path):
    for name in ("img_emb", "text_emb"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / f"{name}_0.npy", np.ones((100, 64), np.float16))
    store = EmbeddingStore.open(tmp_path)
    with open(tmp_path / "img_emb" / "img_emb_0.npy", "r+b") as stream:
        stream.truncate(5000)
    assert store.image.stored(slice(0, 10)).shape == (10, 64)
    with pytest.raises(ValueError, match=r"img_emb_0\.npy ends before its last row"):
        store.image.stored(slice(0, 100))


def test_a_column_is_read_as_text_from_any_row_on(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "STRINGS_AT_ONCE", 2)
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / name).mkdir()
    for number, uids in enumerate(([1, 2, 3], [4, None, 6])):
        for name in ("img_emb", "text_emb"):
            np.save(tmp_path / name / f"{name}_{number}.npy", np.ones((3, 2), np.float16))
        table = pyarrow.table({"uid": pyarrow.array(uids, pyarrow.int64())})
        parquet.write_table(table, tmp_path / "metadata" / f"metadata_{number}.parquet")
    store = EmbeddingStore.open(tmp_path)
    expected = ["1", "2", "3", "4", None, "6"]
    for first in range(6):
        assert [uid for part in store.strings("uid", first) for uid in part.to_pylist()] == expected[first:]
    with pytest.raises(ValueError, match="expected 'key'"):
        list(store.strings("key"))
