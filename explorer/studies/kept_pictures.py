"""Small pictures of an arm's pairs from where they lie already, or painted again from what they show: nothing is
embedded, no model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from explorer.core.provenance import MANIFEST_NAME, hash_json
from explorer.embeddings.store import EmbeddingStore, is_store
from explorer.pairs.pair_set import PairSet
from explorer.studies.arm_pairs import THUMBNAIL_SIDE, squared
from explorer.studies.fingerprints import source_files
from explorer.studies.kept_scenes import KeptScenes, read_scenes, scenes_file
from explorer.studies.pairs_found import PAIR_SET, STORE, pairs_kind
from explorer.studies.study import Arm

FEATURES_FOLDER = "features"
"""Of a study: embeddings and thumbnails of the sources that are its arms' pairs, a folder for each arm."""


class NotEmbeddedError(ValueError):
    """A source's pictures are kept when it is embedded, which has not been done."""


@dataclass(frozen=True, kw_only=True)
class KeptPictures:
    """Of the N pairs of an arm, in the order of its table."""

    are_known_as: Callable[[str], bool]
    """Whether the pairs are those that results name by this hash; of pairs that record none nobody can say that they
    are not."""
    count: int
    """N."""
    squares: Callable[[np.ndarray], np.ndarray]
    """Rows, int ``[n]`` in 0..N-1, to uint8 ``[n, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3]``."""

    def read(self, rows: list[int]) -> np.ndarray:
        """Those of the pairs at ``rows``, uint8 ``[n, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3]``.

        Raises:
            ValueError: naming a row that no pair has.
        """
        if outside := [row for row in rows if not 0 <= row < self.count]:
            raise ValueError(f"row {outside[0]} is no pair's: expected 0..{self.count - 1}")
        return self.squares(np.array(rows, np.int64))


def pictures_stamp(arm: Arm, study_folder: Path) -> list[int]:
    """Changes whenever what :func:`open_kept_pictures` reads is made anew; empty where there is nothing to read."""
    places = (arm.pairs, study_folder / FEATURES_FOLDER / arm.name)
    manifests = [place / MANIFEST_NAME for place in places if isinstance(place, Path)]
    read = [*manifests, scenes_file(study_folder, arm.name)]
    return [path.stat().st_mtime_ns for path in read if path.is_file()]


def open_kept_pictures(arm: Arm, study_folder: Path) -> KeptPictures:
    """Of a pair set or a store as it lies, of a source from what was kept when it was embedded; where there is neither,
    painted again from the scenes that the study keeps.

    Raises:
        ManifestError: if these scenes were changed since they were written.
        FileNotFoundError: if the pairs are not where the study says.
        NotEmbeddedError: if they are a source that no embeddings are there of.
        ValueError: if the arm has no pairs, or no pictures are kept of them.
    """
    if arm.pairs is None:
        raise ValueError(f"arm {arm.name} has no pairs: expected some in study.toml")
    kind = pairs_kind(arm.pairs)
    if kind == PAIR_SET:
        pairs = PairSet.load(arm.pairs)
        return KeptPictures(
            are_known_as=pairs.is_known_as, count=len(pairs),
            squares=lambda rows: squared(pairs.read_images(rows), THUMBNAIL_SIDE),
        )  # fmt: skip
    if kind == STORE:
        store = EmbeddingStore.open(arm.pairs)
        return _of_store(store, None if store.manifest is None else hash_json(store.manifest["files"]))
    work = study_folder / FEATURES_FOLDER
    if not is_store(work / arm.name):
        if isinstance(arm.pairs, Path):
            try:
                next(source_files(arm.pairs))
            except FileNotFoundError:  # there are none to embed
                if (scenes := read_scenes(study_folder, arm.name)) is None:
                    raise
                return _of_scenes(scenes)
        raise NotEmbeddedError(f"the pairs of {arm.name} have not been embedded yet, which is when pictures are kept")
    store = EmbeddingStore.open(work / arm.name)
    return _of_store(store, store.manifest["data_hash"])


def _of_scenes(scenes: KeptScenes) -> KeptPictures:
    return KeptPictures(
        are_known_as=lambda named: named in scenes.data_hashes, count=len(scenes.described),
        squares=lambda rows: squared(scenes.paint(rows), THUMBNAIL_SIDE),
    )  # fmt: skip


def _of_store(store: EmbeddingStore, data_hash: str | None) -> KeptPictures:
    if store.thumbnails is None:
        raise ValueError(f"{store.folder} keeps no pictures: expected thumbnails, which `explorer embed` can keep")
    thumbnails = store.thumbnails
    return KeptPictures(
        are_known_as=lambda named: data_hash in (None, named), count=len(store),
        squares=lambda rows: squared(thumbnails.read(rows), THUMBNAIL_SIDE),
    )  # fmt: skip
