"""Alignment Difficulty of an embedding store: ours, clip-retrieval's, or LAION's, without computing it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.experiments.embedding_store import EmbeddingStore

if TYPE_CHECKING:
    from explorer.theory.alignment_difficulty import AlignmentDifficulty
    from explorer.theory.alignment_updates import MeanOffset


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreMeasurement:
    """AD of the pairs of a store, or of a random sample of them."""

    difficulty: AlignmentDifficulty
    """AD, its parts, and every pair's share in the order of ``rows``."""
    offset: MeanOffset
    """How much of structure AD the mean vectors of the two cones force."""
    rows: np.ndarray
    """int64 `[n]` measured rows of the store, ascending."""
    pairs: int
    """Pairs in the store."""
    seed: int | None
    """Decided the sample; None where every pair was measured."""
    extractor: str | None
    """Name of the extractor that made the store; None where the store does not say."""
    feature_range_from: str
    """``extractor`` (calibrated when the extractor was made) or ``option`` (given for this measurement)."""

    def report(self) -> dict[str, Any]:
        """All numbers, JSON-serialisable: AD and its parts, standard errors, mean offset, what was measured."""
        return {
            **self.difficulty.summary(),
            **self.offset.summary(),
            "pairs": self.pairs,
            "seed": self.seed,
            "extractor": self.extractor,
            "feature_range_from": self.feature_range_from,
        }


def measure_store(
    folder: Path | str,
    *,
    feature_range: tuple[float, float] | None = None,
    alpha: float = 0.8,
    convention: str = "authors",
    sample: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> StoreMeasurement:
    """AD of a store's pairs, exact over all of them or over ``sample`` random ones.

    A sample's feature AD is unbiased; its structure AD counts n zeros of the diagonal among n^2 pairs instead of N
    among N^2, which makes it smaller by the factor ``(1 - 1/n) / (1 - 1/N)``.

    Args:
        folder: an embedding store (see ``explorer/experiments/embedding_store.py``).
        feature_range: (lo, hi) cosines that feature distance maps to 1 and 0. None takes that of the extractor
            that made the store. A store that does not name its extractor needs one: Ding et al.'s (0.20, 0.45)
            belongs to OpenAI's ViT-B/32 on LAION and to nothing else.
        sample: pairs to draw without replacement; None measures all, in O(N^2 d) operations.
        seed: decides the sample.
        device: where the tiles are computed.

    Raises:
        ValueError: without a feature range, on a sample size outside 1..N, or on what ``alignment_difficulty``
            refuses.
    """
    from explorer.theory.alignment_difficulty import alignment_difficulty
    from explorer.theory.alignment_updates import mean_offset

    store = EmbeddingStore.open(folder)
    chosen, origin = _feature_range(store, feature_range)
    rows = np.arange(len(store))
    if sample is not None:
        if not 1 <= sample <= len(store):
            raise ValueError(f"sample is {sample}: expected 1 to {len(store)}, the pairs of {folder}")
        rows = np.sort(np.random.default_rng(seed).choice(len(store), size=sample, replace=False))
    image, text = store.image.read(rows).to(device), store.text.read(rows).to(device)
    difficulty = alignment_difficulty(image, text, alpha=alpha, feature_range=chosen, convention=convention)
    return StoreMeasurement(
        difficulty=difficulty,
        offset=mean_offset(image, text, difficulty),
        rows=rows,
        pairs=len(store),
        seed=None if sample is None else seed,
        extractor=None if store.manifest is None else store.manifest["config"]["extractor"]["name"],
        feature_range_from=origin,
    )


def _feature_range(store: EmbeddingStore, given: tuple[float, float] | None) -> tuple[tuple[float, float], str]:
    if given is not None:
        return (float(given[0]), float(given[1])), "option"
    if store.manifest is None:
        raise ValueError(
            f"{store.folder} does not say which extractor made it: expected a feature range LO HI, calibrated for "
            "that extractor on benign pairs (0.20 0.45 is OpenAI's ViT-B/32 on LAION)"
        )
    low, high = store.manifest["config"]["extractor"]["feature_range"]
    return (low, high), "extractor"
