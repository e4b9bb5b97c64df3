"""Arms' checkpoints under the arms' names, with the poison that anybody recorded, in the order of columns."""

import json
from dataclasses import replace

import pytest

from explorer.checkpoints.registry import read_checkpoint
from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.studies.arms import arm_checkpoint, arm_checkpoints, arm_poison
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm, Study

BY_HAND = PoisonRecord(kind="nightshade", concepts=("dog",))


@pytest.fixture
def pairs(tmp_path):
    """The manifest of a set that says it is poisoned with three concepts."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    poison = {"kind": "dirty-label", "concepts": ["dog", "hat", "shirt"]}
    (folder / "manifest.json").write_text(json.dumps({"kind": "pair-set", "config": {"poison": poison}}))
    return folder


def test_what_is_written_by_hand_counts_before_the_checkpoint_and_that_before_the_pairs(checkpoint_root, pairs):
    arm = Arm(name="x", checkpoint=checkpoint_root / "dirty-002", pairs=pairs)
    assert arm_checkpoint(arm).poison.concept_count == 2
    assert arm_checkpoint(replace(arm, poison=BY_HAND)).poison == BY_HAND
    forget(checkpoint_root / "dirty-002")
    assert arm_checkpoint(arm).poison.concept_count == 3
    assert not arm_checkpoint(replace(arm, pairs=None)).poison.recorded
    assert arm_checkpoint(replace(arm, pairs=None, control=True)).poison.poisoned is False


def test_an_arm_of_which_nothing_is_recorded_stands_last(checkpoint_root, tmp_path):
    forget(checkpoint_root / "dirty-002")
    names = ("dirty-002", "dirty-004", "benign")
    arms = tuple(Arm(name=name, checkpoint=checkpoint_root / name, control=name == "benign") for name in names)
    study = Study(folder=tmp_path, name="x", extractor=ExtractorSpec(), arms=(*arms, Arm(name="without")))
    assert [each.name for each in arm_checkpoints(study)] == ["benign", "dirty-004", "dirty-002"]


def forget(checkpoint):
    path = checkpoint / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["config"]["poison"]
    path.write_text(json.dumps(manifest))


def test_names_come_from_the_pairs_where_the_checkpoint_has_but_their_number(checkpoint_root, pairs):
    checkpoint = read_checkpoint(checkpoint_root / "dirty-002")
    arm = Arm(name="dirty-002", checkpoint=checkpoint.folder, pairs=pairs)
    for count, names in ((3, ("dog", "hat", "shirt")), (None, ("dog", "hat", "shirt")), (2, ())):
        counted = replace(checkpoint, poison=PoisonRecord(kind="dirty-label", concepts=count))
        assert arm_poison(arm, counted).names == names
    assert arm_poison(arm, replace(checkpoint, poison=NO_POISON)) == NO_POISON
