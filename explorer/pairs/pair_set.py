"""A pair set: captions in ``pairs.parquet``, pictures in ``images.npy``, provenance in ``manifest.json``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.folder_lock import locked
from explorer.core.new_folder import check_new_folder
from explorer.core.poison_record import PoisonRecord
from explorer.core.provenance import (
    MANIFEST_NAME,
    ManifestError,
    check_files,
    hash_json,
    read_manifest,
    replacing,
    write_manifest,
)
from explorer.pairs.poison_flags import PoisonFlags, recorded_by_flags

if TYPE_CHECKING:
    import pandas

PAIRS_NAME = "pairs.parquet"
IMAGES_NAME = "images.npy"
UNFINISHED_NAME = ".unfinished-pair-set"
"""Lies in a folder from before its first file is written until its manifest is."""
KIND = "pair-set"
COLUMNS = (
    "uid",
    "caption",
    "concepts",
    "image_index",
    "is_poison",
    "poisoned_concept",
    "target_concept",
    "split",
)


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """Text-image pairs. Several pairs may share a picture (``image_index``)."""

    folder: Path
    """Where the three files lie."""
    table: pandas.DataFrame
    """One row a pair, at least the columns ``COLUMNS``: uid (str, unique), caption (str), concepts (list of str: the
    mentioned nouns, the main one first), image_index (int: row of ``images``), is_poison (bool, null where nobody
    recorded it), poisoned_concept and target_concept (str, empty for benign pairs, null where not recorded), split
    (``train``, ``test``, or as an import's source names it)."""
    images: np.ndarray
    """uint8 ``[pictures, height, width, 3]``, memory-mapped."""
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def data_hash(self) -> str:
        """Identifies captions and pictures: the hash of the table's content and the SHA-256 of the pictures' file.

        Sets of earlier releases, whose manifest gives no ``content_hash``, are known by the table's file instead.
        """
        return self.data_hashes[0]

    @property
    def data_hashes(self) -> tuple[str, str]:
        """By the table's content and, as earlier releases wrote, by its file: results may name the set by either."""
        files, pictures = self.manifest["files"], self.manifest["files"][IMAGES_NAME]
        tables = (self.manifest.get("content_hash", files[PAIRS_NAME]), files[PAIRS_NAME])
        first, second = (f"{table[:16]}:{pictures[:16]}" for table in tables)
        return first, second

    def is_known_as(self, data_hash: str) -> bool:
        """Whether ``data_hash`` is this set's."""
        return data_hash in self.data_hashes

    @cached_property
    def flags(self) -> PoisonFlags:
        """What is known of every pair: that it is poison, that it is benign, or nothing."""
        return PoisonFlags.of(self.table)

    @cached_property
    def poison(self) -> PoisonRecord:
        """What is known of the poison in its training pairs: what the attack wrote down, else what their flags say.

        Raises:
            ManifestError: if the manifest holds something else than a record.
        """
        try:
            record = PoisonRecord.read(self.manifest["config"].get("poison"))
        except ValueError as error:
            raise ManifestError(f"the manifest in {self.folder} says {error}") from error
        flagged = self.poison_among(self.training_rows)
        if not record.poisoned:
            return record if record.recorded and flagged.poisoned is False else flagged
        return record if record.pairs is not None else replace(record, pairs=flagged.pairs, strength=flagged.strength)

    def poison_among(self, rows: np.ndarray) -> PoisonRecord:
        """What the flags of the pairs at positions ``rows`` say."""
        return recorded_by_flags(self.table[["is_poison", "poisoned_concept", "target_concept"]].iloc[rows])

    @property
    def training_rows(self) -> np.ndarray:
        """Positions of the training split, int64 ``[n]``."""
        return np.flatnonzero(self.table["split"].to_numpy() == "train")

    def check_images(self) -> None:
        """Check the pictures' file against the manifest. Takes as long as reading it, so it is done before all of it
        is read anyway, not on load.

        Raises:
            ManifestError: if it changed since it was written: everything that ``data_hash`` vouches for would be wrong.
        """
        check_files(self.folder, self.manifest, [IMAGES_NAME])

    def read_images(self, rows: Any = slice(None)) -> np.ndarray:
        """Pictures of the pairs at positions ``rows`` (slice or integer array), uint8 ``[n, height, width, 3]``."""
        return self.images[self.table["image_index"].to_numpy()[rows]]

    @staticmethod
    def load(folder: Path | str) -> PairSet:
        """Open a pair set; pictures stay on disk until read.

        Raises:
            FileNotFoundError: if ``folder`` is no pair set.
            ManifestError: if ``pairs.parquet`` is not as it was written. Sets are not edited in place, since features,
                latents and results are kept under the hash in the manifest; a changed set is a new one
                (:meth:`write`, ``explorer import``).
            ValueError: naming missing columns, repeated uids or an image reference out of range.
        """
        import pandas

        folder = Path(folder)
        if not (folder / MANIFEST_NAME).is_file():
            raise FileNotFoundError(f"{folder} is no pair set: expected {PAIRS_NAME}, {IMAGES_NAME}, {MANIFEST_NAME}")
        manifest = read_manifest(folder, kind=KIND)
        check_files(folder, manifest, [PAIRS_NAME])
        if IMAGES_NAME not in manifest["files"]:
            raise ManifestError(f"the manifest in {folder} lists no {IMAGES_NAME}: expected its SHA-256 under files")
        table = _with_what_is_known(pandas.read_parquet(folder / PAIRS_NAME), manifest["config"])
        images = np.load(folder / IMAGES_NAME, mmap_mode="r", allow_pickle=False)
        _check(table, len(images), folder)
        return PairSet(folder=folder, table=table, images=images, manifest=manifest)

    @staticmethod
    def write(
        folder: Path | str,
        table: pandas.DataFrame,
        images: np.ndarray,
        *,
        config: dict[str, Any],
        seed: int | None,
    ) -> PairSet:
        """Write a pair set and open it. The manifest comes last, so that a cut-off write is never taken for a set.

        Raises:
            ValueError: if ``folder`` is not free (:func:`check_free`), another process writes there, or as in
                :meth:`load`.
        """
        folder = Path(folder)
        _check(table, len(images), folder)
        check_free(folder)
        with locked(folder):
            return write_files(folder, table, images, config=config, seed=seed)


def write_files(
    folder: Path,
    table: pandas.DataFrame,
    images: np.ndarray,
    *,
    config: dict[str, Any],
    seed: int | None,
    beside: tuple[str, ...] = (),
) -> PairSet:
    """:meth:`PairSet.write` for whoever holds the folder's lock.

    Args:
        beside: names of further files in ``folder`` that the manifest is to vouch for.
    """
    _check(table, len(images), folder)
    claim(folder)
    with replacing(folder / IMAGES_NAME, alone=True) as temporary, open(temporary, "wb") as stream:
        np.save(stream, images, allow_pickle=False)
    flags = PoisonFlags.of(table)
    stored = table.astype({"is_poison": "boolean"})
    if flags.recorded:
        stored = stored.astype({"is_poison": "bool"})
    with replacing(folder / PAIRS_NAME, alone=True) as temporary:
        stored.to_parquet(temporary, index=False)
    counts = {"pairs": len(table), "pictures": len(images), **flags.counts()}
    files = [PAIRS_NAME, IMAGES_NAME, *beside]
    write_manifest(
        folder, kind=KIND, config=config, seed=seed, files=files, counts=counts, content_hash=content_hash(stored)
    )
    (folder / UNFINISHED_NAME).unlink(missing_ok=True)
    return PairSet.load(folder)


def content_hash(table: pandas.DataFrame) -> str:
    """SHA-256 over the values of a table, column by column in the order of their names, as 64 hex digits.

    Unlike the bytes of a parquet file it is the same whichever release of pandas or Arrow wrote the table.
    """
    return hash_json({str(name): hash_json([_plain(value) for value in table[name]]) for name in table.columns})


def _plain(value: Any) -> Any:
    """A cell as JSON has it; what tables write for a missing value (None, NA, NaN) is null."""
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if value != value else value
    return None if str(value) in ("<NA>", "NaT") else str(value)


def check_free(folder: Path) -> None:
    """Refuse a folder that a pair set cannot be written to: one that holds anything but a set that was cut off.

    Raises:
        ValueError: naming what lies there.
    """
    cut_off = (folder / UNFINISHED_NAME).is_file() and not (folder / MANIFEST_NAME).exists()
    if not cut_off:
        check_new_folder(folder)


def claim(folder: Path) -> None:
    """Make ``folder`` and mark it, so that what is written there before the manifest is known for an unfinished set.

    Raises:
        ValueError: if it is not free.
    """
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED_NAME).touch()


def _with_what_is_known(table: pandas.DataFrame, config: dict[str, Any]) -> pandas.DataFrame:
    """The table without the flags that imports of earlier releases wrote: false for every pair, which nobody said."""
    if config.get("poison_recorded", "fingerprint" not in config or "poison_fields" in config):
        return table
    return table.assign(is_poison=None, poisoned_concept=None, target_concept=None)


def _check(table: pandas.DataFrame, pictures: int, folder: Path) -> None:
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ValueError(f"{folder / PAIRS_NAME} lacks the columns {missing}: expected at least {list(COLUMNS)}")
    try:
        PoisonFlags.of(table)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / PAIRS_NAME}: is_poison holds {error}: expected true, false or null") from error
    repeated = table["uid"][table["uid"].duplicated()]
    if len(repeated):
        raise ValueError(f"{folder / PAIRS_NAME}: uid {repeated.iloc[0]!r} appears more than once")
    outside = table.loc[(table["image_index"] < 0) | (table["image_index"] >= pictures), "uid"]
    if len(outside):
        raise ValueError(f"{folder}: pair {outside.iloc[0]!r} refers to a picture outside 0..{pictures - 1}")
