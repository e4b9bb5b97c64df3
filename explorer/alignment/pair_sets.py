"""Alignment Difficulty of a pair set: from its pairs and an extractor to AD and its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.concept_labels import class_labels, main_concepts
from explorer.alignment.neighbourhoods import measure_local
from explorer.alignment.structure.compute import check_composition, check_takes_landmarks, compose_structure
from explorer.alignment.structure.plan import StructureRequest
from explorer.core.intervals import area_under_curve
from explorer.core.workers import ALONE, Workers
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFlags

if TYPE_CHECKING:
    import pandas
    import torch

    from explorer.alignment.difficulty import AlignmentDifficulty
    from explorer.alignment.landmarks import LandmarkList
    from explorer.alignment.local_difficulty import LocalDifficulty
    from explorer.alignment.neighbourhoods import LocalRequest
    from explorer.alignment.structure.compute import StructureComputation
    from explorer.alignment.updates import MeanOffset

ENCODING_BATCH = 256
SCORES = ("sample_ad", "structure_distance", "feature_distance")
"""Per-sample scores: AD(x, y), D_s and D_img:txt."""
LOCAL_SCORES = ("picture_scatter", "local_structure_distance", "local_feature_distance")
"""Per-sample scores of neighbourhoods (``LocalDifficulty``)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """AD of the pairs of one split, with what it was measured on."""

    difficulty: AlignmentDifficulty
    """AD, its parts, and every pair's share in the order of ``rows``."""
    offset: MeanOffset
    """How much of structure AD the mean vectors of the two cones force."""
    computation: StructureComputation
    """How the structure distances came about: exact or estimated, at what precision, checked how."""
    rows: np.ndarray
    """int `[N]` positions of the measured pairs in the pair set."""
    uids: np.ndarray
    """str `[N]` uid of each measured pair."""
    flags: PoisonFlags
    """What is known of each measured pair's poison."""
    extractor: str
    """Name of the universal extractor."""
    pictures: str
    """Which pixels were measured: how large the set's pictures are, and what the extractor reads."""
    split: str | None
    """The measured split; None for all pairs."""
    distances: str
    """``captions`` (cosines of captions) or ``labels`` (0/1 distances of class labels)."""
    local: LocalDifficulty | None
    """Local AD of these pairs, whose ``rows`` are positions in ``rows``; None where there are no neighbouring captions
    (labels, a single pair), none are asked for, and in all processes but the first."""

    def report(self) -> dict[str, Any]:
        """All numbers, JSON-serialisable: AD, its parts, standard errors, mean offset, AUC of poison, how it was done.

        None stands for what nobody recorded: which pairs are poison, and with it every AUC.

        The standard errors of AD and its parts are about the population that the pairs are a sample of;
        ``estimator_standard_error`` is about structure AD of these pairs, and is 0 where it is exact.
        """
        return {
            **self.difficulty.summary(),
            **self.offset.summary(),
            **self.flags.counts(),
            "extractor": self.extractor,
            "pictures": self.pictures,
            "distances": self.distances,
            "split": self.split or "all",
            **({} if self.local is None else self.local.summary()),
            **{f"{score}_auc": self.poison_auc(score) for score in SCORES + (LOCAL_SCORES if self.local else ())},
            **self.computation.report(),
        }

    def poison_auc(self, score: str) -> float | None:
        """Chance that a pair known to be poison scores above one known to be benign; None where there are no such."""
        values = self.scores(score)
        known = ~np.isnan(values)
        poisoned, benign = values[self.flags.poisoned & known], values[self.flags.benign & known]
        return area_under_curve(poisoned, benign) if len(poisoned) and len(benign) else None

    def scores(self, score: str) -> np.ndarray:
        """fp64 `[N]` values of one of ``SCORES`` or, where local AD is known, ``LOCAL_SCORES``; of these, NaN for pairs
        whose neighbourhood is not measured."""
        if score in SCORES:
            return getattr(self.difficulty, score).numpy()
        if self.local is None or score not in LOCAL_SCORES:
            known = SCORES + (LOCAL_SCORES if self.local else ())
            raise ValueError(f"score is {score!r}: expected one of {', '.join(known)}")
        values = np.full(len(self.rows), np.nan)
        values[self.local.rows.numpy()] = getattr(self.local, score).numpy()
        return values

    def local_columns(self) -> dict[str, np.ndarray]:
        """``LOCAL_SCORES`` by name, float32 `[N]`, for a file of scores; none where local AD is not known."""
        return {score: self.scores(score).astype(np.float32) for score in LOCAL_SCORES} if self.local else {}


def measure(
    pair_set: PairSet | Path | str,
    extractor: Any,
    *,
    alpha: float = 0.8,
    convention: str = "authors",
    split: str | None = "train",
    request: StructureRequest | None = None,
    landmarks: LandmarkList | None = None,
    local: LocalRequest | None = None,
    workers: Workers = ALONE,
) -> Measurement:
    """AD of a pair set's captions and pictures, with the extractor's frozen feature range.

    Args:
        pair_set: the set or its folder; its features are cached beside it.
        extractor: a universal extractor: ``name``, ``feature_range``, ``picture_size``, ``encode_images``,
            ``encode_texts``.
        split: measure only this split; None measures all pairs.
        request: how to compute the structure distances; None is exact, on the CPU.
        landmarks: trusted pairs that estimator ``landmarks`` draws from; structure AD is then the mean disparity to
            these. None draws from all.
        local: which neighbourhoods local AD is measured over; None is ``LocalRequest``'s default.
        workers: the processes that share the work; every one of them calls this and gets the result.

    Raises:
        ValueError: if the split has no pairs, on landmarks that are not among them, or on what ``compute_structure``
            refuses.
    """
    from explorer.embeddings.features import pair_features

    pair_set = _opened(pair_set)
    return measure_features(
        pair_set.table, lambda: pair_features(pair_set, extractor, workers.on_progress),
        feature_range=extractor.feature_range, extractor=extractor.name,
        pictures=pictures_in_words(pair_set, extractor.picture_size), alpha=alpha, convention=convention, split=split,
        request=request, landmarks=landmarks, local=local, workers=workers,
    )  # fmt: skip


def measure_features(
    table: pandas.DataFrame,
    features: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    *,
    feature_range: tuple[float, float],
    extractor: str,
    pictures: str,
    alpha: float = 0.8,
    convention: str = "authors",
    split: str | None = "train",
    request: StructureRequest | None = None,
    landmarks: LandmarkList | None = None,
    local: LocalRequest | None = None,
    workers: Workers = ALONE,
) -> Measurement:
    """AD of any pairs whose features are there, measured as :func:`measure` measures a pair set.

    Args:
        table: one row a pair, with the columns ``uid``, ``concepts``, ``is_poison`` and ``split`` of a pair set.
        features: gives the unit image and text features fp32 `[N, d]` of all its rows; called once what is to be
            measured was found to be there.
        feature_range: (lo, hi) cosines that feature distance maps to 1 and 0.
        extractor: name of the extractor that the features are of.
        pictures: which pixels it read, in words.

    Raises:
        ValueError: as :func:`measure`.
    """
    from explorer.alignment.difficulty import feature_distance, paired_cosines

    check_composition(alpha, convention)
    chosen = _MeasuredRows.choose(table, split, landmarks, request)
    image, text = (rows_of(part, chosen.rows).to(workers.device) for part in workers.first_alone(features))
    composition = {"alpha": alpha, "convention": convention, "feature_range": tuple(feature_range)}
    measured = chosen.measured(
        image, text, feature_distance(paired_cosines(image, text), feature_range), **composition,
        distances="captions", extractor=extractor, pictures=pictures, workers=workers,
    )  # fmt: skip
    if workers.index > 0:
        return measured
    found = measure_local(
        image, text, **composition, request=local, seed=measured.computation.plan.seed, on_progress=workers.on_progress
    )
    return replace(measured, local=found)


def measure_labels(
    pair_set: PairSet | Path | str,
    extractor: Any,
    *,
    alpha: float = 0.8,
    split: str | None = "train",
    request: StructureRequest | None = None,
    landmarks: LandmarkList | None = None,
    workers: Workers = ALONE,
) -> Measurement:
    """AD where a pair's text is the class label in its caption (section 5.4: CIFAR-10, ImageNet).

    A benign pair's true label is its main concept; a poisoned pair's is the target whose picture it shows.
    Only the extractor's image tower is used; a picture that several pairs share is encoded once.

    Raises:
        ValueError: if the split has no pairs, a pair has no label or a poisoned one no target, or nobody recorded
            whether a pair is poison: which class its picture shows is then unknown.
    """
    import torch

    from explorer.alignment.difficulty import one_hot_labels

    check_composition(alpha, "authors")
    pair_set = _opened(pair_set)
    chosen = _MeasuredRows.choose(pair_set.table, split, landmarks, request)
    labels, true_labels = class_labels(chosen.table)
    image = picture_features(pair_set, extractor, chosen.rows)
    return chosen.measured(
        image, one_hot_labels(labels, image), torch.from_numpy(labels != true_labels).double(), alpha=alpha,
        convention="authors", feature_range=None, distances="labels", extractor=extractor.name,
        pictures=pictures_in_words(pair_set, extractor.picture_size), workers=workers,
    )  # fmt: skip


def picture_features(pair_set: PairSet, extractor: Any, rows: np.ndarray) -> torch.Tensor:
    """Unit image features fp32 `[N, d]` of the pairs at ``rows``; each picture is encoded once."""
    import torch

    pair_set.check_images()
    pictures, index = np.unique(pair_set.table["image_index"].to_numpy()[rows], return_inverse=True)
    batches = [
        extractor.encode_images(pair_set.images[pictures[first : first + ENCODING_BATCH]])
        for first in range(0, len(pictures), ENCODING_BATCH)
    ]
    return torch.cat(batches)[torch.from_numpy(index)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _MeasuredRows:
    """The pairs that are measured, and how their structure distances are."""

    table: pandas.DataFrame
    """These pairs alone."""
    rows: np.ndarray
    split: str | None
    request: StructureRequest
    trusted: np.ndarray | None
    """Positions in ``rows`` that landmarks are drawn from; None for all."""

    @staticmethod
    def choose(
        table: pandas.DataFrame,
        split: str | None,
        landmarks: LandmarkList | None,
        request: StructureRequest | None,
    ) -> _MeasuredRows:
        """The pairs of ``split`` and the trusted ones among them, before any feature is computed."""
        rows, trusted = _split_rows(table, split), None
        request = StructureRequest() if request is None else request
        if landmarks is not None:
            check_takes_landmarks(request)
            trusted = landmarks.positions(rows, [table["uid"].tolist()])
        return _MeasuredRows(table=table.iloc[rows], rows=rows, split=split, request=request, trusted=trusted)

    def measured(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        feature_distance: torch.Tensor,
        *,
        alpha: float,
        convention: str,
        feature_range: tuple[float, float] | None,
        distances: str,
        extractor: str,
        pictures: str,
        workers: Workers,
    ) -> Measurement:
        """Structure distances as the request asks, composed with the feature distances; without local AD."""
        uids = self.table["uid"].to_numpy()
        strata = main_concepts(self.table) if self.request.estimator == "stratified" else None
        difficulty, offset, computation = compose_structure(
            image, text, feature_distance, self.request, alpha=alpha, convention=convention,
            feature_range=feature_range, names=uids, strata=strata, trusted=self.trusted, workers=workers,
        )  # fmt: skip
        return Measurement(
            difficulty=difficulty, offset=offset, computation=computation, rows=self.rows, uids=uids,
            flags=PoisonFlags.of(self.table), split=self.split, distances=distances, local=None, extractor=extractor,
            pictures=pictures,
        )  # fmt: skip


def rows_of(features: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """``features`` `[N, d]` at ``rows``, ascending and each once; without a copy where these are all there are."""
    return features if len(rows) == len(features) else features[rows]


def pictures_in_words(pair_set: PairSet, reads: int | None) -> str:
    """Which pixels of a set an extractor sees that reads squares of ``reads`` pixels (None: not known)."""
    height, width = pair_set.images.shape[1:3]
    told = f"{width} x {height} pixels"
    if reads is None or (height, width) == (reads, reads):
        return told
    told += f", resized to the {reads} x {reads} that the extractor reads"
    if "fingerprint" in pair_set.manifest["config"]:
        told += f"; import with --size {reads} for the pixels that embed reads"
    return told


def _opened(pair_set: PairSet | Path | str) -> PairSet:
    return pair_set if isinstance(pair_set, PairSet) else PairSet.load(pair_set)


def _split_rows(table: pandas.DataFrame, split: str | None) -> np.ndarray:
    if split is None:
        return np.arange(len(table))
    rows = np.flatnonzero(table["split"] == split)
    if len(rows) == 0:
        raise ValueError(f"split is {split!r}: the set has {sorted(table['split'].unique())}")
    return rows
