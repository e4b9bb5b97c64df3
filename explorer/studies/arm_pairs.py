"""The pairs of a study's arm, whatever they are kept as: their table, features and thumbnails.

Pictures are read where they lie and never copied in full: of a source, what is kept is an embedding store with
thumbnails.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.pair_sets import measure_features, pictures_in_words
from explorer.alignment.structure.compute import ad_memory
from explorer.core.poison_record import PoisonRecord
from explorer.core.progress import OnProgress
from explorer.core.workers import ALONE, Workers
from explorer.pairs.pair_import import mentioned_concepts, square_thumbnail
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFlags, recorded_by_flags
from explorer.studies.pairs_found import PAIR_SET

if TYPE_CHECKING:
    import pandas
    import torch

    from explorer.alignment.neighbourhoods import LocalRequest
    from explorer.alignment.pair_sets import Measurement
    from explorer.embeddings.universal_extractor import UniversalExtractor

THUMBNAIL_SIDE = 48
"""Pixels a side of the thumbnails that are kept."""
TRAIN = "train"


class ArmPairs(ABC):
    """N pairs of an arm, row-aligned in everything that is asked for."""

    kind: str
    """``pair-set``, ``store``, or the kind of a source (``webdataset``, ``parquet``, ``imagefolder``, ``cifar10``)."""
    data_hash: str
    """Identifies what was read."""
    table: pandas.DataFrame
    """One row a pair, with a pair set's columns; what nobody recorded is null, and a pair set's own further columns
    stay."""
    extractor: str
    """Name of the universal extractor that the features are of; ``not recorded`` where a store does not say."""
    pictures: str
    """Which pixels it read, in words."""
    counts: dict[str, Any]
    """JSON-serialisable: how many ``records`` there were, how many became ``pairs``, the ``quarantined`` by reason;
    what is not known is left out."""

    def __len__(self) -> int:
        return len(self.table)

    @abstractmethod
    def features(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and text features of every pair, float32 ``[N, d]`` each, rows of unit length."""

    @abstractmethod
    def thumbnails(self, rows: np.ndarray, size: int = THUMBNAIL_SIDE) -> np.ndarray:
        """Small square pictures of the pairs at ``rows``, uint8 ``[n, size, size, 3]``.

        Raises:
            ValueError: if no pictures are kept of these pairs.
        """

    @abstractmethod
    def read_images(self, rows: np.ndarray, size: int | None = None) -> np.ndarray:
        """Pictures of the pairs at ``rows``, uint8 ``[n, height, width, 3]``: ``size`` pixels a side, or as a pair set
        holds them.

        Raises:
            ValueError: if these pairs' pictures cannot be read again, or are of many sizes and none is given.
        """

    def is_known_as(self, data_hash: str) -> bool:
        """Whether results name these pairs by ``data_hash``."""
        return data_hash == self.data_hash

    @property
    def flags(self) -> PoisonFlags:
        """What is known of every pair: that it is poison, that it is benign, or nothing."""
        return PoisonFlags.of(self.table)

    @property
    def split(self) -> str | None:
        """The split that the arm's model was trained on; None, for all pairs, where no pair is said to be of it."""
        return TRAIN if (self.table["split"] == TRAIN).any() else None

    @property
    def training_rows(self) -> np.ndarray:
        """int64 `[n]`, ascending: the pairs that the arm's model was trained on (:attr:`split`)."""
        return np.arange(len(self)) if self.split is None else np.flatnonzero(self.table["split"] == self.split)

    @cached_property
    def poison(self) -> PoisonRecord:
        """What is known of the poison among the training pairs."""
        columns = ["is_poison", "poisoned_concept", "target_concept"]
        return recorded_by_flags(self.table[columns].iloc[self.training_rows])


class PairSetPairs(ArmPairs):
    """A pair set of ours."""

    kind = PAIR_SET

    def __init__(
        self, pair_set: PairSet, extractor: UniversalExtractor, names: tuple[str, ...], on_progress: OnProgress
    ) -> None:
        """Captions are searched for the concepts ``names`` in a set that lists no concepts of any pair."""
        self._set, self._extractor, self._on_progress = pair_set, extractor, on_progress
        self.data_hash, self.extractor = pair_set.data_hash, extractor.name
        self.pictures = pictures_in_words(pair_set, extractor.picture_size)
        config = pair_set.manifest["config"]
        known = {name: config[name] for name in ("records", "quarantined") if name in config}
        self.counts = {"pairs": len(pair_set), **known}
        self.table = pair_set.table
        if not self.table["concepts"].map(len).any():
            self.table = self.table.assign(concepts=concepts_in(self.table["caption"], names))

    @cached_property
    def poison(self) -> PoisonRecord:
        """What the attack wrote down, or else what the pairs' flags say."""
        return self._set.poison

    def is_known_as(self, data_hash: str) -> bool:
        """Whether results name these pairs so, those of earlier releases too."""
        return self._set.is_known_as(data_hash)

    def features(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cached beside the set."""
        from explorer.embeddings.features import pair_features

        return pair_features(self._set, self._extractor, self._on_progress)

    def thumbnails(self, rows: np.ndarray, size: int = THUMBNAIL_SIDE) -> np.ndarray:
        """Made of the set's pictures."""
        return self.read_images(rows, size)

    def read_images(self, rows: np.ndarray, size: int | None = None) -> np.ndarray:
        """From the set's own file."""
        images = self._set.read_images(rows)
        return images if size is None else squared(images, size)


@ad_memory
def measure_arm(
    pairs: ArmPairs,
    extractor: UniversalExtractor,
    *,
    alpha: float = 0.8,
    convention: str = "authors",
    local: LocalRequest | None = None,
    workers: Workers = ALONE,
) -> Measurement:
    """AD and local AD of an arm's training pairs (:attr:`ArmPairs.split`), with the extractor's frozen feature range.

    Raises:
        ValueError: if the extractor has no feature range yet, or as
            :func:`~explorer.alignment.pair_sets.measure_features`.
    """
    if extractor.feature_range is None:
        raise ValueError(
            f"the extractor {extractor.name} has no feature range: expected feature_range = [LO, HI], which "
            "`explorer calibrate` finds on benign pairs"
        )
    return measure_features(
        pairs.table, pairs.features, feature_range=extractor.feature_range, extractor=pairs.extractor,
        pictures=pairs.pictures, alpha=alpha, convention=convention, split=pairs.split, local=local,
        workers=workers,
    )  # fmt: skip


def concepts_in(captions: pandas.Series, names: tuple[str, ...]) -> list[list[str]]:
    """The concepts that each caption mentions as whole words, in their order; none where the caption is null."""
    mentioned = mentioned_concepts(names)
    return [mentioned(caption) if isinstance(caption, str) else [] for caption in captions]


def squared(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 ``[n, H, W, 3]`` to ``[n, size, size, 3]``, as an import makes it."""
    if images.shape[1:3] == (size, size):
        return images
    made = [square_thumbnail(image, size) for image in images]
    return np.stack(made) if made else np.empty((0, size, size, 3), np.uint8)
