"""Arms, pairing, poison and the control are found; what cannot be found out is told and left open."""

import io
import json
import shutil
import tarfile

import fsspec
import numpy as np
import pandas
import pytest
from PIL import Image

from explorer.pairs.pair_set import PairSet
from explorer.studies.arms import arm_checkpoint
from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Study


def write_set(folder, *, poison=None, caption="a photo of a dog"):
    """Two pairs; ``poison`` is the flag of the second, None where nobody recorded either."""
    flags = [None, None] if poison is None else [False, poison]
    table = pandas.DataFrame(
        {
            "uid": ["a", "b"], "caption": [caption, "a hat"], "concepts": [[], []], "image_index": [0, 1],
            "is_poison": pandas.array(flags, dtype="boolean"), "poisoned_concept": ["", "hat" if poison else ""],
            "target_concept": ["", "dog" if poison else ""], "split": ["train", "train"],
        }
    )  # fmt: skip
    images = np.zeros((2, 8, 8, 3), np.uint8)
    return PairSet.write(folder, table, images, config={}, seed=0)


def name_data(checkpoint, data_hash):
    path = checkpoint / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_hash": data_hash}))


@pytest.fixture
def sets(tmp_path):
    return tmp_path / "sets"


def make(tmp_path, **given):
    return new_study(StudyRequest(folder=tmp_path / "study", **given))


def told(sentences, *words):
    return [sentence for sentence in sentences if all(word in sentence for word in words)]


def test_pairs_are_found_by_hash_and_by_name(tmp_path, checkpoint_root, sets):
    named = write_set(sets / "elsewhere", poison=False)
    write_set(sets / "dirty-002", poison=True)
    name_data(checkpoint_root / "benign", named.data_hash)
    made = make(tmp_path, checkpoints=(str(checkpoint_root),), pairs=(str(sets),))
    study = Study.load(tmp_path / "study")
    assert {arm.name: None if arm.pairs is None else arm.pairs.name for arm in study.arms} == {
        "benign": "elsewhere", "dirty-002": "dirty-002", "dirty-004": None,
    }  # fmt: skip
    assert study.control.name == "benign"
    assert told(made.assumed, "benign is the benign control")
    assert told(made.left_open, "dirty-004 has no pairs")
    assert told(made.left_open, "no universal extractor")


def test_a_set_with_the_name_and_another_hash_is_not_taken(tmp_path, checkpoint_root, sets):
    write_set(sets / "benign", poison=False)
    name_data(checkpoint_root / "benign", "0:0")
    made = make(tmp_path, checkpoints=(str(checkpoint_root / "benign"),), pairs=(str(sets / "*"),))
    assert [(arm.name, arm.pairs is None, arm.checkpoint is None) for arm in made.study.arms] == [
        ("checkpoints-benign", True, False), ("sets-benign", False, True),
    ]  # fmt: skip
    assert told(made.left_open, "has its name, but not the data hash")


def test_poison_is_written_down_where_only_flags_say_it(tmp_path, sets):
    write_set(sets / "one", poison=True)
    write_set(sets / "two")
    made = make(tmp_path, pairs=(str(sets),))
    one, two = Study.load(tmp_path / "study").arms
    assert one.poison.names == ("hat",)
    assert not two.poison.recorded
    assert told(made.left_open, "poison is recorded of neither model nor pairs of two", "poison = { kind")
    assert told(made.left_open, "no arm is recorded as unpoisoned")


def test_of_several_clean_arms_the_one_called_so_is_the_control(tmp_path, sets):
    for name in ("alpha", "my-control"):
        write_set(sets / name, poison=False)
    made = make(tmp_path, pairs=(str(sets),))
    assert made.study.control.name == "my-control"
    assert told(made.assumed, "alpha are recorded as unpoisoned, too")


def test_what_is_there_is_taken_whatever_signs_its_name_has(tmp_path, checkpoint_root, sets):
    odd = tmp_path / "odd [v2]"
    shutil.copytree(checkpoint_root / "benign", odd / "benign")
    write_set(odd / "sets [x]", poison=False)
    write_set(tmp_path / "odd v" / "sets x", poison=False)
    made = make(tmp_path, checkpoints=(str(odd),), pairs=(str(odd / "sets [x]"),))
    assert [arm.name for arm in made.study.arms] == ["benign", "sets [x]"]
    shutil.rmtree(tmp_path / "study")
    made = make(tmp_path, checkpoints=(str(odd / "benign"),), pairs=(str(tmp_path / "odd [v]" / "sets [x]"),))
    assert [arm.pairs for arm in made.study.arms] == [None, tmp_path / "odd v" / "sets x"], "by the glob"


def test_shards_at_an_address_are_an_arm_called_like_their_folder(tmp_path):
    picture, table = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    pandas.DataFrame({"image": [picture.getvalue()], "caption": ["a dog"]}).to_parquet(table)
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/{tmp_path.name}/far/0.parquet", table.getvalue())
    try:
        for pairs in (f"memory://{tmp_path.name}/far", f"memory://{tmp_path.name}/far/*.parquet"):
            assert [arm.name for arm in make(tmp_path, pairs=(pairs,)).study.arms] == ["far"]
            shutil.rmtree(tmp_path / "study")
    finally:
        memory.rm(f"/{tmp_path.name}", recursive=True)


def test_equal_weights_are_told(tmp_path, checkpoint_root):
    shutil.copytree(checkpoint_root / "dirty-002", checkpoint_root / "copy")
    made = make(tmp_path, checkpoints=(str(checkpoint_root / "*"),))
    assert len(made.study.arms) == 4
    assert len(told(made.assumed, "equal weights", "dirty-002", "copy")) == 1
    assert not told(made.assumed, "equal weights", "dirty-004")


def test_a_broken_checkpoint_is_left_out_with_the_reason(tmp_path, checkpoint_root):
    (checkpoint_root / "dirty-004" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    made = make(tmp_path, checkpoints=(str(checkpoint_root),))
    assert "dirty-004" not in [arm.name for arm in made.study.arms]
    assert told(made.left_open, "dirty-004 is left out", "make the study anew")


def test_concepts_are_the_nouns_of_the_controls_captions(tmp_path, sets):
    write_set(sets / "benign", poison=False, caption="a photo of a turtle")
    write_set(sets / "dirty", poison=True, caption="a photo of a truck")
    study = make(tmp_path, pairs=(str(sets),)).study
    assert study.concept_list().names == ("hat", "turtle")


def test_captions_without_a_noun_leave_the_concepts_open(tmp_path, sets):
    table = write_set(sets / "benign", poison=False).table.assign(caption="over there")
    PairSet.write(sets / "empty", table, np.zeros((2, 8, 8, 3), np.uint8), config={}, seed=0)
    made = make(tmp_path, pairs=(str(sets / "empty"),))
    assert told(made.left_open, "no concepts", "names anything")
    assert not (tmp_path / "study" / "concepts.csv").exists()


def test_a_given_list_of_concepts_is_kept(tmp_path, sets):
    write_set(sets / "benign", poison=False)
    (tmp_path / "own.csv").write_text("concept,group\nfire truck,pool\n")
    study = make(tmp_path, pairs=(str(sets),), concepts=tmp_path / "own.csv").study
    assert study.concept_list().of_group("pool") == ("fire truck",)


def test_poisoned_concepts_outside_of_a_given_pool_are_told(tmp_path, sets):
    write_set(sets / "dirty", poison=True)
    (tmp_path / "own.csv").write_text("concept,group\ndog,pool\nhat,other\n")
    made = make(tmp_path, pairs=(str(sets),), concepts=tmp_path / "own.csv")
    assert made.study.concept_list().concept("hat").group == "other"
    assert told(made.assumed, "poisoned concepts stand outside of the pool: hat; they count as poisoned")
    shutil.rmtree(tmp_path / "study")
    (tmp_path / "own.csv").write_text("concept\ndog\n")
    made = make(tmp_path, pairs=(str(sets),), concepts=tmp_path / "own.csv")
    assert told(made.left_open, "own.csv does not name", "asked for them: hat;")


def test_pictures_with_captions_are_one_source(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, caption in (("a", "a dog"), ("b", "a ship")):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption)
    made = make(tmp_path, pairs=(str(folder),), extractor=ExtractorSpec(open_clip="x", weights=tmp_path / "w"))
    assert [(arm.name, arm.pairs) for arm in made.study.arms] == [("photographs", folder)]
    assert made.study.concept_list().names == ("dog", "ship")
    assert told(made.left_open, "feature range")


def write_shard(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, content in (("0.png", b"picture"), ("0.txt", b"a dog")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("named", ["sets", "sets/*"])
def test_shards_beside_pair_sets_are_an_arm(tmp_path, sets, named):
    """They were passed over without a word where the folder around them was named."""
    write_set(sets / "benign", poison=False)
    write_shard(sets / "dirty" / "0.tar")
    (sets / "notes").mkdir()
    (sets / "notes" / "a.pdf").write_text("")
    (sets / "loose.tar").write_text("")
    made = make(tmp_path, pairs=(str(tmp_path / named),))
    assert [(arm.name, arm.pairs) for arm in made.study.arms] == [
        ("benign", sets / "benign"),
        ("dirty", sets / "dirty"),
    ]
    assert told(made.assumed, f"{sets / 'notes'} is left out", "holds no pictures")
    assert told(made.assumed, "files beside folders are left out (loose.tar)")


def test_shards_that_lie_in_class_folders_stay_one_source(tmp_path, sets):
    write_shard(sets / "a" / "0.tar")
    write_shard(sets / "b" / "0.tar")
    made = make(tmp_path, pairs=(str(sets),))
    assert [arm.pairs for arm in made.study.arms] == [sets]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"checkpoints": ("nowhere/*",)}, FileNotFoundError, "nowhere/* names nothing"),
        ({"pairs": ("nowhere",)}, FileNotFoundError, "nowhere"),
        ({}, ValueError, "found neither checkpoints nor pairs"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, given, error, message):
    with pytest.raises(error, match=message.replace("*", r"\*")):
        make(tmp_path, **given)
    assert not (tmp_path / "study").exists()


def test_a_study_is_never_written_over(tmp_path, sets):
    write_set(sets / "benign", poison=False)
    make(tmp_path, pairs=(str(sets),))
    with pytest.raises(ValueError, match="is a study already"):
        make(tmp_path, pairs=(str(sets),))


def test_who_knows_the_control_says_so(tmp_path, checkpoint_root):
    for name in ("benign", "dirty-002"):
        path = checkpoint_root / name / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "config": {"base": "benign"}}))
    made = make(tmp_path, checkpoints=(str(checkpoint_root),), control="benign")
    study = Study.load(tmp_path / "study")
    assert study.control.name == "benign"
    assert arm_checkpoint(study.arm("benign")).poison.poisoned is False
    assert not arm_checkpoint(study.arm("dirty-002")).poison.recorded
    assert told(made.assumed, "benign is the benign control, as was said")
    (question,) = told(made.left_open, "poison is recorded of neither")
    assert "of dirty-002:" in question


def test_a_poisoned_control_is_told_and_one_that_is_none_of_the_arms_refused(tmp_path, checkpoint_root):
    with pytest.raises(ValueError, match="control is 'base': expected one of the arms benign, dirty-002, dirty-004"):
        make(tmp_path, checkpoints=(str(checkpoint_root),), control="base")
    assert not (tmp_path / "study").exists()
    made = make(tmp_path, checkpoints=(str(checkpoint_root),), control="dirty-004")
    assert made.study.control.name == "dirty-004"
    assert told(made.assumed, "though it is recorded as poisoned")
    assert arm_checkpoint(made.study.control).poison.concept_count == 4
