"""Nearest neighbours by cosine among all pairs of a set: exact, in blocks, so that memory does not grow with N^2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.core.progress import OnProgress, Tally, unheard

if TYPE_CHECKING:
    import torch

BLOCK_ENTRIES = 2**25
"""Cosines held at once: 128 MB."""


def nearest_neighbours(
    features: torch.Tensor | np.ndarray,
    neighbours: int,
    *,
    rows: np.ndarray | None = None,
    on_progress: OnProgress = unheard,
    task: str = "neighbours",
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar other rows, int64 `[n, k]`, and their cosines, fp32 `[n, k]`, most similar first.

    A row is never its own neighbour, also where other rows equal it.

    Args:
        features: `[N, d]` of unit length.
        neighbours: k, 1..N-1.
        rows: int `[n]`, whose neighbours are wanted; None for every row's.
    """
    import torch

    features = torch.as_tensor(features, dtype=torch.float32)
    wanted = torch.arange(len(features)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)
    nodes = np.empty((len(wanted), neighbours), dtype=np.int64)
    cosines = np.empty((len(wanted), neighbours), dtype=np.float32)
    block = max(1, BLOCK_ENTRIES // len(features))
    tally = Tally(on_progress, task, len(wanted), "pair")
    for first in range(0, len(wanted), block):
        own = wanted[first : first + block]
        similarity = features[own] @ features.T
        similarity[torch.arange(len(own)), own] = -torch.inf
        found = similarity.topk(neighbours, dim=1)
        nodes[first : first + block], cosines[first : first + block] = found.indices, found.values
        tally.add(len(own))
    return nodes, cosines
