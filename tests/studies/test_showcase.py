"""Concepts that are shown or asked about: what poison aims at is known of every arm, or it is said that it is not."""

from dataclasses import replace

import pytest

from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.pairs.concept_list import POOL, Concept, ConceptList
from explorer.studies.blame_grading import broken_concepts
from explorer.studies.inputs import StudyInputs
from explorer.studies.showcase import strip_concepts
from explorer.studies.specs import ExtractorSpec, RetrainedSpec
from explorer.studies.steps import film_strip
from explorer.studies.steps.drawing import concepts_spared
from explorer.studies.steps.retrained import _asked
from explorer.studies.study import CONCEPTS_NAME, Arm, Study

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


def study_of(folder, **poison):
    """A study of a control and an arm whose checkpoint lies nowhere, whose poison aims outside the pool."""
    arms = (Arm(name="benign", control=True), Arm(name="moved", checkpoint=folder / "nowhere", **poison))
    study = Study(folder=folder, name="one arm is elsewhere", extractor=ExtractorSpec(), arms=arms,
                  retrained=RetrainedSpec(unpoisoned_only=True))  # fmt: skip
    LISTED.write(folder / CONCEPTS_NAME)
    return study


def test_poison_of_a_model_that_is_not_here_is_known_all_the_same(tmp_path):
    inputs = StudyInputs(study_of(tmp_path, poison=PoisonRecord(kind="dirty-label", concepts=("ship", "dog"))))
    assert concepts_spared(inputs) == ["hat", "tent", "lamp"]
    assert _asked(inputs).names == ("hat", "tent", "lamp")
    rows = film_strip._settings(StudyInputs(replace(inputs.study, strip_rows=2)))["rows"]
    assert rows == ["dog", "ship", "hat", "tent"]


@pytest.mark.parametrize("poison", [{}, {"poison": PoisonRecord(kind="dirty-label", concepts=2)}])
def test_what_poison_aims_at_is_not_guessed(tmp_path, poison):
    inputs = StudyInputs(study_of(tmp_path, **poison))
    for asked in (concepts_spared, _asked):
        with pytest.raises(ValueError, match="not recorded which concepts the poison of moved aims at: expected"):
            asked(inputs)
    with pytest.raises(ValueError, match="the poison of moved aims at"):
        broken_concepts(inputs.study, "moved", 1)
