"""Local AD of a set: the neighbourhoods of all its captions, or of some drawn ones among all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from explorer.alignment.neighbours import nearest_neighbours
from explorer.core.progress import OnProgress, unheard

if TYPE_CHECKING:
    from explorer.alignment.local_difficulty import LocalDifficulty
    from explorer.alignment.structure.distance import FeatureRows

NEIGHBOURS = 15
WHOLE_PAIRS = 2**16
"""Up to how many pairs all neighbourhoods are measured, unless told otherwise: the search takes N^2 d operations."""
DRAWN_PAIRS = 2**12
"""How many of a larger set."""


@dataclass(frozen=True, kw_only=True)
class LocalRequest:
    """Which neighbourhoods local AD is measured over.

    Raises:
        ValueError: naming a number that cannot be.
    """

    neighbours: int = NEIGHBOURS
    """Nearest captions of a pair's neighbourhood, for local AD; at most all others; 0 leaves local AD out."""
    local_pairs: int | None = None
    """Random pairs whose neighbourhoods among all pairs are measured; by default all of up to 65536 pairs, and 4096 of
    more."""

    def __post_init__(self) -> None:
        if self.neighbours < 0:
            raise ValueError(f"neighbours is {self.neighbours}: expected 0 or more")
        if self.local_pairs is not None and self.local_pairs < 2:
            raise ValueError(f"local_pairs is {self.local_pairs}: expected at least 2")

    def count(self, pairs: int) -> int:
        """How many of ``pairs`` pairs are measured.

        Raises:
            ValueError: if more are asked for than there are.
        """
        if self.local_pairs is None:
            return pairs if pairs <= WHOLE_PAIRS else DRAWN_PAIRS
        if self.local_pairs > pairs:
            raise ValueError(f"local_pairs is {self.local_pairs}: expected 2 to {pairs}, the pairs there are")
        return self.local_pairs


def measure_local(
    image: FeatureRows,
    text: FeatureRows,
    *,
    feature_range: tuple[float, float],
    alpha: float = 0.8,
    convention: str = "authors",
    request: LocalRequest | None = None,
    seed: int = 0,
    on_progress: OnProgress = unheard,
) -> LocalDifficulty | None:
    """Local AD of N pairs: exact neighbours by caption, in blocks; None of a single pair, or where k is 0.

    Drawn pairs are each as likely and keep their neighbours among all N, so that their mean is unbiased; its interval
    covers the draw.

    Args:
        image: `[N, d]` unit image features, held or on disk.
        text: `[N, d]` unit text features of the same extractor.
        feature_range: (lo, hi) cosines that feature distance maps to 1 and 0.
        alpha: weight of local feature AD.
        convention: of the cosine distances.
        request: k, and how many pairs to measure; None is k = 15 of as many as the request's default.
        seed: decides the draw and the cells of the intervals.

    Raises:
        ValueError: if more pairs are asked for than there are, or on what ``local_difficulty`` refuses.
    """
    from explorer.alignment.local_difficulty import local_difficulty
    from explorer.core.sampling_design import draw_evenly

    request = LocalRequest() if request is None else request
    k = min(request.neighbours, len(image) - 1)
    if k < 1:
        return None
    rows = draw_evenly(len(image), request.count(len(image)), seed, least=2).rows.numpy()
    near, cosines = nearest_neighbours(text, k, rows=rows, on_progress=on_progress, task="nearest captions")
    return local_difficulty(
        image, text, near, cosines, feature_range=feature_range, rows=rows, alpha=alpha, convention=convention,
        seed=seed,
    )  # fmt: skip
