"""Aligned layouts and graphs on three clusters with a few mislabelled pairs; neighbours against brute force."""

import numpy as np
import pytest

from explorer.alignment import graphs
from explorer.alignment.layouts import layout_quality, scaled_layout, turned_onto
from explorer.alignment.neighbours import nearest_neighbours

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


def nearest_by_sorting(features, neighbours):
    similarity = features @ features.T
    np.fill_diagonal(similarity, -2)
    return np.argsort(-similarity, axis=1)[:, :neighbours], np.sort(similarity, axis=1)[:, ::-1][:, :neighbours]


@pytest.mark.parametrize("block", [1, 1000])
def test_neighbours_match_sorting_all_cosines(block, monkeypatch):
    monkeypatch.setattr("explorer.alignment.neighbours.BLOCK_ENTRIES", block)
    (image, _), _, _ = clustered_pairs()
    nodes, cosines = nearest_neighbours(image, 4)
    expected, sorted_cosines = nearest_by_sorting(image, 4)
    assert nodes.tolist() == expected.tolist()
    np.testing.assert_allclose(cosines, sorted_cosines, atol=1e-6)
    rows = np.array([3, 41])
    assert nearest_neighbours(image, 4, rows=rows)[0].tolist() == expected[rows].tolist()


def test_no_row_is_its_own_neighbour_among_equal_rows():
    nodes, cosines = nearest_neighbours(np.tile([[1.0, 0.0]], (12, 1)), 3)
    assert not (nodes == np.arange(12)[:, None]).any()
    np.testing.assert_allclose(cosines, 1)


def test_turning_undoes_a_rotation_and_a_mirror():
    reference = np.random.default_rng(0).normal(size=(30, 2))
    reference -= reference.mean(axis=0)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1, -1])
    np.testing.assert_allclose(turned_onto(reference @ turn + 5, reference), reference, atol=1e-12)


def test_scaled_layout_fills_the_square_and_keeps_its_shape():
    layout = np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 3.0]])
    scaled = scaled_layout(layout)
    assert np.abs(scaled).max() == 1
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-7)
    assert not np.isnan(scaled_layout(np.ones((4, 2)))).any()


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
        np.testing.assert_array_equal(first.neighbours, second.neighbours)
    assert built.seed == 3


def test_neighbours_of_a_sample_are_those_of_the_whole_set():
    (image, text), _, _ = clustered_pairs()
    rows = np.arange(0, CLUSTERS * SIZE, 3)
    sample = graphs.build_graphs(image, text, rows=rows, neighbours=5)
    assert sample.image.neighbours.tolist() == nearest_by_sorting(image, 5)[0][rows].tolist()
    assert len(sample) == len(sample.text.layout) == len(rows)


def test_quality_of_a_layout_is_that_of_its_definition(monkeypatch):
    sklearn = pytest.importorskip("sklearn.manifold")
    monkeypatch.setattr("explorer.alignment.layouts.ANCHOR_BLOCK", 7)
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    layout = features[:, :2] + random.normal(0, 0.2, (60, 2))
    quality = layout_quality(features, layout)
    expected = sklearn.trustworthiness(features, layout, n_neighbors=15, metric="cosine")
    assert quality.trustworthiness == pytest.approx(expected, abs=1e-6)
    similar, _ = nearest_by_sorting(features, 15)
    apart = np.linalg.norm(layout[:, None] - layout, axis=2)
    np.fill_diagonal(apart, np.inf)
    near = np.argsort(apart, axis=1)[:, :15]
    kept = np.mean([len(set(similar[row]) & set(near[row])) / 15 for row in range(60)])
    assert (quality.preservation, quality.neighbours, quality.anchors) == (pytest.approx(kept), 15, 60)


def test_a_layout_keeps_what_its_features_cannot_tell_apart():
    features = np.tile([[1.0, 0.0]], (40, 1))
    quality = layout_quality(features, np.random.default_rng(0).normal(size=(40, 2)))
    assert (quality.trustworthiness, quality.preservation) == (1, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: graphs.build_graphs(np.ones((4, 2)), np.ones((4, 2))), "at least 5 drawn"),
        (lambda: graphs.build_graphs(np.ones((6, 2)), np.ones((6, 2)), rows=np.arange(3)), "of which 3 pairs"),
        (lambda: graphs.build_graphs(np.ones((6, 2)), np.ones((7, 2))), r"shape \[6, 2\] and \[7, 2\]"),
        (lambda: graphs.build_graphs(np.ones((6, 2)), np.ones((6, 2)), neighbours=6), r"expected 1\.\.5"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
