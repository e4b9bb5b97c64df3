"""Layouts of a neighbour graph in the plane, and how much of its neighbourhoods a layout keeps.

How the settings were chosen is told in docs/alignment.md.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

LAYOUT_NEIGHBOURS = 15
"""Size of UMAP's neighbourhoods (McInnes et al., 2018), on cosine distance; wider than the drawn edges."""
LEAST_DISTANCE = 0.1
"""Of points that are near, as UMAP counts it (``min_dist``)."""
ANCHORS = 1000
"""Rows whose neighbourhoods a layout is judged by, where there are more."""
JUDGED_NEIGHBOURS = 15
ANCHOR_BLOCK = 64
FIRST_STEP, FIRST_STEP_FROM_A_START = 1.0, 0.1
"""UMAP's learning rate: without a start its usual one; from a start a small one, or clusters would change places."""


@dataclass(frozen=True, kw_only=True)
class LayoutQuality:
    """How well a layout keeps neighbourhoods, over ``anchors`` rows; both are 1 at best.

    A random layout has a trustworthiness of about one half and a preservation of about ``neighbours / n``.
    """

    trustworthiness: float
    """1 less the mean penalty of points that are near on the layout alone (Venna and Kaski, 2001)."""
    preservation: float
    """Share of the nearest on the layout that are among the nearest by cosine, equals included."""
    neighbours: int
    """How many nearest are compared."""
    anchors: int
    """Over how many rows the means are."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable, the shares to four digits."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def umap_layout(
    features: np.ndarray,
    nodes: np.ndarray,
    cosines: np.ndarray,
    *,
    seed: int,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """UMAP layout fp32 `[n, 2]` of a neighbour graph, from ``start`` `[n, 2]` where given.

    Args:
        features: `[n, d]` of unit length.
        nodes: int `[n, k]` nearest other rows, k at least ``LAYOUT_NEIGHBOURS - 1`` or n - 1.
        cosines: `[n, k]` theirs.
    """
    from umap import UMAP

    count = min(LAYOUT_NEIGHBOURS, len(features))
    # UMAP counts a point as the first of its own neighbours.
    near = np.concatenate([np.arange(len(features))[:, None], nodes[:, : count - 1]], axis=1)
    distances = np.concatenate([np.zeros((len(features), 1), np.float32), 1 - cosines[:, : count - 1]], axis=1)
    model = UMAP(
        n_neighbors=count,
        min_dist=LEAST_DISTANCE,
        metric="cosine",
        init="pca" if start is None else start.astype(np.float32),
        learning_rate=FIRST_STEP if start is None else FIRST_STEP_FROM_A_START,
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(near, np.maximum(distances, 0)),
        force_approximation_algorithm=True,  # or small sets would have their neighbours computed again
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn")  # that new rows could not be added later
        return np.asarray(model.fit_transform(features), dtype=np.float32)


def turned_onto(layout: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """``layout`` `[n, 2]` centred and turned (or mirrored) onto ``reference`` (orthogonal Procrustes)."""
    from scipy.linalg import orthogonal_procrustes

    centred = layout - layout.mean(axis=0)
    rotation, _ = orthogonal_procrustes(centred, reference - reference.mean(axis=0))
    return centred @ rotation


def scaled_layout(layout: np.ndarray) -> np.ndarray:
    """``layout`` `[n, 2]` centred and divided by its largest coordinate: in [-1, 1], shape kept."""
    centred = layout - layout.mean(axis=0)
    largest = np.abs(centred).max()
    return (centred / largest if largest > 0 else centred).astype(np.float32)


def layout_quality(features: torch.Tensor | np.ndarray, layout: np.ndarray, *, seed: int = 0) -> LayoutQuality:
    """Trustworthiness and neighbour preservation of a layout `[n, 2]` of unit features `[n, d]`, n at least 3.

    Ranks are exact and among all n; pairs of equal similarity have the best of their ranks. Beyond ``ANCHORS`` rows,
    the means are over that many, drawn with ``seed``.
    """
    import torch

    features, layout = torch.as_tensor(features, dtype=torch.float32), torch.as_tensor(layout, dtype=torch.float32)
    n = len(features)
    k = min(JUDGED_NEIGHBOURS, (n - 1) // 2)
    chosen = np.sort(np.random.default_rng(seed).permutation(n)[:ANCHORS])
    penalty = kept = 0.0
    for first in range(0, len(chosen), ANCHOR_BLOCK):
        own = torch.from_numpy(chosen[first : first + ANCHOR_BLOCK])
        at = torch.arange(len(own))
        cosine = features[own] @ features.T
        cosine[at, own] = -torch.inf
        distance = torch.cdist(layout[own], layout, compute_mode="donot_use_mm_for_euclid_dist")
        distance[at, own] = torch.inf
        near = distance.topk(k, largest=False).indices
        similar = cosine.gather(1, near)
        rank = 1 + torch.stack([(cosine > column[:, None]).sum(1) for column in similar.T], dim=1)
        penalty += float((rank - k).clamp(min=0).sum())
        kept += float((rank <= k).sum())
    scale = 2 / (len(chosen) * k * (2 * n - 3 * k - 1))
    return LayoutQuality(
        trustworthiness=1 - scale * penalty, preservation=kept / (len(chosen) * k), neighbours=k, anchors=len(chosen)
    )
