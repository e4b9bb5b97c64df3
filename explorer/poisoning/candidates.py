"""Which pairs of p are perturbed: those that show and say p best, by the universal feature extractor.

As the script of Nightshade (Shan et al. 2024) selects them: pictures that score above a floor with "a photo of p", of
these the pairs whose captions are nearest to those words, and of these some by chance.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.core.progress import OnProgress, unheard
from explorer.embeddings.features import pair_features
from explorer.iconworld.world import World
from explorer.pairs.concept_list import Concept, ConceptList
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.exchanged import FITTING, is_painted, pool_for, rows_by_concept

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor
    from explorer.poisoning.dirty_label import DirtyLabelPoison

CANDIDATE_STREAM = 304
NEAREST_PER_PAIR = 3
"""Candidates for each pair that is drawn: 300 for 100 in the script."""


@dataclass(frozen=True, kw_only=True)
class ChosenPairs:
    """The pairs that an attack perturbs, m for each concept."""

    targets: dict[str, str]
    """Poisoned concept to its target."""
    rows: list[int]
    """Positions in the set."""
    concepts: list[str]
    """p of each."""
    shown: list[str]
    """t of each."""


def check_least_score(score: float | None) -> None:
    """Refuse what no cosine can reach, NaN included.

    Raises:
        ValueError: naming the value.
    """
    if score is not None and not -1 <= score <= 1:
        raise ValueError(f"least_score is {score}: expected a cosine, -1 to 1")


def concepts_of(pairs: PairSet, names: Collection[str], listed: ConceptList | None = None) -> ConceptList:
    """The concepts of an IconWorld set, or those of these names, with the prompt of each.

    Args:
        listed: gives the prompts of the concepts that it has, and the template of all; without it a name stands with
            its article in "a photo of p".
    """
    if is_painted(pairs):
        known = World.from_config(pairs.manifest["config"]["world"]).concept_list().concepts
    else:
        known = tuple(Concept(name=name) for name in sorted(names))
    if listed is None:
        return ConceptList(concepts=known)
    own = {concept.name: concept for concept in listed.concepts}
    return ConceptList(concepts=tuple(own.get(each.name, each) for each in known), template=listed.template)


def choose_pairs(
    attack: DirtyLabelPoison,
    benign: PairSet,
    extractor: UniversalExtractor,
    least_score: float | None = None,
    listed: ConceptList | None = None,
    on_progress: OnProgress = unheard,
) -> ChosenPairs:
    """The pairs of ``benign`` that become poison.

    Args:
        attack: says which concepts, which targets and captions, how many pairs of each, and the seed. The same concepts
            get the same targets as in dirty-label poison of an IconWorld set.
        least_score: cosine of a picture with "a photo of p", which the extractor gives, that it must reach; None for
            the median of the captions of p.
        listed: as in :func:`concepts_of`.

    Raises:
        ValueError: for an unknown concept or one that is its own target, a C_P larger than the pool, or an m larger
            than what a concept has; as far as that can be told, before any feature is computed.
    """
    mentioning, showing = rows_by_concept(benign)
    m, named = attack.pairs_per_concept, benign.table["concepts"].tolist()
    listed = concepts_of(benign, mentioning, listed)
    pool, pool_is = pool_for(attack, benign, mentioning, showing)
    targets = attack.choose(pool, pool_is, mentioning)
    fitting = {
        p: [row for row in mentioning.get(p, ())
            if attack.fits(named[row], p, pool) and not attack.spares(named[row])
            and (attack.shuffled or t not in named[row])]
        for p, t in targets.items()
    }  # fmt: skip
    for p, rows in fitting.items():
        left = len(rows) if least_score is not None else -(-len(rows) // 2)
        if m > left:
            without = "" if attack.shuffled else f" that do not name {targets[p]!r}"
            half = "" if least_score is not None else ", the better half of which is taken"
            raise ValueError(f"m is {m}: the training pairs hold {len(rows)} captions of {p!r}{without}"
                             f"{FITTING[attack.captions]}{', and name no spared concept' if attack.spared else ''}"
                             f"{half}")  # fmt: skip
    image, text = pair_features(benign, extractor, on_progress)
    photos = extractor.encode_texts([listed.prompt(p) for p in targets]) if targets else []
    chosen, shown, taken = [], [], set()
    for number, (p, photo) in enumerate(zip(targets, photos, strict=True)):
        rows = np.array(fitting[p])
        scores, likeness = (image[rows] @ photo).numpy(), (text[rows] @ photo).numpy()
        floor = float(np.median(scores)) if least_score is None else least_score
        kept = [place for place in np.argsort(-likeness, kind="stable")
                if scores[place] >= floor and rows[place] not in taken]  # fmt: skip
        if m > len(kept):
            raise ValueError(
                f"m is {m}: {len(kept)} of {len(rows)} pairs of {p!r} have a picture that scores "
                f"{floor:.3f} or more with {listed.prompt(p)!r} and are not poison of another concept"
            )
        generator = np.random.default_rng([attack.seed, CANDIDATE_STREAM, m, number])
        drawn = rows[generator.choice(kept[: NEAREST_PER_PAIR * m], size=m, replace=False)].tolist()
        chosen, taken = chosen + drawn, taken | set(drawn)
        shown += attack.targets_of(number, p, targets[p], pool)
    return ChosenPairs(targets=targets, rows=chosen, concepts=np.repeat(list(targets), m).tolist(), shown=shown)
