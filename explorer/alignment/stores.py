"""Alignment Difficulty of an embedding store: ours, clip-retrieval's, or LAION's, without computing it again.

A store may be larger than memory. A sample reads its own rows and no others; without one, features that are too large
to be held are read from disk part by part, and what is held are a few numbers a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.neighbourhoods import measure_local
from explorer.alignment.scores import write_scores
from explorer.alignment.streamed_stores import UID_COLUMN, StreamedComputation, stream_store
from explorer.alignment.structure.compute import (
    agreed_plan,
    check_composition,
    check_takes_landmarks,
    compose_structure,
)
from explorer.alignment.structure.plan import StructureRequest, available_bytes
from explorer.core.workers import ALONE, Workers
from explorer.embeddings.store import EmbeddingStore
from explorer.pairs.pair_import import mentioned_concepts
from explorer.pairs.sources.base import first_of

if TYPE_CHECKING:
    import pyarrow

    from explorer.alignment.difficulty import ComposedDifficulty
    from explorer.alignment.landmarks import LandmarkList
    from explorer.alignment.local_difficulty import LocalDifficulty
    from explorer.alignment.neighbourhoods import LocalRequest
    from explorer.alignment.rows_on_disk import RowsOnDisk
    from explorer.alignment.structure.compute import ComputationRecord
    from explorer.alignment.structure.distance import FeatureRows

CAPTION_COLUMNS = ("caption", "TEXT", "text")
"""Of the metadata, in clip-retrieval's and in LAION's spelling."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreMeasurement:
    """AD of the pairs of a store, or of a random sample of them."""

    difficulty: ComposedDifficulty
    """AD and its parts; with every pair's share in the order of ``rows`` (``AlignmentDifficulty``), unless it was
    streamed."""
    offset: dict[str, Any]
    """How much of structure AD the mean vectors of the two cones force: ``MeanOffset.summary``."""
    computation: ComputationRecord
    """How the structure distances came about: exact or estimated, at what precision, checked how."""
    rows: np.ndarray | range
    """`[n]` measured rows of the store, ascending."""
    seed: int | None
    """Decided the sample; None where every pair was measured."""
    feature_range_from: str
    """``extractor`` (calibrated when the extractor was made) or ``option`` (given for this measurement)."""
    features: str
    """``memory`` or ``disk``: where the features were read from; it changes no number."""
    store: EmbeddingStore
    """What was measured."""
    local: LocalDifficulty | None
    """Local AD, whose ``rows`` are positions in ``rows``; None of a single pair, where it is not asked for, and in all
    processes but the first."""

    @property
    def extractor(self) -> str | None:
        """Name of the extractor that made the store; None where the store does not say."""
        return None if self.store.manifest is None else self.store.manifest["config"]["extractor"]["name"]

    def report(self) -> dict[str, Any]:
        """All numbers, JSON-serialisable: AD and its parts, standard errors, mean offset, what was measured and how."""
        return {
            **self.difficulty.summary(),
            **self.offset,
            **({} if self.local is None else self.local.summary()),
            "pairs": len(self.store),
            "seed": self.seed,
            "extractor": self.extractor,
            "feature_range_from": self.feature_range_from,
            "pictures": embedded_pictures(self.store),
            **self.computation.report(),
        }

    def uids(self) -> pyarrow.Array:
        """string `[n]`: the uid of each measured pair, all null where the store's metadata has none."""
        import pyarrow

        if UID_COLUMN not in self.store.metadata_columns():
            return pyarrow.nulls(len(self.rows), pyarrow.string())
        # A partition at a time: only the uids of the measured rows are kept.
        parts, first = [], 0
        for part in self.store.column(UID_COLUMN):
            uids = pyarrow.array([None if uid is None else str(uid) for uid in part], pyarrow.string())
            if not isinstance(self.rows, range):
                low, high = np.searchsorted(self.rows, (first, first + len(part)))
                uids = uids.take(pyarrow.array(self.rows[low:high] - first))
            parts.append(uids)
            first += len(part)
        return pyarrow.concat_arrays(parts)

    def cost_report(self) -> dict[str, Any]:
        """The plan's reason and what it promised, beside what it took; JSON-serialisable."""
        return {**self.computation.cost_report(), "features": self.features}


def measure_store(
    folder: Path | str,
    *,
    feature_range: tuple[float, float] | None = None,
    alpha: float = 0.8,
    convention: str = "authors",
    sample: int | None = None,
    seed: int = 0,
    request: StructureRequest | None = None,
    landmarks: LandmarkList | None = None,
    local: LocalRequest | None = None,
    concepts: tuple[str, ...] = (),
    caption_column: str | None = None,
    scores: Path | None = None,
    workers: Workers = ALONE,
) -> StoreMeasurement:
    """AD of a store's pairs, over all of them or over ``sample`` random ones.

    From landmarks, without a sample, pairs are streamed: memory does not grow with N, and scores are on disk only.

    A sample's feature AD is unbiased; its structure AD counts n zeros of the diagonal among n^2 pairs instead of N
    among N^2, which makes it smaller by the factor ``(1 - 1/n) / (1 - 1/N)``.

    Args:
        folder: an embedding store (see ``explorer/embeddings/store.py``).
        feature_range: (lo, hi) cosines that feature distance maps to 1 and 0. None takes that of the extractor
            that made the store. A store that does not name its extractor needs one: Ding et al.'s (0.20, 0.45)
            belongs to OpenAI's ViT-B/32 on LAION and to nothing else.
        sample: pairs to draw without replacement; None measures all.
        seed: decides the sample, and the draw and cells of local AD.
        request: how to compute the structure distances of the measured pairs; None is exact, on the CPU.
        landmarks: trusted pairs that estimator ``landmarks`` draws from; structure AD is then the mean disparity to
            these.
        local: which neighbourhoods local AD is measured over, among the measured pairs; None is ``LocalRequest``'s
            default.
        concepts: nouns whose first mention in a caption is the pair's stratum, for estimator ``stratified``.
        caption_column: of the metadata, where it is none of ``CAPTION_COLUMNS``.
        scores: new .parquet file for the scores of every measured pair (see :func:`write_scores`; streamed ones have
            no ranks above a million pairs).
        workers: the processes that share the work; every one of them calls this and gets the result.

    Raises:
        ValueError: without a feature range, on a sample size outside 1..N, on landmarks or concepts that the estimator
            does not take or the store does not have, or on what ``compute_structure`` refuses.
    """
    from explorer.alignment.difficulty import feature_distance, paired_cosines

    check_composition(alpha, convention)
    store = EmbeddingStore.open(folder)
    chosen, origin = _feature_range(store, feature_range)
    request = StructureRequest() if request is None else request
    rows = _measured_rows(store, sample, seed)
    trusted = None if landmarks is None else _trusted(store, rows, landmarks, request)
    strata = _strata(store, rows, concepts, caption_column, request)
    on_disk = _on_disk(store, rows, workers)
    plan = agreed_plan(*on_disk, request, strata=strata, trusted=trusted, streamed=sample is None, workers=workers)
    streamed = plan.estimator == "landmarks" and sample is None
    image, text = on_disk if streamed else _features(on_disk, workers)
    composition = {"feature_range": chosen, "alpha": alpha, "convention": convention}
    found = None
    if workers.index == 0:
        found = measure_local(image, text, **composition, request=local, seed=seed, on_progress=workers.on_progress)
    measurement = partial(
        StoreMeasurement, store=store, rows=rows, seed=seed if sample else None, feature_range_from=origin, local=found
    )
    if streamed:
        return _of_stream(measurement, stream_store(
            store, plan, **composition, trusted=trusted, twin=request.budget_seconds is None, scores=scores,
            report=lambda done: _of_stream(measurement, done).report(), workers=workers,
        ))  # fmt: skip
    difficulty, offset, computation = compose_structure(
        image, text, feature_distance(paired_cosines(image, text), chosen), request, **composition, names=rows,
        strata=strata, trusted=trusted, plan=plan, workers=workers,
    )  # fmt: skip
    place = "disk" if image is on_disk[0] else "memory"
    measured = measurement(difficulty=difficulty, offset=offset.summary(), computation=computation, features=place)
    if scores is not None and workers.index == 0:
        write_scores(scores, measured.difficulty, rows, measured.report(), uid=measured.uids())
    return measured


def _of_stream(measurement: Callable[..., StoreMeasurement], done: StreamedComputation) -> StoreMeasurement:
    found = done.streamed
    return measurement(difficulty=found.difficulty, offset=found.offset, computation=done, features="disk")


def embedded_pictures(store: EmbeddingStore) -> str:
    """Which pixels a store's embeddings are of, in words."""
    if store.manifest is None:
        return "not recorded"
    size = store.manifest["config"].get("settings", {}).get("size")
    return "as they are, prepared by the extractor" if size is None else f"squared to {size} x {size} pixels"


def _measured_rows(store: EmbeddingStore, sample: int | None, seed: int) -> np.ndarray | range:
    if sample is None:
        return range(len(store))
    if not 1 <= sample <= len(store):
        raise ValueError(f"sample is {sample}: expected 1 to {len(store)}, the pairs of {store.folder}")
    return np.sort(np.random.default_rng(seed).choice(len(store), size=sample, replace=False))


def _on_disk(store: EmbeddingStore, rows: np.ndarray | range, workers: Workers) -> tuple[RowsOnDisk, RowsOnDisk]:
    from explorer.alignment.rows_on_disk import RowsOnDisk

    chosen = None if isinstance(rows, range) else rows
    return tuple(RowsOnDisk(part, chosen, workers.device) for part in (store.image, store.text))


def _features(on_disk: Sequence[RowsOnDisk], workers: Workers) -> tuple[FeatureRows, ...]:
    """Image and text features of the measured rows, both held or both on disk."""
    import torch

    from explorer.alignment.rows_on_disk import HELD_SHARE, held_within

    device = torch.device(workers.device)
    processes = workers.count if device.type == "cpu" else 1
    budget = HELD_SHARE * available_bytes(device) / processes / 2
    return tuple(held_within(part, budget) for part in on_disk)


def _trusted(
    store: EmbeddingStore, rows: np.ndarray | range, landmarks: LandmarkList, request: StructureRequest
) -> np.ndarray:
    check_takes_landmarks(request)
    if not isinstance(rows, range):
        raise ValueError(f"a sample of {len(rows)} pairs is asked for and landmarks are given: expected one of the two")
    has_uids = UID_COLUMN in store.metadata_columns()
    return landmarks.positions(rows, store.column(UID_COLUMN) if has_uids or landmarks.by_uid else ())


def _strata(
    store: EmbeddingStore,
    rows: np.ndarray | range,
    concepts: tuple[str, ...],
    caption_column: str | None,
    request: StructureRequest,
) -> np.ndarray | None:
    """Stratum of each measured pair, by its caption."""
    if request.estimator != "stratified":
        if concepts:
            raise ValueError(f"concepts are given and estimator is {request.estimator!r}: expected stratified")
        return None
    if not concepts:
        raise ValueError("estimator is 'stratified': expected concepts, whose first mention is a pair's stratum")
    column = caption_column or first_of(CAPTION_COLUMNS, store.metadata_columns())
    if column is None:
        raise ValueError(
            f"the metadata of {store.folder} has the columns {', '.join(store.metadata_columns()) or 'none'}: expected "
            f"captions in {', '.join(CAPTION_COLUMNS)}; name another as the caption column"
        )
    # Captions are read a partition at a time; what stays of each is one number.
    parts = [_first_mentions(part, concepts, column) for part in store.column(column)]
    return np.concatenate(parts)[rows if isinstance(rows, np.ndarray) else slice(None)]


def _first_mentions(captions: list[Any], concepts: tuple[str, ...], column: str) -> np.ndarray:
    """Number of the concept that each caption mentions first; -1 where it mentions none or is null."""
    unlike = next((caption for caption in captions if not isinstance(caption, str | None)), None)
    if unlike is not None:
        raise ValueError(f"column {column!r} of the metadata holds {unlike!r}: expected captions")
    mentioned, number = mentioned_concepts(concepts), {concept: index for index, concept in enumerate(concepts)}
    found = [mentioned(caption or "") for caption in captions]
    return np.array([number[nouns[0]] if nouns else -1 for nouns in found], dtype=np.int32)


def _feature_range(store: EmbeddingStore, given: tuple[float, float] | None) -> tuple[tuple[float, float], str]:
    if given is not None:
        return (float(given[0]), float(given[1])), "option"
    if store.manifest is None:
        raise ValueError(
            f"{store.folder} does not say which extractor made it: expected a feature range LO HI, calibrated for "
            "that extractor on benign pairs (0.20 0.45 is OpenAI's ViT-B/32 on LAION)"
        )
    found = store.manifest["config"]["extractor"]["feature_range"]
    if found is None:
        raise ValueError(f"{store.folder} was made without a feature range: expected one, LO HI, for its extractor")
    return tuple(found), "extractor"
