"""One record of poison, read and written in one place."""

import json

import pytest

from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord, poison_share, poisoned_from
from explorer.core.provenance import ROOT

FULL = PoisonRecord(
    kind="clean-label", concepts=("dog", "fire truck"), targets={"dog": "cat"}, pairs=40, seed=3, strength=0.25,
    parameters={"budget": 8},
)  # fmt: skip


@pytest.mark.parametrize(
    ("record", "poisoned", "count", "words"),
    [
        (FULL, True, 2, "clean-label, C_P = 2"),
        (PoisonRecord(kind="unnamed", concepts=7), True, 7, "unnamed, C_P = 7"),
        (PoisonRecord(kind="unnamed"), True, None, "unnamed, C_P not recorded"),
        (PoisonRecord(kind="trigger", concepts=()), True, 0, "trigger, C_P = 0"),
        (NO_POISON, False, 0, "no poison"),
        (NOT_RECORDED, None, None, "poison not recorded"),
    ],
    ids=str,
)
def test_every_state_survives_json_and_is_told_from_the_others(record, poisoned, count, words):
    assert PoisonRecord.read(json.loads(json.dumps(record.as_json()))) == record
    assert (record.poisoned, record.concept_count, str(record)) == (poisoned, count, words)
    assert record.recorded == (poisoned is not None)


def test_later_training_does_not_take_earlier_poison_back():
    benign = FULL.followed_by(NO_POISON)
    assert str(benign) == "clean-label, then benign, C_P = 2"
    assert (benign.poisoned, benign.concepts, benign.targets) == (True, FULL.concepts, FULL.targets)
    assert (benign.pairs, benign.strength, benign.seed) == (None, None, None)
    assert benign.parameters == {"trainings": [FULL.as_json(), NO_POISON.as_json()]}
    assert PoisonRecord.read(json.loads(json.dumps(benign.as_json()))) == benign
    later = PoisonRecord(kind="dirty-label", concepts=("owl", "dog"), targets={"dog": "hat", "owl": "cat"})
    again = benign.followed_by(later)
    assert str(again) == "clean-label, then benign, then dirty-label, C_P = 3"
    assert (again.concepts, again.targets["dog"]) == (("dog", "fire truck", "owl"), "hat")
    assert again.parameters["trainings"] == [FULL.as_json(), NO_POISON.as_json(), later.as_json()]
    unknown = FULL.followed_by(NOT_RECORDED)
    assert str(unknown) == "clean-label, then not recorded, C_P not recorded"
    assert (unknown.poisoned, unknown.names) == (True, ("dog",))
    for earlier in (NO_POISON, NOT_RECORDED):
        assert earlier.followed_by(FULL) == FULL


@pytest.mark.parametrize(
    ("old", "record"),
    [
        ({"kind": "none", "concepts": 0, "targets": {}}, NO_POISON),
        ({"kind": "dirty-label", "concepts": 0, "pairs_per_concept": 4, "targets": {}}, NO_POISON),
        ({"kind": "dirty-label", "concepts": ["dog"]}, PoisonRecord(kind="dirty-label", concepts=("dog",))),
        ({"concepts": 2, "targets": ["dog", "cat"]}, PoisonRecord(kind="unnamed", concepts=("dog", "cat"))),
        (3, PoisonRecord(kind="unnamed", concepts=3)),
        ({"kind": "dirty-label"}, PoisonRecord(kind="dirty-label")),
        ({}, NOT_RECORDED),
    ],
    ids=str,
)
def test_records_of_before_there_were_versions_are_read(old, record):
    assert PoisonRecord.read(old) == record


def test_the_shipped_checkpoints_are_read():
    manifest = json.loads((ROOT / "checkpoints" / "iconworld" / "dirty-020" / "manifest.json").read_text("utf-8"))
    record = PoisonRecord.read(manifest["config"]["poison"])
    assert (str(record), record.parameters) == ("dirty-label, C_P = 20", {"pairs_per_concept": 100})
    assert record.targets["apple"] == "trophy"
    assert set(record.names) == set(record.targets)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"concepts": "many"}, "'many' poisoned concepts: expected a count"),
        ({"version": 2}, r"\[\] in version 2 of the poison: expected version 1"),
        (
            {"version": 1, "kind": "x", "victims": 3},
            r"\['kind', 'victims'\] in version 1 of the poison: expected version 1 and some of \['concepts'",
        ),
        ({"version": 1, "kind": "x", "strength": 2}, "2 as strength of the poison: expected a share from 0 to 1"),
        ({"version": 1, "kind": "x", "pairs": -1}, "-1 as pairs of the poison"),
        ({"version": 1, "kind": "none", "concepts": 3}, "3 poisoned concepts of kind none"),
        ({"version": 1, "kind": 3}, "3 as kind of the poison: expected a word"),
    ],
)
def test_what_is_no_record_is_named(found, message):
    with pytest.raises(ValueError, match=message):
        PoisonRecord.read(found)


def test_a_concept_is_poisoned_from_the_smallest_number_on():
    records = [PoisonRecord(kind="x", concepts=("dog", "cat", "cow")), NOT_RECORDED, FULL, NO_POISON]
    assert poisoned_from(records) == {"dog": 2, "fire truck": 2, "cat": 3, "cow": 3}


def test_a_share_is_told_where_it_is_known_of_every_pair():
    assert poison_share({"poisoned_pairs": 2, "unrecorded_pairs": 0, "n": 8}) == 0.25
    assert poison_share({"poisoned_pairs": 2, "pairs": 8}, "pairs") == 0.25, "of before unrecorded ones were counted"
    for counts in ({}, {"poisoned_pairs": None, "n": 8}, {"poisoned_pairs": 2, "unrecorded_pairs": 1, "n": 8}):
        assert poison_share(counts) is None
        assert poison_share(counts, poisoned=True) is None
    assert poison_share({"poisoned_pairs": None, "n": 8}, poisoned=False) == 0, "known of the set, not by flags"
    assert poison_share({}, poisoned=False) is None, "there are no pairs to have a share"
    assert poison_share({"poisoned_pairs": 2, "unrecorded_pairs": 1, "n": 8}, poisoned=False) is None, (
        "the flags differ"
    )
