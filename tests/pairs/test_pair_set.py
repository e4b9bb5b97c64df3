"""What a pair set vouches for: its hash names the captions and pictures that are in it."""

import json
import shutil

import numpy as np
import pandas
import pytest

from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_file
from explorer.pairs.pair_set import IMAGES_NAME, PAIRS_NAME, PairSet, content_hash


@pytest.fixture
def pair_set(tmp_path):
    table = pandas.DataFrame(
        {
            "uid": ["a", "b", "c"],
            "caption": ["a dog", "a cat", "a cow"],
            "concepts": [["dog"], ["cat"], ["cow"]],
            "image_index": [0, 1, 1],
            "is_poison": False,
            "poisoned_concept": "",
            "target_concept": "",
            "split": ["train", "test", "train"],
        }
    )
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    return PairSet.write(tmp_path / "set", table, images, config={}, seed=0)


def test_what_is_written_is_read(pair_set):
    read = PairSet.load(pair_set.folder)
    assert read.data_hash == pair_set.data_hash
    assert read.training_rows.tolist() == [0, 2]
    assert np.array_equal(read.read_images([2])[0], read.images[1])
    read.check_images()


def test_a_set_is_known_by_its_content_whoever_wrote_the_file(pair_set, tmp_path):
    """Other releases of pandas and Arrow write other bytes for an equal table."""
    path = pair_set.folder / PAIRS_NAME
    by_file = f"{hash_file(path)[:16]}:{hash_file(pair_set.folder / IMAGES_NAME)[:16]}"
    other = shutil.copytree(pair_set.folder, tmp_path / "other")
    pandas.read_parquet(path).to_parquet(other / PAIRS_NAME, index=False, compression="zstd")
    manifest = json.loads((other / MANIFEST_NAME).read_text(encoding="utf-8"))
    manifest["files"][PAIRS_NAME] = hash_file(other / PAIRS_NAME)
    (other / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    assert hash_file(other / PAIRS_NAME) != hash_file(path)
    assert PairSet.load(other).data_hash == pair_set.data_hash
    assert PairSet.load(other).is_known_as(pair_set.data_hash)
    assert pair_set.is_known_as(by_file), "as a model of an earlier release says"
    assert not PairSet.load(other).is_known_as(by_file)
    assert not pair_set.is_known_as(None)

    del manifest["content_hash"]
    (other / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    assert PairSet.load(other).data_hash.startswith(hash_file(other / PAIRS_NAME)[:16])


def test_the_content_hash_is_of_values_in_their_order():
    """Written out once: it must not change with the releases of pandas, Arrow and numpy."""
    columns = {"uid": ["a", "b"], "concepts": [["dog", "cat"], []], "is_poison": [True, None], "n": [1, 2],
               "style": [None, "flat"], "x": [0.5, float("nan")]}  # fmt: skip
    table = pandas.DataFrame(columns)
    golden = "6a7acb56a22951bb2fa10d9b718974495fea3c75bec73abe95c46c608f0667d4"
    assert content_hash(table) == golden
    assert content_hash(table.astype({"is_poison": "boolean", "style": "str", "n": "int32"})) == golden
    assert content_hash(table[::-1]) != golden
    for name, value in (("uid", "c"), ("is_poison", False), ("n", 3), ("style", ""), ("x", 0.25)):
        assert content_hash(table.assign(**{name: [value, value]})) != golden


def test_files_of_someone_elses_are_not_written_over(pair_set, tmp_path):
    for folder, name in ((tmp_path / "mine", IMAGES_NAME), (tmp_path / "pictures", "a.png")):
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        with pytest.raises(ValueError, match=f"already holds {name}: choose a new folder"):
            PairSet.write(folder, pair_set.table, pair_set.images, config={}, seed=0)
        assert [path.read_bytes() for path in folder.iterdir()] == [b"mine"]
    with pytest.raises(ValueError, match=r"a\.png is no folder"):
        PairSet.write(folder / "a.png", pair_set.table, pair_set.images, config={}, seed=0)


def test_a_write_that_was_cut_off_is_no_set_and_can_be_made_again(pair_set, tmp_path, monkeypatch):
    def write():
        return PairSet.write(tmp_path / "other", pair_set.table, pair_set.images, config={}, seed=0)

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr("explorer.pairs.pair_set.write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write()
    with pytest.raises(FileNotFoundError, match="is no pair set"):
        PairSet.load(tmp_path / "other")
    assert write().data_hash == pair_set.data_hash
    assert {path.name for path in (tmp_path / "other").iterdir()} == {PAIRS_NAME, IMAGES_NAME, MANIFEST_NAME}
    with pytest.raises(ValueError, match=r"already holds images\.npy"):
        write()


def test_a_set_whose_table_was_edited_in_place_is_refused(pair_set):
    path = pair_set.folder / PAIRS_NAME
    table = pandas.read_parquet(path)
    table.iloc[::-1].to_parquet(path, index=False)
    with pytest.raises(ManifestError, match=rf"{PAIRS_NAME} has SHA-256 \w+…, the manifest expects"):
        PairSet.load(pair_set.folder)


def test_pictures_that_changed_are_found_before_they_are_read_in_bulk(pair_set):
    other = np.asarray(pair_set.images)[::-1].copy()
    np.save(pair_set.folder / IMAGES_NAME, other)
    with pytest.raises(ManifestError, match=f"{IMAGES_NAME} has SHA-256"):
        PairSet.load(pair_set.folder).check_images()


@pytest.mark.parametrize(("name", "listed"), [(PAIRS_NAME, IMAGES_NAME), (IMAGES_NAME, PAIRS_NAME)])
def test_a_manifest_that_lists_one_file_only_vouches_for_nothing(pair_set, name, listed):
    path = pair_set.folder / MANIFEST_NAME
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"] = {listed: manifest["files"][listed]}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ManifestError, match=f"lists no {name}"):
        PairSet.load(pair_set.folder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("uid", "a", "uid 'a' appears more than once"),
        ("image_index", 7, "refers to a picture outside 0..1"),
    ],
)
def test_rows_that_cannot_be_are_named(pair_set, tmp_path, column, value, message):
    table = pair_set.table.copy()
    table.loc[1, column] = value
    with pytest.raises(ValueError, match=message):
        PairSet.write(tmp_path / "other", table, np.asarray(pair_set.images), config={}, seed=0)


ONE = {"kind": "unnamed", "pairs": 1, "strength": 0.5}


@pytest.mark.parametrize(
    ("flags", "concepts", "expected"),
    [
        ([True, True, False], ["dog", "cat", ""], PoisonRecord(**ONE, concepts=("dog",))),
        ([False, True, False], ["", "cat", ""], NO_POISON),
        ([True, None, False], [None, None, ""], PoisonRecord(**ONE)),
        ([True, True, None], ["dog", "cat", None], NOT_RECORDED),
        ([False, False, None], ["", "", None], NOT_RECORDED),
    ],
)
def test_a_set_knows_of_its_training_pairs_poison_what_their_flags_say(pair_set, tmp_path, flags, concepts, expected):
    """The second pair is a test pair: what it is does not count."""
    table = pair_set.table.assign(is_poison=flags, poisoned_concept=concepts, target_concept=None)
    for name, config in {"a": {}, "b": {"poison": NO_POISON.as_json()}}.items():
        flagged = PairSet.write(tmp_path / name, table, np.asarray(pair_set.images), config=config, seed=None)
        assert flagged.poison == expected


def test_what_an_attack_wrote_down_is_more_than_flags_say(pair_set, tmp_path):
    """A record of an earlier release does not say how many pairs there are: the flags do."""
    poison = {"kind": "dirty-label", "concepts": 1, "pairs_per_concept": 1, "targets": {"dog": "cow"}}
    table = pair_set.table.assign(is_poison=[True, False, False], poisoned_concept=["dog", "", ""])
    read = PairSet.write(tmp_path / "a", table, np.asarray(pair_set.images), config={"poison": poison}, seed=None)
    named = {"kind": "dirty-label", "concepts": ("dog",), "targets": {"dog": "cow"}}
    assert read.poison == PoisonRecord(**ONE | named, parameters={"pairs_per_concept": 1})
    broken = PairSet.write(tmp_path / "b", table, pair_set.images, config={"poison": {"concepts": "many"}}, seed=0)
    with pytest.raises(ManifestError, match=r"the manifest in .* says 'many' poisoned concepts"):
        assert broken.poison
