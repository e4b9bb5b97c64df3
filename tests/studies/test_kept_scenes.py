"""Pictures of IconWorld's pairs that are painted again where the pairs are not."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from explorer.alignment.graph_columns import Columns
from explorer.alignment.graph_files import THUMBNAILS_NAME
from explorer.alignment.payload_formats import COLUMNS_NAME
from explorer.alignment.payload_formats import GRAPHS as GRAPHS_FORMAT
from explorer.core.provenance import ManifestError
from explorer.iconworld.world import World, generate_pair_set
from explorer.pairs.pair_set import PairSet
from explorer.studies.arm_pairs import THUMBNAIL_SIDE, squared
from explorer.studies.kept_pictures import open_kept_pictures, pictures_stamp
from explorer.studies.kept_scenes import keep_scenes, read_scenes, scenes_file
from explorer.studies.results import GRAPHS, result_file
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm, Study
from explorer.ui.shell.context import SHIPPED_STUDY

ROWS = [3, 0, 39]


@pytest.fixture
def painted(tmp_path):
    pairs = generate_pair_set(World(concept_count=12), tmp_path / "sets" / "benign", train=40, seed=3)
    arms = (Arm(name="benign", pairs=pairs.folder), Arm(name="models alone"))
    study = Study(folder=tmp_path / "study", name="painted", extractor=ExtractorSpec(), arms=arms)
    study.write()
    return study, pairs


def test_pictures_of_pairs_that_are_gone_are_painted_again_to_the_bit(painted):
    study, pairs = painted
    images, hashes = pairs.read_images(ROWS), pairs.data_hashes
    notes = []
    assert keep_scenes(study, notes.append) == ["benign"]
    assert any("models alone has no scenes" in str(note) for note in notes)
    assert (read_scenes(study.folder, "benign").paint(np.array(ROWS)) == images).all()
    assert read_scenes(study.folder, "models alone") is None
    shutil.rmtree(pairs.folder)
    kept = open_kept_pictures(study.arm("benign"), study.folder)
    assert (kept.read(ROWS) == squared(images, THUMBNAIL_SIDE)).all()
    assert kept.count == 40
    assert all(map(kept.are_known_as, hashes))
    assert not kept.are_known_as("others")
    with pytest.raises(ValueError, match=r"row 40 is no pair's: expected 0\.\.39"):
        kept.read([40])


def test_pairs_that_lie_there_come_first(painted):
    study, pairs = painted
    keep_scenes(study)
    stamp = pictures_stamp(study.arm("benign"), study.folder)
    assert len(stamp) == 2
    others = generate_pair_set(World(concept_count=12), pairs.folder.parent / "others", train=40, seed=4)
    arm = Arm(name="benign", pairs=others.folder)
    assert open_kept_pictures(arm, study.folder).are_known_as(others.data_hash)


@pytest.mark.parametrize("name", ["benign", "dirty-020", "dirty-040", "dirty-060"])
def test_the_shipped_scenes_are_those_of_the_pairs_that_were_measured(name, tmp_path):
    """Graphs keeps some of their pictures."""
    shipped = Study.load(SHIPPED_STUDY)
    header = json.loads(result_file(shipped, GRAPHS, f"{name}/{GRAPHS_FORMAT.name}").read_text())
    columns = Columns(result_file(shipped, GRAPHS, f"{name}/{COLUMNS_NAME}"), header["columns"])
    kept = open_kept_pictures(Arm(name=name, pairs=tmp_path / "gone"), SHIPPED_STUDY)
    assert kept.are_known_as(header["facts"]["data_hash"])
    sheet = np.asarray(Image.open(result_file(shipped, GRAPHS, f"{name}/{THUMBNAILS_NAME}")).convert("RGB"))
    size = header["thumbnails"]["size"]
    cells = sheet.reshape(len(sheet) // size, size, -1, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    drawn = np.flatnonzero(columns["thumbnail"] >= 0)[::40]
    painted = kept.read(columns["row"][drawn].tolist()).astype(int)
    off = np.abs(painted - cells[columns["thumbnail"][drawn]]).mean(axis=(1, 2, 3))
    assert off.max() < 15  # of 255: the sheet is reduced in colours
    others = np.abs(painted - cells[np.roll(columns["thumbnail"][drawn], 1)]).mean(axis=(1, 2, 3))
    assert np.median(others) > 30


def test_scenes_that_were_changed_are_refused(painted):
    study, pairs = painted
    keep_scenes(study)
    shutil.rmtree(pairs.folder)
    scenes_file(study.folder, "benign").write_bytes(b"other")
    with pytest.raises(ManifestError, match=r"benign\.parquet"):
        open_kept_pictures(study.arm("benign"), study.folder)


def test_what_is_kept_of_other_arms_stays(painted):
    study, pairs = painted
    keep_scenes(study)
    others = generate_pair_set(World(concept_count=12), pairs.folder.parent / "others", train=5, seed=4)
    further = Study(folder=study.folder, name="painted", extractor=ExtractorSpec(),
                    arms=(Arm(name="benign"), Arm(name="others", pairs=others.folder)))  # fmt: skip
    assert keep_scenes(further) == ["others"]
    assert read_scenes(study.folder, "benign").data_hashes == pairs.data_hashes
    assert read_scenes(study.folder, "others").data_hashes == others.data_hashes
    scenes_file(study.folder, "benign").write_bytes(b"other")
    with pytest.raises(ManifestError, match=r"benign\.parquet"):
        keep_scenes(further)


def test_a_picture_that_was_perturbed_is_no_scenes(painted, tmp_path):
    study, pairs = painted
    images = pairs.read_images().copy()
    images[7, 0, 0] ^= 1
    perturbed = PairSet.write(
        tmp_path / "sets" / "clean", pairs.table, images, config=pairs.manifest["config"], seed=3
    )  # fmt: skip
    found = Study(folder=study.folder, name="clean", extractor=ExtractorSpec(),
                  arms=(Arm(name="clean", pairs=perturbed.folder),))  # fmt: skip
    with pytest.raises(ValueError, match=r"the picture of s3-000007 in clean is not what its scene shows"):
        keep_scenes(found)
    assert read_scenes(study.folder, "clean") is None


def test_a_study_without_painted_pairs_is_refused(tmp_path):
    study = Study(folder=tmp_path, name="mine", extractor=ExtractorSpec(), arms=(Arm(name="models alone"),))
    with pytest.raises(ValueError, match="has pairs that IconWorld painted"):
        keep_scenes(study)
