"""Nouns of captions by frequency, groups by rank, and poisoned concepts that no list may lack."""

import pytest

from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord
from explorer.pairs.concept_list import LESS_POPULAR, OTHER, POOL, Concept
from explorer.studies.concepts import concepts_of_captions, concepts_of_mentions, grouped, with_poisoned

CAPTIONS = [
    "a photo of a dog for hat lovers", "Dogs on the beach", "The Dog And The Turtle - Stock Photo",
    "a turtle standing in grass", "two horses", "an illustration of horses",
]  # fmt: skip


def test_nouns_come_by_frequency_without_what_every_picture_is():
    found = {each.name: each for each in concepts_of_captions(CAPTIONS)}
    assert list(found)[:2] == ["dog", "horses"]
    assert {"turtle", "hat", "beach", "grass"} <= found.keys()
    assert found.keys().isdisjoint({"photo", "stock", "illustration", "dogs", "standing", "a", "the"})


def test_a_plural_without_a_singular_takes_no_article():
    found = {each.name: each for each in concepts_of_captions(CAPTIONS)}
    assert found["horses"].shown == "horses"
    assert found["dog"].shown == "a dog"


def test_concepts_that_a_set_lists_count_once_a_caption():
    found = concepts_of_mentions([["hat", "hat", "dog"], ["dog"], []], ["a hat and a dog", "dog", ""])
    assert [each.name for each in found] == ["dog", "hat"]


@pytest.mark.parametrize(("count", "pool", "less"), [(1, 1, 0), (6, 3, 1), (7, 4, 1), (2000, 500, 333)])
def test_groups_follow_the_rank(count, pool, less):
    groups = [each.group for each in grouped([Concept(name=f"n{rank}") for rank in range(count)])]
    assert groups == [POOL] * pool + [OTHER] * (count - pool - less) + [LESS_POPULAR] * less


def test_poisoned_concepts_are_in_the_pool():
    concepts = [Concept(name="dog", group=POOL), Concept(name="hat", group=LESS_POPULAR)]
    dirty = PoisonRecord(kind="dirty-label", concepts=("hat", "cat"))
    listed, added = with_poisoned(concepts, [NO_POISON, NOT_RECORDED, dirty])
    assert [(each.name, each.group) for each in listed.concepts] == [("dog", POOL), ("hat", POOL), ("cat", POOL)]
    assert added == ["cat"]


def test_a_poisoned_concept_is_called_as_its_record_calls_it():
    concepts = [Concept(name="dog"), Concept(name="hat")]
    listed, added = with_poisoned(concepts, [PoisonRecord(kind="dirty-label", concepts=("Dog",))])
    assert [(each.name, each.group, each.shown) for each in listed.concepts] == [
        ("Dog", POOL, "a dog"), ("hat", OTHER, "a hat"),
    ]  # fmt: skip
    assert added == []
