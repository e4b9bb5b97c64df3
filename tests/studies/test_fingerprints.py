"""A source is known by its files wherever in it they lie, and by no more than what its readers look at."""

import os
import shutil

import pytest

from explorer.core.provenance import hash_json
from explorer.studies.fingerprints import extractor_configuration, pairs_fingerprint
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm

CLASSES = ("cat/1.png", "cat/2.png", "dog/1.png")


def laid_out(folder, names):
    """A folder of small files of those names, all of one date."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, ns=(10**18, 10**18))
    return folder


def of(pairs):
    return pairs_fingerprint(Arm(name="pairs", pairs=pairs))


def test_a_picture_that_changes_its_class_changes_the_source(tmp_path):
    folder = laid_out(tmp_path / "set", CLASSES)
    before = of(folder)
    shutil.move(folder / "cat" / "2.png", folder / "dog" / "2.png")
    assert of(folder) != before
    shutil.move(folder / "dog" / "2.png", folder / "cat" / "2.png")
    assert of(folder) == before


@pytest.mark.parametrize("named", ["set", "set/*", "set/*/*.png", "set/{cat,dog}/*.png"])
def test_a_source_that_is_moved_as_a_whole_is_the_same(tmp_path, named):
    laid_out(tmp_path / "here" / "set", CLASSES)
    before = of(tmp_path / "here" / named)
    (tmp_path / "there" / "deeper").mkdir(parents=True)
    shutil.move(tmp_path / "here" / "set", tmp_path / "there" / "deeper" / "set")
    assert of(tmp_path / "there" / "deeper" / named) == before


def test_files_count_however_deep_they_lie(tmp_path):
    """Sources have no limit of depth: pictures below the third folder were read, and were no pairs to the study."""
    folder = laid_out(tmp_path / "set", ["a/b/c/cat/1.png"])
    deep = of(folder)
    laid_out(folder, ["a/b/c/cat/2.png"])
    assert of(folder) != deep
    mixed = of(folder)
    laid_out(folder, ["near.png"])
    assert of(folder) != mixed


def test_a_shard_that_changes_in_a_folder_that_a_glob_matches_changes_the_source(tmp_path):
    laid_out(tmp_path, ["parts/a/0.tar", "parts/b/0.tar"])
    before = of(tmp_path / "parts" / "*")
    (tmp_path / "parts" / "a" / "0.tar").write_text("another")
    assert of(tmp_path / "parts" / "*") != before


def test_files_in_one_folder_are_known_as_they_always_were(tmp_path):
    """So that no study of shards is measured again for nothing."""
    folder = laid_out(tmp_path / "set", ["0.tar", "1.tar"])
    expected = hash_json([["0.tar", 5, 10**18], ["1.tar", 5, 10**18]])
    assert of(folder) == of(folder / "*.tar") == of(folder / "{0..1}.tar") == expected
    assert of(folder / "0.tar") == hash_json([["0.tar", 5, 10**18]])


def test_what_no_source_reads_does_not_count(tmp_path):
    folder = laid_out(tmp_path / "set", CLASSES)
    before = of(folder)
    laid_out(folder, [".DS_Store", "cat/.thumbs.db", ".git/index"])
    (folder / "elsewhere").symlink_to(laid_out(tmp_path / "other", ["3.png"]), target_is_directory=True)
    assert of(folder) == before
    (folder / "3.png").symlink_to(tmp_path / "other" / "3.png")
    assert of(folder) != before, "shards in a hub's cache are links to files"


@pytest.mark.parametrize("named", ["set", "set/*.tar", "gone"])
def test_nothing_at_a_place_is_told(tmp_path, named):
    (tmp_path / "set").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no pairs at .*: expected what study.toml"):
        of(tmp_path / named)


@pytest.mark.parametrize("changed", ["open_clip_config.json", "merges.txt"])
def test_an_extractor_is_known_by_what_lies_beside_its_weights(tmp_path, changed):
    laid_out(tmp_path, ["open_clip_config.json", "vocab.json", "merges.txt", "open_clip_model.safetensors"])
    extractor = ExtractorSpec(open_clip=f"local-dir:{tmp_path}", weights=tmp_path / "open_clip_model.safetensors")
    before = extractor_configuration(extractor)
    (tmp_path / "open_clip_model.safetensors").write_text("weights have a fingerprint of their own")
    assert extractor_configuration(extractor) == before is not None
    (tmp_path / changed).write_text("another")
    assert extractor_configuration(extractor) != before
    assert extractor_configuration(ExtractorSpec(open_clip="ViT-B-32", weights=tmp_path / "other")) is None
