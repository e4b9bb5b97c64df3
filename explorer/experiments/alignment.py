"""Alignment Difficulty of a pair set: from its pairs and an extractor to AD and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.theory.intervals import area_under_curve

if TYPE_CHECKING:
    import pandas
    import torch

    from explorer.data.pair_set import PairSet
    from explorer.theory.alignment_difficulty import AlignmentDifficulty
    from explorer.theory.alignment_updates import MeanOffset

ENCODING_BATCH = 256
SCORES = ("sample_ad", "structure_distance", "feature_distance")
"""Per-sample scores: AD(x, y), D_s and D_img:txt."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """AD of the pairs of one split, with what it was measured on."""

    difficulty: AlignmentDifficulty
    """AD, its parts, and every pair's share in the order of ``rows``."""
    offset: MeanOffset
    """How much of structure AD the mean vectors of the two cones force."""
    rows: np.ndarray
    """int `[N]` positions of the measured pairs in the pair set."""
    is_poison: np.ndarray
    """bool `[N]` true flag of each measured pair."""
    extractor: str
    """Name of the universal extractor."""
    split: str | None
    """The measured split; None for all pairs."""
    distances: str
    """``captions`` (cosines of captions) or ``labels`` (0/1 distances of class labels)."""

    def report(self) -> dict[str, Any]:
        """All numbers, JSON-serialisable: AD and its parts, standard errors, mean offset, AUC of poison."""
        return {
            **self.difficulty.summary(),
            **self.offset.summary(),
            "poisoned_pairs": int(self.is_poison.sum()),
            "extractor": self.extractor,
            "distances": self.distances,
            "split": self.split or "all",
            **{f"{score}_auc": self.poison_auc(score) for score in SCORES},
        }

    def poison_auc(self, score: str) -> float | None:
        """Chance that a poisoned pair scores above a benign one; None where one of the groups is empty."""
        values = self.scores(score)
        if self.is_poison.all() or not self.is_poison.any():
            return None
        return area_under_curve(values[self.is_poison], values[~self.is_poison])

    def scores(self, score: str) -> np.ndarray:
        """fp64 `[N]` values of one of ``SCORES``."""
        if score not in SCORES:
            raise ValueError(f"score is {score!r}: expected one of {', '.join(SCORES)}")
        return getattr(self.difficulty, score).numpy()


def measure(
    pair_set: PairSet | Path | str,
    extractor: Any,
    *,
    alpha: float = 0.8,
    convention: str = "authors",
    split: str | None = "train",
) -> Measurement:
    """AD of a pair set's captions and pictures, with the extractor's frozen feature range.

    Args:
        pair_set: the set or its folder; its features are cached beside it.
        extractor: a universal extractor: ``name``, ``feature_range``, ``encode_images``, ``encode_texts``.
        split: measure only this split; None measures all pairs.

    Raises:
        ValueError: if the split has no pairs, or on what ``alignment_difficulty`` refuses.
    """
    from explorer.experiments.features import pair_features
    from explorer.theory.alignment_difficulty import alignment_difficulty

    pair_set = _opened(pair_set)
    rows = _split_rows(pair_set.table, split)
    image, text = (features[rows] for features in pair_features(pair_set, extractor))
    difficulty = alignment_difficulty(
        image, text, alpha=alpha, feature_range=tuple(extractor.feature_range), convention=convention
    )
    return _measurement(pair_set, extractor, rows, split, "captions", difficulty, image, text)


def measure_labels(
    pair_set: PairSet | Path | str,
    extractor: Any,
    *,
    alpha: float = 0.8,
    split: str | None = "train",
) -> Measurement:
    """AD where a pair's text is the class label in its caption (section 5.4: CIFAR-10, ImageNet).

    A benign pair's true label is its main concept; a poisoned pair's is the target whose picture it shows.
    Only the extractor's image tower is used; a picture that several pairs share is encoded once.

    Raises:
        ValueError: if the split has no pairs, or a pair has no label or a poisoned one no target.
    """
    from explorer.theory.alignment_difficulty import label_alignment_difficulty, one_hot_labels

    pair_set = _opened(pair_set)
    rows = _split_rows(pair_set.table, split)
    labels, true_labels = class_labels(pair_set.table.iloc[rows])
    image = picture_features(pair_set, extractor, rows)
    difficulty = label_alignment_difficulty(image, labels, true_labels, alpha=alpha)
    return _measurement(pair_set, extractor, rows, split, "labels", difficulty, image, one_hot_labels(labels, image))


def class_labels(table: pandas.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the class each pair names and of the class its picture shows, int64 `[N]` each."""
    named = np.array([concepts[0] if len(concepts) else "" for concepts in table["concepts"]], dtype=object)
    shown = np.where(table["is_poison"], table["target_concept"], named)
    for problem, names in (("no concept", named), ("no target concept", shown)):
        if (names == "").any():
            uid = table["uid"].iloc[int(np.flatnonzero(names == "")[0])]
            raise ValueError(f"pair {uid!r} has {problem}: expected a class label for every pair")
    classes = sorted({*named, *shown})
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in named]), np.array([number[name] for name in shown])


def picture_features(pair_set: PairSet, extractor: Any, rows: np.ndarray) -> torch.Tensor:
    """Unit image features fp32 `[N, d]` of the pairs at ``rows``; each picture is encoded once."""
    import torch

    pictures, index = np.unique(pair_set.table["image_index"].to_numpy()[rows], return_inverse=True)
    batches = [
        extractor.encode_images(pair_set.images[pictures[first : first + ENCODING_BATCH]])
        for first in range(0, len(pictures), ENCODING_BATCH)
    ]
    return torch.cat(batches)[torch.from_numpy(index)]


def _measurement(
    pair_set: PairSet,
    extractor: Any,
    rows: np.ndarray,
    split: str | None,
    distances: str,
    difficulty: AlignmentDifficulty,
    image: torch.Tensor,
    text: torch.Tensor,
) -> Measurement:
    from explorer.theory.alignment_updates import mean_offset

    return Measurement(
        difficulty=difficulty,
        offset=mean_offset(image, text, difficulty),
        rows=rows,
        is_poison=pair_set.table["is_poison"].to_numpy(dtype=bool)[rows],
        extractor=extractor.name,
        split=split,
        distances=distances,
    )


def _opened(pair_set: PairSet | Path | str) -> PairSet:
    from explorer.data.pair_set import PairSet

    return pair_set if isinstance(pair_set, PairSet) else PairSet.load(pair_set)


def _split_rows(table: pandas.DataFrame, split: str | None) -> np.ndarray:
    if split is None:
        return np.arange(len(table))
    rows = np.flatnonzero(table["split"] == split)
    if len(rows) == 0:
        raise ValueError(f"split is {split!r}: the set has {sorted(table['split'].unique())}")
    return rows
