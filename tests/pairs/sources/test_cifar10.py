"""CIFAR-10 pair sets: the poison counts of section 5.4, determinism, both sources, and what is refused."""

import io
import os
from pathlib import Path

import numpy as np
import pandas
import pytest
import torchvision
from PIL import Image

from explorer.core.provenance import ROOT
from explorer.pairs.mislabelled import with_mislabelled_pairs
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources import cifar10

DATA = Path(os.environ.get("IMPLOSION_TEST_DATA", ROOT.parent / "shared" / "data")) / "cifar10"
needs_cifar10 = pytest.mark.skipif(
    not list(DATA.glob("train*.parquet")), reason=f"no CIFAR-10 parquet files in {DATA} (IMPLOSION_TEST_DATA)"
)
TABLE_5 = {0: 0.0, 2: 0.107, 4: 0.194, 6: 0.265, 8: 0.324, 10: 0.375}


def full_table():
    return cifar10.class_pairs(np.repeat(np.arange(10), 5000), split="train")


def mislabelled_share(table):
    label = table["concepts"].str[0]
    shown = table["target_concept"].where(table["is_poison"], label)
    return (label != shown).mean()


def write_parquet(folder, labels, side=32, column="image", split="train"):
    def encoded(value):
        stream = io.BytesIO()
        Image.new("RGB", (side, side), (value, 0, 255 - value)).save(stream, format="PNG")
        return {"bytes": stream.getvalue(), "path": None}

    folder.mkdir(parents=True, exist_ok=True)
    pictures = [encoded(int(label) * 20) for label in labels]
    pandas.DataFrame({column: pictures, "label": labels}).to_parquet(folder / f"{split}-0.parquet")


@pytest.mark.parametrize(("classes", "feature_ad"), TABLE_5.items())
def test_full_size_poison_gives_the_feature_ad_of_table_5(classes, feature_ad):
    table = with_mislabelled_pairs(
        full_table(), cifar10.CLASSES, poisoned_classes=classes, poisons_per_class=3000, seed=0
    )
    assert len(table) == 50_000 + 3000 * classes
    assert round(mislabelled_share(table), 3) == feature_ad
    assert (table.loc[table["is_poison"], "poisoned_concept"].value_counts() == 3000).all()
    assert table["uid"].is_unique


def test_poison_shows_its_target_and_is_named_after_its_class():
    table = with_mislabelled_pairs(full_table(), cifar10.CLASSES, poisoned_classes=5, poisons_per_class=100, seed=3)
    poison = table[table["is_poison"]]
    shown = np.asarray(cifar10.CLASSES)[poison["image_index"] // 5000]
    assert (shown == poison["target_concept"]).all()
    assert (poison["caption"] == poison["poisoned_concept"]).all()
    assert (poison["poisoned_concept"] != poison["target_concept"]).all()
    for _, rows in poison.groupby("poisoned_concept"):
        assert rows["image_index"].is_unique
        assert rows["target_concept"].nunique() == 1


def test_a_seed_fixes_the_poison_and_nests_it():
    def poison(classes, seed):
        table = with_mislabelled_pairs(
            full_table(), cifar10.CLASSES, poisoned_classes=classes, poisons_per_class=50, seed=seed
        )
        return table[table["is_poison"]].reset_index(drop=True)

    pandas.testing.assert_frame_equal(poison(4, 7), poison(4, 7))
    assert set(poison(2, 7)["uid"]) < set(poison(4, 7)["uid"])
    assert set(poison(4, 7)["uid"]) != set(poison(4, 8)["uid"])


@pytest.mark.parametrize("column", ["image", "img"])
def test_a_part_of_cifar10_is_poisoned_in_proportion(tmp_path, column):
    write_parquet(tmp_path / "source", np.arange(200) % 10, column=column)
    pair_set = cifar10.write_cifar10(tmp_path / "set", tmp_path / "source", poisoned_classes=4, seed=0)
    assert pair_set.manifest["config"]["poison"]["parameters"] == {"added_per_concept": 12}
    assert len(pair_set) == 200 + 4 * 12
    assert round(mislabelled_share(pair_set.table), 3) == TABLE_5[4]
    assert len(pair_set.images) == 200, "poison refers to the benign pictures"
    assert pair_set.read_images([3])[0, 0, 0].tolist() == [60, 0, 195]


def test_official_archive_is_read_through_torchvision(tmp_path, monkeypatch):
    class Archive:
        def __init__(self, root, train, download):
            assert (root, train, download) == (str(tmp_path), False, False)
            self.data = np.zeros((3, 32, 32, 3), np.uint8)
            self.targets = [1, 2, 3]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Archive)
    images, labels = cifar10.read_cifar10(tmp_path, split="test")
    assert images.shape == (3, 32, 32, 3)
    assert labels.tolist() == [1, 2, 3]


def test_missing_and_malformed_sources_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds neither train\*.parquet nor an intact cifar-10-batches"):
        cifar10.read_cifar10(tmp_path, split="train")
    with pytest.raises(ValueError, match="split is 'valid': expected train or test"):
        cifar10.read_cifar10(tmp_path, split="valid")
    write_parquet(tmp_path / "column", [0, 1], column="picture")
    with pytest.raises(ValueError, match=r"expected image \(or img\) and label"):
        cifar10.read_cifar10(tmp_path / "column", split="train")
    write_parquet(tmp_path / "label", [0, 11])
    with pytest.raises(ValueError, match=r"outside 0\.\.9"):
        cifar10.read_cifar10(tmp_path / "label", split="train")
    write_parquet(tmp_path / "side", [0], side=16)
    with pytest.raises(ValueError, match=r"row 0 holds a picture of shape \[16, 16, 3\]"):
        cifar10.read_cifar10(tmp_path / "side", split="train")


def test_pictures_without_a_struct_are_read(tmp_path):
    write_parquet(tmp_path / "struct", [1, 2])
    cells = pandas.read_parquet(tmp_path / "struct" / "train-0.parquet")
    plain = cells.assign(image=[cell["bytes"] for cell in cells["image"]])
    (tmp_path / "plain").mkdir()
    plain.to_parquet(tmp_path / "plain" / "train-0.parquet")
    images, _ = cifar10.read_cifar10(tmp_path / "plain", split="train")
    assert (images == cifar10.read_cifar10(tmp_path / "struct", split="train")[0]).all()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, "row 1 holds no picture: expected an encoded picture's bytes"),
        ({"bytes": None, "path": "1.png"}, "row 1 holds no picture: expected"),
        ({"bytes": b"broken", "path": None}, r"row 1 holds no usable picture \(undecodable image: .*\): expected \[32"),
    ],
)
def test_a_row_without_a_picture_is_named(tmp_path, cell, message):
    write_parquet(tmp_path, [1, 2])
    path = tmp_path / "train-0.parquet"
    cells = pandas.read_parquet(path)
    cells.at[1, "image"] = cell
    cells.to_parquet(path)
    with pytest.raises(ValueError, match=message):
        cifar10.read_cifar10(tmp_path, split="train")


def test_a_folder_in_use_is_refused_before_the_source_is_read(tmp_path):
    (tmp_path / "images.npy").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"already holds images\.npy: choose a new folder"):
        cifar10.write_cifar10(tmp_path, tmp_path / "nowhere", poisoned_classes=0, seed=0)
    assert (tmp_path / "images.npy").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("classes", "poisons", "message"),
    [(11, 1, "C_P is 11: expected 0 to 10"), (1, 5001, "5001 mislabelled pairs of")],
)
def test_bad_poison_counts_are_named(classes, poisons, message):
    with pytest.raises(ValueError, match=message):
        with_mislabelled_pairs(
            full_table(), cifar10.CLASSES, poisoned_classes=classes, poisons_per_class=poisons, seed=0
        )


@needs_cifar10
def test_real_cifar10_test_split_is_read(tmp_path):
    images, labels = cifar10.read_cifar10(DATA, split="test")
    assert images.shape == (len(labels), 32, 32, 3)
    assert np.bincount(labels).tolist() == [len(labels) // 10] * 10
    assert 50 < images.mean() < 200


@pytest.mark.slow
@needs_cifar10
def test_real_cifar10_training_set_has_the_feature_ad_of_table_5(tmp_path):
    pair_set = cifar10.write_cifar10(tmp_path / "set", DATA, poisoned_classes=10, seed=0)
    assert round(mislabelled_share(pair_set.table), 3) == TABLE_5[10]
    assert len(PairSet.load(tmp_path / "set")) == len(pair_set)
