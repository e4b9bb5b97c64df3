"""Which pairs of a large set are drawn: its biggest movers, and a sample stratified by kind and by concept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.pairs.poison_flags import PoisonFlags

if TYPE_CHECKING:
    import pandas

SMALLEST_POISONED_SHARE = 0.4
"""A sample shows at least this share of poisoned pairs (where there are as many), so that both kinds are seen."""

MOVERS = 200
"""Pairs with the largest structure distance that are drawn, whatever the sample holds: what is looked at first."""

WHOLE_SET = "Scores, ranks and neighbours are those of the whole set."


def movers_and_sample(table: pandas.DataFrame, structure_distance: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Sorted rows of ``size`` pairs: the ``MOVERS`` biggest movers, at most a tenth of them, and of the other pairs
    a :func:`stratified_sample`.

    Args:
        structure_distance: fp `[N]`, a row of ``table`` each; a pair that was not measured (NaN) is no mover.

    Raises:
        ValueError: if ``size`` is below 1.
    """
    movers = biggest_first(structure_distance)[: min(MOVERS, size // 10)]
    others = np.setdiff1d(np.arange(len(table)), movers)
    return np.union1d(movers, others[stratified_sample(table.iloc[others], size - len(movers), seed)])


def biggest_first(structure_distance: np.ndarray) -> np.ndarray:
    """Rows of the measured pairs, the largest D_s first; of equal ones the first row first."""
    return np.argsort(-structure_distance, kind="stable")[: np.isfinite(structure_distance).sum()]


def movers_drawn(structure_distance: np.ndarray, drawn: np.ndarray) -> int:
    """How many of a set's biggest movers are all among the rows ``drawn``: up to the first that is not."""
    is_drawn = np.isin(biggest_first(structure_distance), drawn)
    return len(is_drawn) if is_drawn.all() else int(is_drawn.argmin())


def stratified_sample(table: pandas.DataFrame, size: int, seed: int) -> np.ndarray:
    """Sorted rows of a sample: poisoned and other pairs in fixed shares, concepts in proportion within each.

    The share known to be poison is that of the set, but at least ``SMALLEST_POISONED_SHARE``; within a kind, the pairs
    are shuffled, ordered by main concept and taken at even steps (systematic sampling).

    Raises:
        ValueError: if ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"sample size is {size}: expected at least 1")
    poisoned = PoisonFlags.of(table).poisoned
    size = min(size, len(table))
    wanted = round(size * max(poisoned.mean(), SMALLEST_POISONED_SHARE))
    # What one kind cannot fill goes to the other.
    poison_size = max(min(wanted, int(poisoned.sum())), size - int((~poisoned).sum()))
    generator = np.random.default_rng(seed)
    concepts = np.array(shown_concepts(table))
    parts = [
        _systematic(np.flatnonzero(kind), concepts, count, generator)
        for kind, count in ((~poisoned, size - poison_size), (poisoned, poison_size))
    ]
    return np.sort(np.concatenate(parts))


def _systematic(rows: np.ndarray, concepts: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    shuffled = generator.permutation(rows)
    ordered = shuffled[np.argsort(concepts[shuffled], kind="stable")]
    return ordered[(np.arange(count) * len(ordered)) // max(count, 1)]


def shown_concepts(table: pandas.DataFrame) -> list[str]:
    """The concept each caption is about: the poisoned one, or else the one it mentions first; "" for none."""
    columns = zip(texts(table["poisoned_concept"]), table["concepts"], strict=True)
    return [poisoned or (mentioned[0] if len(mentioned) else "") for poisoned, mentioned in columns]


def texts(column: pandas.Series) -> list[str | None]:
    """A column of texts, None where nothing is recorded."""
    return column.astype(object).where(column.notna(), None).tolist()


def describe_sample(flags: PoisonFlags, drawn: np.ndarray, movers: int = 0) -> str:
    """In a few sentences: how many pairs of each kind are drawn, and how they were chosen.

    Args:
        movers: how many of the set's biggest movers are all among them (:func:`movers_drawn`).
    """
    total, shown = len(flags), flags[drawn]
    if len(drawn) == total:
        return f"All {total:,} pairs are drawn."

    def share(kind: str) -> str:
        return f"{int(getattr(shown, kind).sum()):,} of {int(getattr(flags, kind).sum()):,}"

    kinds = f"{share('poisoned')} poisoned and {share('benign')} benign ones, each kind in proportion to its concepts"
    if flags.unrecorded.all():
        kinds = "in proportion to their concepts; which of them are poison, nobody recorded"
    elif not flags.recorded:
        kinds = (
            f"{share('poisoned')} known to be poisoned, {share('benign')} known to be benign, {share('unrecorded')} of "
            "which nobody recorded it; in proportion to their concepts"
        )
    first = f" Among them, whatever their kind and concept, are the {movers:,} with the largest D_s." if movers else ""
    return f"{len(drawn):,} of {total:,} pairs are drawn: {kinds}.{first} {WHOLE_SET}"
