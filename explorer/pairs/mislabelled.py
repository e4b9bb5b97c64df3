"""Mislabelled pairs added to a set of classes (Ding et al., CCS 2024, section 5.4): every benign pair stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

CAPTION_STREAM = 1


def with_mislabelled_pairs(
    table: pandas.DataFrame, classes: Sequence[str], *, poisoned_classes: int, poisons_per_class: int, seed: int
) -> pandas.DataFrame:
    """``table`` with mislabelled pairs added: captions of a poisoned class on pictures of its target class.

    One seed poisons nested sets: its classes for C_P = 4 contain those for C_P = 2, with the same targets and
    pictures. A class's target is one other class, drawn at random; its pictures are drawn without
    replacement, the captions with replacement. A pair is of the class that its caption names first.

    Args:
        table: of a pair set, without poison.
        classes: all of them, in the order that the seed permutes.
        poisoned_classes: C_P.
        poisons_per_class: pairs that each of them gets.

    Raises:
        ValueError: if ``poisoned_classes`` is negative, or larger than the number of classes, one of a single class is
            to be poisoned, or a target has too few pictures.
    """
    import pandas

    most = len(classes) if len(classes) > 1 else 0
    if not 0 <= poisoned_classes <= most:
        raise ValueError(f"C_P is {poisoned_classes}: expected 0 to {most}, of {len(classes)} classes")
    chosen = np.random.default_rng(seed).permutation(len(classes))[:poisoned_classes]
    rows: dict[str, list[int]] = {name: [] for name in classes}
    training = _split_of(table)
    for row, (split, named) in enumerate(zip(table["split"], table["concepts"], strict=True)):
        if split == training and len(named) and named[0] in rows:
            rows[named[0]].append(row)
    poison = [_mislabelled(table, classes, rows, int(number), poisons_per_class, seed) for number in chosen]
    return pandas.concat([table.astype({"is_poison": "boolean"}), *poison], ignore_index=True)


def _split_of(table: pandas.DataFrame) -> str:
    """The training split; the only one, where there are no training pairs."""
    splits = table["split"].unique()
    return "train" if "train" in splits or len(splits) != 1 else str(splits[0])


def _mislabelled(
    table: pandas.DataFrame, classes: Sequence[str], rows: dict[str, list[int]], number: int, poisons: int, seed: int
) -> pandas.DataFrame:
    random = np.random.default_rng([seed, number])
    concept = classes[number]
    target = str(random.choice([name for name in classes if name != concept]))
    if poisons > len(rows[target]):
        raise ValueError(f"{poisons} mislabelled pairs of {concept!r} are asked for: expected at most "
                         f"{len(rows[target])}, as many as there are pictures of its target {target!r}")  # fmt: skip
    shown = table.iloc[np.sort(random.choice(rows[target], size=poisons, replace=False))].reset_index(drop=True)
    said = table.iloc[np.random.default_rng([seed, number, CAPTION_STREAM]).choice(rows[concept], size=poisons)]
    return shown.assign(
        uid=shown["uid"] + f"-as-{concept}",
        caption=said["caption"].to_numpy(),
        concepts=said["concepts"].to_numpy(),
        is_poison=True,
        poisoned_concept=concept,
        target_concept=target,
    )
