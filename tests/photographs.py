"""A user's photographs of four concepts as pairs, and training that is short enough for a test."""

import numpy as np
import pandas

from explorer.pairs.pair_set import PairSet

SMALL = {"steps": 2, "batch_size": 4, "precision": "no", "warmup_steps": 0, "ema_decay": 0.0}


def photographs(folder, count=24, recorded=True, seed=0):
    """A user's pairs that name concepts: six of each of four, one main concept a pair."""
    names = ["dog", "hat", "turtle", "shirt"]
    table = pandas.DataFrame({
        "uid": [f"pair-{row}" for row in range(count)],
        "caption": [f"a photo of a {names[row % 4]}" for row in range(count)],
        "concepts": [[names[row % 4]] for row in range(count)],
        "image_index": range(count), "is_poison": [False if recorded else None] * count,
        "poisoned_concept": [""] * count, "target_concept": [""] * count, "split": ["train"] * count,
    })  # fmt: skip
    images = np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    config = {"source": "imagefolder", "concepts": names} | ({"poison": {"kind": "none"}} if recorded else {})
    return PairSet.write(folder, table, images, config=config, seed=0)
