"""Sets cut from a poisoned one: its benign pairs alone, or its poison beside fewer of them."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.folder_lock import locked
from explorer.pairs.pair_set import IMAGES_NAME, PAIRS_NAME, PairSet, check_free, claim, write_files
from explorer.poisoning.attack import OF_THE_IMPORT

if TYPE_CHECKING:
    import pandas

COPIED_AT_ONCE = 1024
WORKING = ".images.npy"
"""Pictures that stay, while they are brought together."""


def benign_remainder(poisoned: PairSet, folder: Path | str) -> PairSet:
    """The benign pairs of a set alone: what is left of its control once the poison has taken its place.

    Raises:
        ValueError: if the set holds no poison, or nothing else, or if ``folder`` already holds something.
    """
    kept = poisoned.table[poisoned.flags.benign]
    if not poisoned.flags.recorded or not 0 < len(kept) < len(poisoned):
        raise ValueError(f"{int(poisoned.flags.poisoned.sum())} of {len(poisoned)} pairs of {poisoned.folder} are "
                         f"poison, {int(poisoned.flags.unrecorded.sum())} not recorded: expected some to be poison, "
                         "not all, and every pair recorded")  # fmt: skip
    config = {name: value for name, value in poisoned.manifest["config"].items() if name != "poison"}
    seed = poisoned.manifest["seed"]
    return _cut(poisoned, kept, folder, config | {"remainder_of": poisoned.data_hash}, seed)


def fewer_benign(pairs: PairSet, folder: Path | str, *, benign_pairs: int, seed: int) -> PairSet:
    """A set whose poison is a larger share of the training pairs: all of its poison, and some of its other ones.

    Which stay is drawn by a hash of seed and uid, so that sets of one source keep the same pairs, as far as these are
    benign in each. Pairs that no model is trained on all stay. Of a set without poison it is a smaller control.

    Args:
        benign_pairs: training pairs that are known to be benign, and stay.

    Raises:
        ValueError: unless the set is recorded and holds that many, or if ``folder`` already holds something.
    """
    flags, training = pairs.flags, (pairs.table["split"] == "train").to_numpy()
    benign = np.flatnonzero(training & flags.benign)
    if not flags.recorded or not 1 <= benign_pairs <= len(benign):
        raise ValueError(f"{benign_pairs} benign training pairs are to stay of {len(benign)} in {pairs.folder}, of "
                         f"whose pairs {int(flags.unrecorded.sum())} are not recorded: expected 1 to as many as there "
                         "are, and every pair recorded")  # fmt: skip
    uids = pairs.table["uid"].to_numpy()
    drawn = sorted(benign, key=lambda row: hashlib.sha256(f"{seed}:{uids[row]}".encode()).digest())[:benign_pairs]
    stays = ~training | flags.poisoned
    stays[drawn] = True
    record = pairs.poison
    if record.pairs:
        count = int((training & stays).sum())
        record = replace(record, strength=record.pairs / count)
    config = {name: value for name, value in pairs.manifest["config"].items() if name not in OF_THE_IMPORT} | {
        "poison": record.as_json(), "fewer_benign": {"of": pairs.data_hash, "benign_pairs": benign_pairs, "seed": seed}
    }  # fmt: skip
    return _cut(pairs, pairs.table[stays], folder, config, pairs.manifest["seed"])


def _cut(pairs: PairSet, kept: pandas.DataFrame, folder: Path | str, config: dict[str, Any], seed: Any) -> PairSet:
    """A set of some of the pairs, with the pictures that they show and the further files of their poison."""
    folder = Path(folder)
    check_free(folder)
    pairs.check_images()
    places, kept_places = np.unique(kept["image_index"].to_numpy(), return_inverse=True)
    table = kept.assign(image_index=kept_places).reset_index(drop=True)
    if "train" in config:
        config = config | {"train": int((table["split"] == "train").sum())}
    beside: tuple[str, ...] = ()
    if config.get("poison") is not None:
        beside = tuple(name for name in pairs.manifest["files"] if name not in (PAIRS_NAME, IMAGES_NAME))
    with locked(folder):
        claim(folder)
        for name in beside:
            shutil.copyfile(pairs.folder / name, folder / name)
        # On disk, since a user's pictures may not fit in memory.
        shape = (len(places), *pairs.images.shape[1:])
        pictures = np.lib.format.open_memmap(folder / WORKING, "w+", np.uint8, shape)
        for start in range(0, len(places), COPIED_AT_ONCE):
            pictures[start : start + COPIED_AT_ONCE] = pairs.images[places[start : start + COPIED_AT_ONCE]]
        made = write_files(folder, table, pictures, config=config, seed=seed, beside=beside)
        (folder / WORKING).unlink()
        return made
