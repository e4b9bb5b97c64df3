"""The feature range (lo, hi) of an extractor: calibrated once, on benign pairs, and frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.difficulty import (
    calibrate_feature_range,
    clipped_shares,
    feature_distance,
    paired_cosines,
)
from explorer.embeddings.features import pair_features
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFlags

if TYPE_CHECKING:
    import torch


def calibrate(pair_set: PairSet, extractor: UniversalExtractor, split: str = "train") -> dict[str, Any]:
    """The 1 % and 99 % quantile of the benign pairs' cosines, which feature distance maps to 1 and 0.

    Poisoned pairs are left out: a range that stretches with the poison would hide it. Pairs of which nobody recorded
    whether they are poison are taken for benign, and counted.

    Returns:
        JSON-serialisable: ``feature_range`` [lo, hi], the extractor's name, how many pairs were used, how many of them
        are known to be benign or were taken for it, and which share of them lies outside the range on either side.

    Raises:
        ValueError: if the split has no benign pairs, or they are all alike.
    """
    flags = pair_set.flags
    benign = (pair_set.table["split"] == split).to_numpy() & ~flags.poisoned
    if not benign.any():
        raise ValueError(f"{pair_set.folder} has no benign pairs of the split {split!r}: expected at least two")
    image, text = pair_features(pair_set, extractor)
    return {"extractor": extractor.name, "split": split, **calibrate_features(image, text, flags, benign)}


def calibrate_features(
    image: torch.Tensor, text: torch.Tensor, flags: PoisonFlags, benign: np.ndarray
) -> dict[str, Any]:
    """The same, of features.

    Args:
        image: of N pairs, unit rows `[N, d]`.
        text: their captions', `[N, d]`.
        flags: what is known of the N pairs.
        benign: bool `[N]`, the pairs to use.

    Raises:
        ValueError: if these pairs are fewer than two, or all alike.
    """
    rows = np.flatnonzero(benign)
    cosines = paired_cosines(image[rows], text[rows])
    feature_range = calibrate_feature_range(cosines)
    return {
        "feature_range": list(feature_range),
        "pairs": len(rows),
        "benign_pairs": int(flags.benign[rows].sum()),
        "pairs_taken_for_benign": int(flags.unrecorded[rows].sum()),
        **clipped_shares(feature_distance(cosines, feature_range)),
    }
