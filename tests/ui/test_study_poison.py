from dataclasses import replace

from explorer.core.poison_record import PoisonRecord
from explorer.studies.study import Arm
from explorer.ui.shell.concepts import read_concepts
from explorer.ui.shell.study_poison import with_aims


def test_every_model_has_its_own_aims_and_what_is_not_known_stays_so(tmp_path, checkpoint_root, make_study, open_study):
    two, four = (Arm(name=name, checkpoint=checkpoint_root / name) for name in ("dirty-002", "dirty-004"))
    arms = (
        Arm(name="benign", control=True),
        replace(two, poison=PoisonRecord(kind="dirty-label", concepts=("shirt", "turtle"))),
        replace(four, poison=PoisonRecord(kind="dirty-label", concepts=7)),
    )
    opened = open_study(make_study(tmp_path / "mine", arms=arms, concepts=("dog",)).folder)
    found = with_aims(opened, [{"name": name} for name in ("benign", "dirty-002", "dirty-004", "gone")])
    assert [each["poisoned_concepts"] for each in found] == [[], ["shirt", "turtle"], [], []]
    assert [each["poisoned_concepts_known"] for each in found] == [True, True, False, False]
    assert not read_concepts(opened).aims_known


def test_a_folder_of_checkpoints_has_their_own_records(checkpoint_root, open_checkpoints):
    opened = open_checkpoints(checkpoint_root)
    found = with_aims(opened, [{"name": "benign"}, {"name": "dirty-002"}])
    assert [each["poisoned_concepts"] for each in found] == [[], ["dog", "hat"]]
    assert read_concepts(opened).aims_known
