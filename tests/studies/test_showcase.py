from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.pairs.concept_list import POOL, Concept, ConceptList
from explorer.studies.showcase import strip_concepts

LISTED = ConceptList(concepts=tuple(
    Concept(name=name, **({"group": POOL} if name in ("dog", "cat", "cow") else {}))
    for name in ("dog", "hat", "cat", "tent", "cow", "ship", "lamp")
))  # fmt: skip


def test_the_strip_has_what_is_poisoned_wherever_the_list_puts_it():
    records = [NO_POISON, PoisonRecord(kind="dirty-label", concepts=("ship", "cat"))]
    assert strip_concepts(LISTED, records, 3) == ["cat", "ship", "dog", "hat", "tent", "lamp"]
    assert strip_concepts(LISTED, records, 1) == ["cat", "hat"]


def test_without_a_name_it_has_the_pool_and_others():
    records = [NO_POISON, PoisonRecord(kind="dirty-label", concepts=2)]
    assert strip_concepts(LISTED, records, 2) == ["dog", "cat", "hat", "tent"]
