"""Targets chosen by what their poison would add to AD, against the definition pair by pair and on a set of ours."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from explorer.cli.application import application
from explorer.cli.extractor_options import ExtractorChoice
from explorer.cli.poisoning import read_targets
from explorer.iconworld.world import World, generate_pair_set
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.exchanged import pool_for, rows_by_concept
from explorer.poisoning.selected_targets import select_targets
from explorer.poisoning.target_choice import TargetSelection
from explorer.poisoning.target_selection import choose_targets, score_targets

NAMES = ("ant", "bee", "cow", "doe")
RANGE = (0.1, 0.8)


def unit(*shape, seed):
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture
def scores():
    parts = unit(3, 5, 8, seed=0), unit(4, 5, 8, seed=1), unit(6, 8, seed=2), unit(6, 8, seed=3)
    return score_targets(*parts, RANGE), parts


def test_scores_are_the_means_over_the_pairs_that_the_poison_would_make(scores):
    found, (captions, pictures, image, text) = scores
    for p in range(3):
        for t in range(4):
            cosines, disparities = [], []
            for sample in range(5):
                said, shown = captions[p, sample], pictures[t, sample]
                cosines.append(float(said @ shown))
                disparities += [abs(float((1 - shown @ image[k]) - (1 - said @ text[k]))) for k in range(6)]
            assert found.alignment[p, t] == pytest.approx(sum(cosines) / 5, abs=1e-6)
            assert found.structure[p, t] == pytest.approx(sum(disparities) / 30, abs=1e-6)
            clipped = [1 - min(1, max(0, (cosine - 0.1) / 0.7)) for cosine in cosines]
            assert found.feature[p, t] == pytest.approx(sum(clipped) / 5, abs=1e-6)


def test_each_way_chooses_among_what_aligns_well_enough(scores):
    found, _ = scores

    def choose(how, least=-1.0):
        return choose_targets(found, NAMES[:3], NAMES, how=how, least_alignment=least, alpha=0.8, seed=1)

    for row, p in enumerate(NAMES[:3]):
        others = [place for place, t in enumerate(NAMES) if t != p]
        hardest = max(
            others, key=lambda place: float(0.8 * found.feature[row, place] + 0.2 * found.structure[row, place])
        )
        assert choose("difficulty")[p] == NAMES[hardest]
        assert choose("nearest")[p] == NAMES[max(others, key=lambda place: float(found.alignment[row, place]))]
        assert choose("random")[p] != p
    best = {p: float(max(found.alignment[row, place] for place, t in enumerate(NAMES) if t != p))
            for row, p in enumerate(NAMES[:3])}  # fmt: skip
    assert choose("difficulty", min(best.values())).keys() == set(NAMES[:3])
    worst = min(best, key=best.get)
    with pytest.raises(ValueError, match=f"no target's pictures align with captions of '{worst}' by .* reaches"):
        choose("difficulty", best[worst] + 1e-4)
    with pytest.raises(ValueError, match="how is 'best': expected one of difficulty, nearest, random"):
        choose("best")


def test_a_sets_own_features_choose_and_poison_takes_the_file(micro_world, tmp_path):
    from explorer.embeddings.universal_extractor import UniversalExtractor

    extractor = UniversalExtractor.load(micro_world.output / "extractor")
    benign = generate_pair_set(World(concept_count=8), tmp_path / "benign", train=200, seed=3)
    attack = DirtyLabelPoison(concept_count=3, pairs_per_concept=2, seed=4)
    chosen = select_targets(attack, benign, extractor, TargetSelection(samples=3, reference=50, seed=4))
    assert list(chosen["targets"]) == list(attack.source(benign).targets), "the concepts that poison draws"
    assert chosen["alignment"]["chosen"] >= chosen["alignment"]["any"], "of the better half of each concept's targets"
    nearest = select_targets(attack, benign, extractor, TargetSelection(how="nearest", samples=3, reference=50, seed=4))
    assert nearest["alignment"]["chosen"] >= chosen["alignment"]["chosen"]
    assert nearest["difficulty"]["chosen"] <= chosen["difficulty"]["chosen"] + 1e-6
    file = tmp_path / "targets.json"
    file.write_text(json.dumps(chosen))
    made = DirtyLabelPoison(targets=read_targets(file), pairs_per_concept=2, seed=4).apply(benign, tmp_path / "made")
    assert made.poison.targets == chosen["targets"]
    file.write_text("")
    with pytest.raises(ValueError, match=r"targets.json is not readable JSON"):
        read_targets(file)
    file.write_text("{}")
    with pytest.raises(ValueError, match="holds no targets: expected what `explorer select-targets` writes"):
        read_targets(file)
    with pytest.raises(ValueError, match="samples are 500: the training pairs hold"):
        select_targets(attack, benign, None, TargetSelection(samples=500))


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A set that is none of IconWorld's: eight pairs of each noun, two of the bat and six of the ape, whose captions
    all name an owl as well. Features are drawn; a caption of the ape is nearest to a picture of the owl."""
    named = [[name] for name in ("cow", "dog", "eel", "fox", "owl") for _ in range(8)]
    named += [["bat"], ["bat"], *[["ape", "owl"] for _ in range(6)]]
    count = len(named)
    table = pandas.DataFrame(
        {
            "uid": [str(row) for row in range(count)], "caption": [" and ".join(each) for each in named],
            "concepts": named, "image_index": np.arange(count), "is_poison": pandas.array([False] * count, "boolean"),
            "poisoned_concept": "", "target_concept": "", "split": "train",
        }
    )  # fmt: skip
    made = PairSet.write(tmp_path / "set", table, np.zeros((count, 8, 8, 3), np.uint8), config={}, seed=0)
    drawn = image, text = [unit(count, 4, seed=seed) for seed in (0, 1)]
    for features, concept in ((image, "owl"), (text, "ape")):
        features[[each[0] == concept for each in named]] = unit(4, seed=2)
    monkeypatch.setattr("explorer.poisoning.selected_targets.pair_features", lambda *_: drawn)
    extractor = SimpleNamespace(feature_range=(0.0, 1.0), identity="drawn")
    monkeypatch.setattr(ExtractorChoice, "load", lambda *_: extractor)
    return made, extractor


@pytest.mark.parametrize("m", [1, 2, 6, 8])
def test_the_concepts_are_those_that_poison_draws_for_as_many_pairs(listed, tmp_path, m):
    asked = ["select-targets", listed[0].folder, tmp_path / "targets.json", "--concepts", 2, "--samples", 1,
             "--how", "nearest", "--seed", 5, *(["--pairs-per-concept", m] if m > 1 else [])]  # fmt: skip
    result = CliRunner().invoke(application, list(map(str, asked)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    drawn = DirtyLabelPoison(concept_count=2, pairs_per_concept=m, seed=5)
    mentioning, showing = rows_by_concept(listed[0])
    expected = drawn.choose(*pool_for(drawn, listed[0], mentioning, showing), mentioning)
    assert list(read_targets(tmp_path / "targets.json")) == list(expected)


def test_targets_for_which_there_are_too_few_pairs_are_refused(listed):
    attack = DirtyLabelPoison(concept_count=6, pairs_per_concept=6, seed=1)
    with pytest.raises(ValueError, match="m is 6: the training pairs hold 0 captions of 'ape' that do not name 'owl'"):
        select_targets(attack, *listed, TargetSelection(how="nearest", least_alignment=-1.0, samples=1))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"alpha": math.nan}, "alpha is nan: expected a weight in"),
        ({"alpha": -3.0}, "alpha is -3.0"),
        ({"least_alignment": math.nan}, "least_alignment is nan: expected a cosine, -1 to 1"),
        ({"least_alignment": 1.5}, "least_alignment is 1.5"),
        ({"samples": 0}, "0 is below 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        TargetSelection(**setting)
