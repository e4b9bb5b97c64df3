"""Closed forms of AD's growth against the exact AD of constructed, well separated concepts."""

import pytest
import torch

from explorer.alignment import growth
from explorer.alignment.difficulty import compose, one_hot_labels
from explorer.alignment.structure.tiles import structure_row_sums

CONCEPTS, SAMPLES = 9, 12
TOTAL = CONCEPTS * SAMPLES


def brute_force(counts):
    """AD of one-hot images and labels, sample by sample, ``counts[a, b]`` of them with text a and image b: distances
    are exactly 0 and 1."""
    images, labels = [], []
    for text, row in enumerate(counts.tolist()):
        for image, count in enumerate(row):
            images += [image] * count
            labels += [text] * count
    pictures = torch.eye(len(counts), dtype=torch.float64)[torch.tensor(images)]
    sums = structure_row_sums(pictures, one_hot_labels(labels, pictures))
    wrong = (torch.tensor(labels) != torch.tensor(images)).double()
    return compose(wrong, sums / len(images), alpha=0.8, convention="authors", feature_range=None)


def targets_of(pattern, concepts):
    if pattern == "cyclic":
        return {p: (p + 1) % concepts for p in range(concepts)}
    return {p: CONCEPTS - 1 if pattern == "shared" else concepts + p for p in range(concepts)}


@pytest.mark.parametrize("pattern", growth.TARGET_PATTERNS)
@pytest.mark.parametrize("concepts", [2, 3, 4])
@pytest.mark.parametrize("poisons", [1, 5, 12])
def test_theorem_matches_counting_every_pair(pattern, concepts, poisons):
    counts = torch.diag(torch.full((CONCEPTS,), SAMPLES))
    for concept, target in targets_of(pattern, concepts).items():
        counts[concept, concept] -= poisons
        counts[concept, target] += poisons
    measured = brute_force(counts)
    predicted = growth.theorem_growth(
        concepts=concepts,
        poisons=poisons,
        concept_samples=SAMPLES,
        total_samples=TOTAL,
        targets=pattern,
    )
    assert predicted.feature == pytest.approx(measured.feature_ad)
    assert predicted.structure == pytest.approx(measured.structure_ad)
    assert predicted.ad == pytest.approx(measured.ad)


def test_difficulty_grows_with_the_number_of_concepts_and_cyclic_targets_gain_least():
    def structure(concepts, pattern):
        return growth.theorem_growth(
            concepts=concepts, poisons=4, concept_samples=SAMPLES, total_samples=TOTAL, targets=pattern
        ).structure

    for concepts in (2, 3, 4):
        assert structure(concepts, "cyclic") < structure(concepts, "distinct") < structure(concepts, "shared")
    for pattern in growth.TARGET_PATTERNS:
        series = [structure(concepts, pattern) for concepts in (2, 3, 4)]
        assert series == sorted(set(series))


def test_equation_3_is_the_theorem_for_one_concept():
    single = growth.single_concept_growth(poisons=5, concept_samples=SAMPLES, target_samples=7, total_samples=TOTAL)
    theorem = growth.theorem_growth(
        concepts=1, poisons=5, concept_samples=SAMPLES, target_samples=7, total_samples=TOTAL
    )
    assert (single.feature, single.structure, single.ad) == pytest.approx(
        (theorem.feature, theorem.structure, theorem.ad)
    )
    scaled = growth.single_concept_growth(
        poisons=5,
        concept_samples=SAMPLES,
        target_samples=7,
        total_samples=TOTAL,
        feature_change=0.5,
        structure_change=0.1,
    )
    assert scaled.ad == pytest.approx(0.8 * single.feature * 0.5 + 0.2 * single.structure * 0.1)


def test_equation_2_mixes_base_and_fine_tuning_data():
    assert growth.fine_tuning_difficulty(0.4, 0.6, 0.25) == pytest.approx(0.45)
    with pytest.raises(ValueError, match="weight is 1: expected 0 < weight < 1"):
        growth.fine_tuning_difficulty(0.4, 0.6, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: growth.theorem_growth(concepts=2, poisons=9, concept_samples=8, total_samples=80),
            "9 poisons of 8 samples",
        ),
        (
            lambda: growth.theorem_growth(concepts=2, poisons=1, concept_samples=8, total_samples=80, targets="random"),
            "targets is 'random': expected one of distinct, shared, cyclic",
        ),
        (
            lambda: growth.theorem_growth(concepts=1, poisons=1, concept_samples=8, total_samples=80, targets="cyclic"),
            "at least 2 concepts",
        ),
        (
            lambda: growth.theorem_growth(concepts=6, poisons=1, concept_samples=8, total_samples=80),
            "6 concepts and 6 targets beside them have 96 samples: expected at most the set's 80",
        ),
        (
            lambda: growth.theorem_growth(
                concepts=10, poisons=1, concept_samples=8, total_samples=80, targets="shared"
            ),
            "10 concepts and 1 targets beside them have 88 samples",
        ),
        (
            lambda: growth.single_concept_growth(poisons=1, concept_samples=50, target_samples=40, total_samples=80),
            "the concept and its target have 90 samples: expected at most the set's 80",
        ),
        (
            lambda: growth.single_concept_growth(poisons=0, concept_samples=0, target_samples=0, total_samples=0),
            "the set has 0 samples: expected at least 1",
        ),
        (lambda: growth.fine_tuning_difficulty(2.1, 0.5, 0.5), "AD of the base data is 2.1: expected 0 to 2"),
        (lambda: growth.fine_tuning_difficulty(0.5, -0.1, 0.5), "AD of the fine-tuning data is -0.1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
