"""The two graphs of supervised graph alignment (Ding et al., CCS 2024, section 4.1), ready to be drawn.

A pair is a node of both: of the image graph at its image feature, of the text graph at its text feature.
Each graph joins a node to its k most similar nodes. The image layout starts from the text layout and is
turned onto it, so that a pair whose picture does not show what its caption says is seen to move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.alignment.layouts import (
    LAYOUT_NEIGHBOURS,
    LayoutQuality,
    layout_quality,
    scaled_layout,
    turned_onto,
    umap_layout,
)
from explorer.alignment.neighbours import nearest_neighbours
from explorer.core.progress import OnProgress, note, unheard

if TYPE_CHECKING:
    import torch

SMALLEST_GRAPH = 5
"""UMAP needs more nodes than the two dimensions it lays out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureGraph:
    """One side: the k nearest neighbours of each drawn pair among all pairs of the set, and the layout."""

    neighbours: np.ndarray
    """int64 `[n, k]` rows of the set, the most similar first."""
    similarities: np.ndarray
    """fp32 `[n, k]` cosines of these."""
    layout: np.ndarray
    """fp32 `[n, 2]`, centred, the largest absolute coordinate 1."""
    quality: LayoutQuality
    """How much of the drawn pairs' neighbourhoods the layout keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairGraphs:
    """Image graph and text graph of the same n pairs out of a set's N."""

    image: FeatureGraph
    text: FeatureGraph
    rows: np.ndarray
    """int64 `[n]`, the drawn pairs' rows in the set, ascending."""
    seed: int
    """Seed of both layouts."""

    def __len__(self) -> int:
        return len(self.rows)


def build_graphs(
    image: torch.Tensor | np.ndarray,
    text: torch.Tensor | np.ndarray,
    *,
    rows: np.ndarray | None = None,
    neighbours: int = 8,
    seed: int = 0,
    on_progress: OnProgress = unheard,
) -> PairGraphs:
    """Graphs and aligned layouts. The same input and seed give the same arrays.

    Args:
        image: `[N, d]` L2-normalised image features; row i is paired with row i of ``text``.
        text: `[N, d]` L2-normalised text features.
        rows: int `[n]` ascending, the pairs that are drawn; None for all. Neighbours are those of the whole set either
            way, layouts those of the drawn pairs among themselves.
        neighbours: k of the drawn graph.
        seed: of both UMAP layouts.
        on_progress: told of the search for neighbours and of the layouts.

    Raises:
        ValueError: on row counts that differ, or unless 5 <= n and 1 <= k < N.
    """
    image, text = np.asarray(image, dtype=np.float32), np.asarray(text, dtype=np.float32)
    drawn = np.arange(len(image)) if rows is None else np.asarray(rows, dtype=np.int64)
    if image.ndim != 2 or text.ndim != 2 or len(image) != len(text) or len(drawn) < SMALLEST_GRAPH:
        raise ValueError(
            f"got features of shape {list(image.shape)} and {list(text.shape)}, of which {len(drawn)} pairs are drawn: "
            f"expected [N, d] twice and at least {SMALLEST_GRAPH} drawn"
        )
    if not 1 <= neighbours < len(image):
        raise ValueError(f"neighbours is {neighbours}: expected 1..{len(image) - 1} for {len(image)} pairs")
    sides = {
        name: _Neighbourhoods.of(features, drawn, neighbours, on_progress, name)
        for name, features in (("text", text), ("image", image))
    }
    layouts = {}
    for name, side in sides.items():
        on_progress(note(f"laying out the {name} graph of {len(drawn):,} pairs"))
        layout = umap_layout(side.features, *side.near, seed=seed, start=layouts.get("text"))
        layouts[name] = scaled_layout(turned_onto(layout, layouts["text"]) if name == "image" else layout)
    graphs = {
        name: FeatureGraph(
            neighbours=side.nodes,
            similarities=side.cosines,
            layout=layouts[name],
            quality=layout_quality(side.features, layouts[name], seed=seed),
        )
        for name, side in sides.items()
    }
    return PairGraphs(**graphs, rows=drawn, seed=seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Neighbourhoods:
    """One side before its layout."""

    features: np.ndarray
    """Of the drawn pairs."""
    nodes: np.ndarray
    cosines: np.ndarray
    near: tuple[np.ndarray, np.ndarray]
    """Neighbours among the drawn pairs, as many as the layout needs, and their cosines."""

    @staticmethod
    def of(
        features: np.ndarray,
        drawn: np.ndarray,
        neighbours: int,
        on_progress: OnProgress,
        name: str,
    ) -> _Neighbourhoods:
        wanted = min(LAYOUT_NEIGHBOURS, len(drawn)) - 1
        task = f"neighbours by {name}"
        if len(drawn) == len(features):
            near = nearest_neighbours(features, max(neighbours, wanted), on_progress=on_progress, task=task)
            nodes, cosines = (part[:, :neighbours] for part in near)
        else:
            nodes, cosines = nearest_neighbours(features, neighbours, rows=drawn, on_progress=on_progress, task=task)
            near = nearest_neighbours(
                features[drawn], wanted, on_progress=on_progress, task=f"{task} among the drawn pairs"
            )
        return _Neighbourhoods(features=features[drawn], nodes=nodes, cosines=cosines, near=near)
