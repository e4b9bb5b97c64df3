"""Neighbour graphs against brute force; aligned layouts on three clusters with a few mislabelled pairs."""

import numpy as np
import pytest

from explorer.alignment import graphs

CLUSTERS, SIZE = 3, 20
POISON = [0, 25]


def clustered_pairs(seed=0):
    """Pairs of three clear clusters; the pictures of ``POISON`` come from the next cluster."""
    random = np.random.default_rng(seed)
    centres = np.eye(8)[:CLUSTERS] * 4
    cluster = np.repeat(np.arange(CLUSTERS), SIZE)
    shown = cluster.copy()
    shown[POISON] = (cluster[POISON] + 1) % CLUSTERS
    sides = [centres[index] + random.normal(0, 0.3, (len(index), 8)) for index in (shown, cluster)]
    return [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides], cluster, shown


@pytest.fixture(scope="module")
def built():
    (image, text), _, _ = clustered_pairs()
    return graphs.build_graphs(image, text, neighbours=5, seed=3)


def test_neighbours_match_sorting_all_cosines():
    (image, _), _, _ = clustered_pairs()
    nodes, cosines = graphs.nearest_neighbours(image, 4)
    similarity = image @ image.T
    np.fill_diagonal(similarity, -2)
    assert nodes.tolist() == np.argsort(-similarity, axis=1)[:, :4].tolist()
    np.testing.assert_allclose(cosines, np.sort(similarity, axis=1)[:, :-5:-1], atol=1e-6)


def test_no_row_is_its_own_neighbour_among_equal_rows():
    nodes, cosines = graphs.nearest_neighbours(np.tile([[1.0, 0.0]], (12, 1)), 3)
    assert not (nodes == np.arange(12)[:, None]).any()
    np.testing.assert_allclose(cosines, 1)


def test_graph_has_an_edge_to_every_neighbour_with_its_cosine():
    nodes, cosines = np.array([[1], [0], [1]]), np.array([[0.9], [0.9], [0.25]])
    graph = graphs.neighbour_graph(nodes, cosines)
    assert sorted(graph.edges) == [(0, 1), (1, 2)]
    assert graph.edges[1, 2]["weight"] == 0.25
    side = graphs.FeatureGraph(graph=graph, neighbours=nodes, layout=np.zeros((3, 2)))
    ends, weights = side.edge_arrays()
    assert ends.tolist() == [[0, 1], [1, 2]]
    assert weights.tolist() == pytest.approx([0.9, 0.25])


def test_turning_undoes_a_rotation_and_a_mirror():
    reference = np.random.default_rng(0).normal(size=(30, 2))
    reference -= reference.mean(axis=0)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1, -1])
    np.testing.assert_allclose(graphs.turned_onto(reference @ turn + 5, reference), reference, atol=1e-12)


def test_scaled_layout_fills_the_square_and_keeps_its_shape():
    layout = np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 3.0]])
    scaled = graphs.scaled_layout(layout)
    assert np.abs(scaled).max() == 1
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-7)
    assert not np.isnan(graphs.scaled_layout(np.ones((4, 2)))).any()


def test_layouts_put_clusters_in_the_same_place_and_move_the_poison(built):
    _, cluster, shown = clustered_pairs()
    for side in (built.image, built.text):
        assert side.layout.shape == (CLUSTERS * SIZE, 2)
        assert np.abs(side.layout).max() == pytest.approx(1)
    benign = np.setdiff1d(np.arange(CLUSTERS * SIZE), POISON)
    centres = np.stack([built.text.layout[benign][cluster[benign] == c].mean(axis=0) for c in range(CLUSTERS)])
    seen_at = np.linalg.norm(built.image.layout[:, None] - centres, axis=2).argmin(axis=1)
    assert (seen_at == shown).mean() > 0.9, "aligned: a picture lies where its concept's captions lie"
    assert (seen_at[POISON] == shown[POISON]).all()


def test_the_same_seed_gives_the_same_arrays(built):
    (image, text), _, _ = clustered_pairs()
    again = graphs.build_graphs(image, text, neighbours=5, seed=3)
    for first, second in ((built.image, again.image), (built.text, again.text)):
        np.testing.assert_array_equal(first.layout, second.layout)
        np.testing.assert_array_equal(first.edge_arrays()[0], second.edge_arrays()[0])
    assert built.seed == 3


def test_poison_shares_no_neighbours_and_benign_pairs_share_their_cluster(built):
    comparison = graphs.disagreeing_neighbours(built, POISON[0])
    assert comparison.both == []
    assert len(comparison.image_only) == len(comparison.text_only) == 5
    assert comparison.text_only == built.text.neighbours[POISON[0]].tolist()


def test_biggest_movers_are_the_largest_distances_in_order():
    assert graphs.biggest_movers(np.array([0.1, 0.5, 0.5, 0.9]), 3).tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: graphs.build_graphs(np.ones((4, 2)), np.ones((4, 2))), "n >= 5"),
        (lambda: graphs.build_graphs(np.ones((6, 2)), np.ones((7, 2))), r"shape \[6, 2\] and \[7, 2\]"),
        (lambda: graphs.build_graphs(np.ones((6, 2)), np.ones((6, 2)), neighbours=6), r"expected 1\.\.5"),
        (lambda: graphs.biggest_movers(np.ones(3), 4), r"count is 4: expected 0\.\.3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_row_outside_is_named(built):
    with pytest.raises(ValueError, match=r"row is 60: expected 0\.\.59"):
        graphs.disagreeing_neighbours(built, 60)
