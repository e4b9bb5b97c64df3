"""The pairs that a filter keeps or removes as a file that a training pipeline reads."""

from __future__ import annotations

import numpy as np

from explorer.alignment.graph_files import BENIGN, POISONED, UNRECORDED
from explorer.defence.filter_files import ScoredPairs
from explorer.defence.recipe import Filter, recipe_json
from explorer.pairs.uid_files import pairs_as_bytes

KEPT, REMOVED = "kept", "removed"
KINDS = {BENIGN: "benign", POISONED: "poisoned", UNRECORDED: "not recorded"}


def filtered_pairs(pairs: ScoredPairs, recipe: Filter, form: str, which: str = KEPT) -> bytes:
    """The kept or removed pairs as ``parquet`` or ``csv`` (uid, caption, concept, kind, every score), as ``json`` (the
    recipe and the uids) or as DataComp's ``npy``.

    Raises:
        ValueError: on an unknown form or choice, on what the recipe names and the set does not have, or on uids that
            are none of DataComp's.
    """
    if which not in (KEPT, REMOVED):
        raise ValueError(f"which is {which!r}: expected {KEPT} or {REMOVED}")
    removed = pairs.removal(recipe).removed
    chosen = np.flatnonzero(removed if which == REMOVED else ~removed)
    concepts, main, kind = [*pairs.concepts, ""], pairs.columns["main_concept"], pairs.columns["kind"]
    columns = {
        "uid": [pairs.uids[at] for at in chosen],
        "caption": [pairs.captions[at] for at in chosen],
        "concept": [concepts[main[at]] for at in chosen],
        "kind": [KINDS[kind[at]] for at in chosen],
        **{name: values[chosen].tolist() for name, values in pairs.scores.items()},
    }
    described = pairs.header["set"]
    origin = {"set": described["name"], "data_hash": described["data_hash"], "recipe": recipe_json(recipe),
              "which": which}  # fmt: skip
    return pairs_as_bytes(columns, form, origin)
