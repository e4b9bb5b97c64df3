"""What a pair's caption names, as numbers: the classes of the label variant, the strata of an estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.pairs.poison_flags import PoisonFlags

if TYPE_CHECKING:
    import pandas


def class_labels(table: pandas.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the class each pair names and of the class its picture shows, int64 `[N]` each."""
    named, flags = _main_concept_names(table), PoisonFlags.of(table)
    if not flags.recorded:
        uid = table["uid"].iloc[int(np.flatnonzero(flags.unrecorded)[0])]
        raise ValueError(
            f"of pair {uid!r} nobody recorded whether it is poison, so that it is unknown which class its picture "
            "shows: expected a flag for every pair (explorer import --poison-field)"
        )
    shown = np.where(flags.poisoned, table["target_concept"].fillna(""), named)
    for problem, names in (("no concept", named), ("no target concept", shown)):
        if (names == "").any():
            uid = table["uid"].iloc[int(np.flatnonzero(names == "")[0])]
            raise ValueError(f"pair {uid!r} has {problem}: expected a class label for every pair")
    classes = sorted({*named, *shown})
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in named]), np.array([number[name] for name in shown])


def main_concepts(table: pandas.DataFrame) -> np.ndarray:
    """Number of the main concept that each pair's caption names, int64 `[N]`: the strata of a stratified estimate.

    Pairs without a concept are a stratum of their own. Nothing here knows which pairs are poison.
    """
    return np.unique(_main_concept_names(table).astype(str), return_inverse=True)[1]


def _main_concept_names(table: pandas.DataFrame) -> np.ndarray:
    return np.array([concepts[0] if len(concepts) else "" for concepts in table["concepts"]], dtype=object)
