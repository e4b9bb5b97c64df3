"""Nearest neighbours by cosine among all pairs of a set: exact, in blocks, so that memory does not grow with N^2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.core.progress import OnProgress, Tally, unheard

if TYPE_CHECKING:
    import torch

    from explorer.alignment.structure.distance import FeatureRows

BLOCK_ENTRIES = 2**25
"""Cosines held at once: 128 MB."""
ROWS_READ = 2**13
"""Rows that are read at once of features that are not held."""


def nearest_neighbours(
    features: FeatureRows | np.ndarray,
    neighbours: int,
    *,
    rows: np.ndarray | None = None,
    on_progress: OnProgress = unheard,
    task: str = "neighbours",
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar other rows, int64 `[n, k]`, and their cosines, fp32 `[n, k]`, most similar first.

    A row is never its own neighbour, also where other rows equal it. Which of equally similar rows are taken is the
    same in every run on one machine.

    Args:
        features: `[N, d]` of unit length; rows on disk are read part by part, once for each block of wanted rows.
        neighbours: k, 1..N-1.
        rows: int `[n]`, whose neighbours are wanted; None for every row's.
    """
    import torch

    if isinstance(features, np.ndarray | torch.Tensor):
        features = torch.as_tensor(features, dtype=torch.float32)
        width = len(features)
    else:
        width = min(len(features), ROWS_READ)
    wanted = torch.arange(len(features)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)
    nodes = np.empty((len(wanted), neighbours), dtype=np.int64)
    cosines = np.empty((len(wanted), neighbours), dtype=np.float32)
    block = max(1, BLOCK_ENTRIES // width)
    tally = Tally(on_progress, task, len(wanted), "pair")
    for first in range(0, len(wanted), block):
        own = wanted[first : first + block]
        nodes[first : first + block], cosines[first : first + block] = _nearest(features, own, neighbours, width)
        tally.add(len(own))
    return nodes, cosines


def _nearest(
    features: FeatureRows, own: torch.Tensor, neighbours: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the rows ``own`` among all, ``width`` of which are compared at once."""
    import torch

    queries, found = features[own], None
    for start in range(0, len(features), width):
        similarity = queries @ features[start : start + width].T
        inside = ((own >= start) & (own < start + width)).nonzero().flatten()
        similarity[inside, own[inside] - start] = -torch.inf
        top = similarity.topk(min(neighbours, similarity.shape[1]), dim=1)
        values, indices = top.values, top.indices + start
        if found is not None:
            values, indices = torch.cat([found[0], values], dim=1), torch.cat([found[1], indices], dim=1)
            best = values.topk(min(neighbours, values.shape[1]), dim=1)
            values, indices = best.values, indices.gather(1, best.indices)
        found = values, indices
    return found[1].cpu(), found[0].cpu()
