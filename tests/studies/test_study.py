"""A study's settings survive writing and reading, paths follow the folder, and nonsense is named."""

import shutil

import pytest

from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.sources.base import Fields, Reading
from explorer.studies.specs import AestheticsSpec, ClassifierSpec, ExtractorSpec
from explorer.studies.study import Arm, Study


@pytest.fixture
def study(tmp_path):
    dirty = PoisonRecord(kind="dirty-label", concepts=("dog", "hat"), targets={"dog": "cat"})
    return Study(
        folder=tmp_path / "study",
        name="four arms",
        extractor=ExtractorSpec(open_clip="ViT-B-32", weights=tmp_path / "clip.safetensors", feature_range=(0.2, 0.45)),
        arms=(
            Arm(name="benign", checkpoint=tmp_path / "benign", pairs=tmp_path / "sets" / "0", control=True,
                poison=NO_POISON),
            Arm(name="dirty", checkpoint=tmp_path / "dirty", poison=dirty),
            Arm(name="pairs only", pairs=tmp_path / "sets" / "1"),
            Arm(name="far", pairs="s3://bucket/{00000..00009}.tar", poison_fields=PoisonFields(flag="bad"),
                reading=Reading(split="train", fields=Fields(caption="TEXT"))),
        ),
        seeds=(3, 1), beside=(tmp_path / "other",), size=64, tau=0.236, unrelated_distance=0.9,
        aesthetics=AestheticsSpec(
            head=tmp_path / "head.safetensors", open_clip="ViT-L-14-quickgelu", weights=tmp_path / "l14.safetensors",
        ),
        classifier=ClassifierSpec(
            architecture="resnet18", weights=tmp_path / "resnet.safetensors", class_names=tmp_path / "names.txt",
        ),
    )  # fmt: skip


def test_what_is_written_is_read(study):
    study.write()
    assert Study.load(study.folder) == study
    assert study.control.name == "benign"
    assert study.arm("pairs only").poison is NOT_RECORDED
    written = (study.folder / "study.toml").read_text()
    assert "../benign" in written
    assert written.count("reading") == 2, "of one arm, and of its fields"


def test_paths_move_with_the_folder(study, tmp_path):
    study.write()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(study.folder, tmp_path / "elsewhere" / "study")
    moved = Study.load(tmp_path / "elsewhere" / "study")
    assert moved.arm("benign").checkpoint == tmp_path / "elsewhere" / "benign"
    assert moved.beside == (tmp_path / "elsewhere" / "other",)
    text = (moved.folder / "study.toml").read_text()
    (moved.folder / "study.toml").write_text(text.replace('beside = ["../other"]', 'beside = "../other"'))
    with pytest.raises(ValueError, match=r"beside is '\.\./other': expected a list"):
        Study.load(moved.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "benign"', 'name = "../x"'), r"arm is called '\.\./x'"),
        (('name = "benign"', 'name = "dirty"'), "arms dirty stand twice"),
        (('control = true', 'controll = true'), "arm 1 has the unknown setting controll"),
        (('name = "four arms"', 'name = "four arms"\nstep = 3'), "the study has the unknown setting step"),
        (('kind = "dirty-label"', 'kind = 3'), "study.toml"),
        (('name = "four arms"', 'name = '), "study.toml"),
        (("seeds = [3, 1]", "seeds = [3, 3]"), "seeds are"),
        (("seeds = [3, 1]", "seeds = [3, -1]"), "seed is -1: expected a whole number from 0"),
        (("guidance_scale = 7.5", "guidance_scale = nan"), "guidance scale is nan: expected 0 to 50"),
        (("size = 64", "size = 60"), "height is 60: expected a multiple of 8"),
        (('split = "train"', "split = 3"), "split of reading of arm 4 is 3: expected text"),
        (('caption = "TEXT"', 'captoin = "TEXT"'), "fields of the reading of arm 4 has the unknown setting captoin"),
        (('flag = "bad"', 'concept = "bad"'), "expected a field that says which pairs are poison"),
    ],
)  # fmt: skip
def test_nonsense_is_named(study, change, message):
    study.write()
    path = study.folder / "study.toml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match=message):
        Study.load(study.folder)


def test_a_folder_without_a_study_says_how_one_is_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="study new"):
        Study.load(tmp_path)
