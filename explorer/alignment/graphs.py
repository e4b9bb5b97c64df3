"""The two graphs of supervised graph alignment (Ding et al., CCS 2024, section 4.1), ready to be drawn.

A pair is a node of both: of the image graph at its image feature, of the text graph at its text feature.
Each graph joins a node to its k most similar nodes. The image layout starts from the text layout and is
turned onto it, so that a pair whose picture does not show what its caption says is seen to move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import networkx
    import torch

LAYOUT_NEIGHBOURS = 15
"""Neighbourhood of the layout (UMAP's default): wider than the drawn edges, so that clusters hold."""
SMALLEST_GRAPH = 5
"""UMAP needs more nodes than the two dimensions it lays out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureGraph:
    """One side: a k-nearest-neighbour graph on unit features and its layout."""

    graph: networkx.Graph
    """Nodes 0..n-1; an edge where one end is among the other's k nearest, ``weight`` its cosine."""
    neighbours: np.ndarray
    """int `[n, k]` nearest other nodes, the most similar first."""
    layout: np.ndarray
    """fp32 `[n, 2]`, centred, the largest absolute coordinate 1."""

    def edge_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges int `[E, 2]`, smaller end first and sorted, and their weights fp32 `[E]`."""
        edges = sorted((min(a, b), max(a, b), weight) for a, b, weight in self.graph.edges(data="weight"))
        ends = np.array([edge[:2] for edge in edges], dtype=np.int64).reshape(-1, 2)
        return ends, np.array([edge[2] for edge in edges], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class NeighbourComparison:
    """A pair's neighbours on the two sides; each list is in order of similarity."""

    both: list[int]
    """Neighbours on both sides."""
    image_only: list[int]
    """Neighbours by picture whose captions are not near."""
    text_only: list[int]
    """Neighbours by caption whose pictures are not near."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairGraphs:
    """Image graph and text graph of the same n pairs."""

    image: FeatureGraph
    text: FeatureGraph
    seed: int
    """Seed of both layouts."""

    def __len__(self) -> int:
        return len(self.text.layout)


def build_graphs(
    image: torch.Tensor | np.ndarray,
    text: torch.Tensor | np.ndarray,
    *,
    neighbours: int = 8,
    seed: int = 0,
) -> PairGraphs:
    """Graphs and aligned layouts of n pairs. The same input and seed give the same arrays.

    Args:
        image: `[n, d]` L2-normalised image features; row i is paired with row i of ``text``.
        text: `[n, d]` L2-normalised text features.
        neighbours: k of the drawn graph.
        seed: of both UMAP layouts.

    Raises:
        ValueError: on row counts that differ, or unless 5 <= n and 1 <= k < n.
    """
    image, text = np.asarray(image, dtype=np.float32), np.asarray(text, dtype=np.float32)
    if image.ndim != 2 or text.ndim != 2 or len(image) != len(text) or len(image) < SMALLEST_GRAPH:
        raise ValueError(
            f"got features of shape {list(image.shape)} and {list(text.shape)}: expected [n, d] twice, "
            f"n >= {SMALLEST_GRAPH}"
        )
    if not 1 <= neighbours < len(image):
        raise ValueError(f"neighbours is {neighbours}: expected 1..{len(image) - 1} for {len(image)} pairs")
    text_layout = scaled_layout(umap_layout(text, seed=seed))
    image_layout = scaled_layout(turned_onto(umap_layout(image, seed=seed, start=text_layout), text_layout))
    return PairGraphs(
        image=_feature_graph(image, image_layout, neighbours),
        text=_feature_graph(text, text_layout, neighbours),
        seed=seed,
    )


def nearest_neighbours(features: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest other rows, int `[n, k]`, and their cosines, fp32 `[n, k]`, most similar first."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=neighbours, metric="cosine", algorithm="brute").fit(features)
    # Without an argument a row is never its own neighbour, also where other rows equal it.
    distances, nodes = search.kneighbors()
    return nodes, (1 - distances).astype(np.float32)


def neighbour_graph(nodes: np.ndarray, cosines: np.ndarray) -> networkx.Graph:
    """Undirected graph with an edge from each row to each of its neighbours, ``weight`` the cosine."""
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(len(nodes)))
    for row, (ends, weights) in enumerate(zip(nodes.tolist(), cosines.tolist(), strict=True)):
        graph.add_weighted_edges_from((row, end, weight) for end, weight in zip(ends, weights, strict=True))
    return graph


def umap_layout(features: np.ndarray, *, seed: int, start: np.ndarray | None = None) -> np.ndarray:
    """UMAP layout fp32 `[n, 2]` by cosine, from ``start`` `[n, 2]` where given (McInnes et al., 2018)."""
    from umap import UMAP

    model = UMAP(
        n_neighbors=min(LAYOUT_NEIGHBOURS, len(features) - 1),
        metric="cosine",
        init="pca" if start is None else start.astype(np.float32),
        random_state=seed,
        n_jobs=1,
    )
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


def disagreeing_neighbours(graphs: PairGraphs, row: int) -> NeighbourComparison:
    """Which neighbours of pair ``row`` its picture and its caption share, and which only one of them has."""
    if not 0 <= row < len(graphs):
        raise ValueError(f"row is {row}: expected 0..{len(graphs) - 1}")
    by_image, by_text = graphs.image.neighbours[row].tolist(), graphs.text.neighbours[row].tolist()
    return NeighbourComparison(
        both=[node for node in by_image if node in by_text],
        image_only=[node for node in by_image if node not in by_text],
        text_only=[node for node in by_text if node not in by_image],
    )


def biggest_movers(structure_distance: torch.Tensor | np.ndarray, count: int) -> np.ndarray:
    """Rows of the ``count`` largest D_s `[n]`, largest first; equal values in row order."""
    distances = np.asarray(structure_distance)
    if not 0 <= count <= len(distances):
        raise ValueError(f"count is {count}: expected 0..{len(distances)}")
    return np.argsort(-distances, kind="stable")[:count]


def _feature_graph(features: np.ndarray, layout: np.ndarray, neighbours: int) -> FeatureGraph:
    nodes, cosines = nearest_neighbours(features, neighbours)
    return FeatureGraph(graph=neighbour_graph(nodes, cosines), neighbours=nodes, layout=layout)
