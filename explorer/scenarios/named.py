"""The paper's experiments as named scenarios: which sets are made of a benign one, each to fine-tune a model on.

They know no world and no model: what they name is poisoned in any pair set that names concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import Attack
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.exchanged import MAIN, POOL, is_painted, rows_by_concept
from explorer.poisoning.matched_benign import MatchedBenign
from explorer.poisoning.mislabelled import MislabelledPairs
from explorer.poisoning.relabelled import RelabelledClasses

CONTROL, LATER = "benign", "later"
"""The sets that are given and not made: the control's pairs, and those that models are trained on afterwards."""


@dataclass(frozen=True, kw_only=True)
class Dose:
    """How heavily a scenario poisons.

    Raises:
        ValueError: naming a number that is too small.
    """

    concepts: int = 60
    """C_P: concepts to poison, the most of them where a scenario has several numbers."""
    pairs_per_concept: int = 100
    """m: poison pairs of each; relabelled takes all that a class has."""
    pool_ranks: tuple[int, int] | None = None
    """Of less-popular: frequency ranks of the less popular pool, 1501 2000 in the paper."""
    shared_target: str | None = None
    """Of equal-share: what every poisoned concept shows in one of the sets; without it that set is left out."""
    seed: int = 0
    """Draws concepts, targets and pairs."""

    def __post_init__(self) -> None:
        for name in ("concepts", "pairs_per_concept"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")

    def dirty(self, concepts: int | None = None, pairs: int | None = None, **settings: object) -> DirtyLabelPoison:
        """Dirty-label poison of this dose, or of other numbers."""
        return DirtyLabelPoison(
            concept_count=self.concepts if concepts is None else concepts,
            pairs_per_concept=self.pairs_per_concept if pairs is None else pairs, seed=self.seed, **settings,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A question, and the sets that answer it."""

    about: str
    """What it is of the paper, and what it asks."""
    sets: Callable[[Dose, PairSet], dict[str, Attack]]
    """Name of an arm to the attack that makes its pairs of these; the benign control is there beside them."""
    clean_label: Callable[[Dose], dict[str, DirtyLabelPoison]] = lambda dose: {}
    """Further arms, each the clean-label counterpart of this attack."""
    later_sets: Callable[[Dose], dict[str, Attack]] = lambda dose: {}
    """Name of a set to the attack that makes it of later pairs."""
    afterwards: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Further arms: the arm whose model is trained on, and the set of later pairs."""


def _later_poison(dose: Dose) -> dict[str, Attack]:
    return {"later-poisoned": replace(dose, seed=dose.seed + 1).dirty()}  # with targets of its own


def _single(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    return {"single": dose.dirty(1)}


def _thirds(dose: Dose) -> list[int]:
    return sorted({max(1, round(dose.concepts * part / 3)) for part in (1, 2, 3)})


def _sweep(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    return {f"dirty-{count:03d}": dose.dirty(count) for count in _thirds(dose)}


def _clean_sweep(dose: Dose) -> dict[str, DirtyLabelPoison]:
    return {f"clean-{count:03d}": dose.dirty(count) for count in _thirds(dose)}


def _less_popular(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    if dose.pool_ranks is None:
        raise ValueError(
            "pool_ranks are not given: expected the ranks of the less popular pool, the first and the last"
        )
    return {"popular": dose.dirty(), "less-popular": dose.dirty(pool_ranks=dose.pool_ranks)}


def _matched(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    poison = dose.dirty()
    # Of a user's pairs the poison's captions with their own pictures are the control itself.
    kept = ("captions", "pictures") if is_painted(pairs) else ("pictures",)
    return {name: MatchedBenign(attack=poison, keep=name) for name in kept} | {"dirty": poison}


def _equal_share(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    few = max(1, dose.concepts // 3)
    if dose.concepts * dose.pairs_per_concept % few:
        raise ValueError(f"concepts is {dose.concepts}: expected a multiple of 3, so that a third of them can have as "
                         "many pairs")  # fmt: skip
    found = {"dirty": dose.dirty(), "few": dose.dirty(few, dose.concepts * dose.pairs_per_concept // few),
             "shuffled": dose.dirty(shuffled=True)}  # fmt: skip
    return found | ({} if dose.shared_target is None else {"shared": dose.dirty(shared_target=dose.shared_target)})


def _mislabelled(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    counts = sorted({max(1, round(dose.concepts * part / 5)) for part in (2, 4, 5)})
    m, seed = dose.pairs_per_concept, dose.seed
    return {f"mislabelled-{count:03d}": MislabelledPairs(concept_count=count, pairs_per_concept=m, seed=seed)
            for count in counts}  # fmt: skip


def _relabelled(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    counts = sorted({max(1, round(dose.concepts * share)) for share in (0.1, 0.5, 1)})
    return {f"relabelled-{count:03d}": RelabelledClasses(concept_count=count, seed=dose.seed) for count in counts}


def _riders(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    return {"mentioning": dose.dirty(), "main": dose.dirty(captions=MAIN), "pool": dose.dirty(captions=POOL)}


def _own_dose(dose: Dose, pairs: PairSet) -> dict[str, Attack]:
    poisoned = dose.dirty().source(pairs).targets
    others = sorted(set(rows_by_concept(pairs)[0]) - set(poisoned))
    if len(others) < 2:
        raise ValueError(f"concepts is {dose.concepts}: {pairs.folder} has {len(others)} besides, half of which are to "
                         "be spared: expected 2 or more")  # fmt: skip
    return {"dirty": dose.dirty(), "spared": dose.dirty(spared=tuple(others[::2]))}


SCENARIOS: dict[str, Scenario] = {
    "single-concept": Scenario(about="Figure 2: one poisoned concept; do others suffer?", sets=_single),
    "sweep": Scenario(about="Table 1: a third, two thirds and all of C_P concepts", sets=_sweep),
    "clean-label": Scenario(
        about="Table 1: a third, two thirds and all of C_P concepts, clean-label",
        sets=lambda dose, pairs: {},
        clean_label=_clean_sweep,
    ),
    "both-attacks": Scenario(
        about="Figure 6: as sweep, and as clean-label, at the same numbers", sets=_sweep, clean_label=_clean_sweep
    ),
    "less-popular": Scenario(about="Table 2: as many concepts of a less popular pool", sets=_less_popular),
    "matched-benign": Scenario(
        about="is it the wrong pairs? The poison's captions with right pictures, and the other way round", sets=_matched
    ),
    "equal-share": Scenario(
        about="at one share of poison: fewer concepts, a target of its own for every pair, one target for all",
        sets=_equal_share,
    ),
    "mislabelled": Scenario(
        about="Table 5: mislabelled pairs added to two fifths, four fifths and all of C_P classes", sets=_mislabelled
    ),
    "relabelled": Scenario(
        about="Table 5: a tenth, half and all of C_P classes have mislabelled pairs alone", sets=_relabelled
    ),
    "own-dose": Scenario(
        about="is it the clean pairs that a concept lost? Those of half of the others all stay", sets=_own_dose
    ),
    "riders": Scenario(
        about="which captions of a concept are poisoned: all, main ones, or of the pool alone", sets=_riders
    ),
    "poisoned-base": Scenario(
        about="section 4.4: what later pairs make of a base that is poisoned already, benign ones and poisoned ones",
        sets=lambda dose, pairs: {"poisoned": dose.dirty()},
        later_sets=_later_poison,
        afterwards={
            "benign-then-benign": (CONTROL, LATER),
            "benign-then-poisoned": (CONTROL, "later-poisoned"),
            "poisoned-then-benign": ("poisoned", LATER),
            "poisoned-then-poisoned": ("poisoned", "later-poisoned"),
        },
    ),
}


def find_scenario(name: str) -> Scenario:
    """The scenario called ``name``.

    Raises:
        ValueError: if there is none.
    """
    if name not in SCENARIOS:
        raise ValueError(f"scenario {name!r} is unknown: expected one of {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
