"""The writer of graphs.json, alignment.json and thumbnails.png, on a small set of random features."""

import json

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from explorer.alignment.description import (
    ALPHA_STOPS,
    BINS,
    SHARES,
    describe_distribution,
    describe_measurement,
    significant,
)
from explorer.alignment.pair_sets import measure
from explorer.alignment.payloads import (
    THUMBNAIL_SIZE,
    PairLosses,
    main_concepts,
    stratified_sample,
    thumbnail_sheet,
    write_alignment_artefacts,
)
from explorer.alignment.scores import descending_ranks
from explorer.embeddings import features
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFlags

PAIRS, CONCEPTS, WIDTH = 60, ["cat", "dog", "hat", "tree"], 12


def recorded(poisoned):
    """Flags that are known of every pair."""
    return PoisonFlags(poisoned=poisoned, benign=~poisoned)


class Extractor:
    name = "random"
    identity = "random"
    feature_range = (-0.4, 0.6)
    picture_size = None


def make_table(poisoned):
    named = [CONCEPTS[row % len(CONCEPTS)] for row in range(PAIRS)]
    is_poison = np.arange(PAIRS) < poisoned
    return pandas.DataFrame(
        {
            "uid": [f"p{row:03d}" for row in range(PAIRS)],
            "caption": [f"a photo of a {name} <b>&amp;</b>" for name in named],
            "concepts": [[name, "shop"] for name in named],
            "image_index": np.arange(PAIRS),
            "is_poison": is_poison,
            "poisoned_concept": np.where(is_poison, named, ""),
            "target_concept": np.where(is_poison, "moon", ""),
            "split": ["train"] * (PAIRS - 4) + ["test"] * 4,
        }
    )


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    images = np.random.default_rng(0).integers(0, 255, (PAIRS, 16, 16, 3), dtype=np.uint8)
    return {
        name: PairSet.write(folder / name, make_table(poisoned), images, config={}, seed=0)
        for name, poisoned in (("poisoned", 10), ("benign", 0))
    }


@pytest.fixture(autouse=True)
def random_features(monkeypatch):
    def pair_features(pair_set, extractor, on_progress=None):
        generator = torch.Generator().manual_seed(3)
        drawn = torch.randn(2, len(pair_set), WIDTH, generator=generator)
        return tuple(torch.nn.functional.normalize(drawn, dim=-1))

    monkeypatch.setattr(features, "pair_features", pair_features)


def caption_lengths(images, captions):
    return np.array([len(caption) + float(image.shape[0]) for image, caption in zip(images, captions, strict=True)])


@pytest.fixture
def written(sets, tmp_path, monkeypatch):
    from explorer.alignment import graphs

    # UMAP compiles for half a minute; its layout is tested with the graphs.
    monkeypatch.setattr(graphs, "umap_layout", lambda rows, *, seed, start=None: np.asarray(rows[:, :2]))
    names = write_alignment_artefacts(tmp_path, sets, Extractor(), sample_size=24, neighbours=4, seed=5,
                                      losses=PairLosses(model="control", measure=caption_lengths))  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    load = lambda name: json.loads((tmp_path / name).read_text())  # noqa: E731
    return load("graphs.json"), load("alignment.json"), Image.open(tmp_path / "thumbnails.png")


def test_graphs_draw_the_most_poisoned_set_with_scores_of_the_whole_set(written, sets):
    graphs, _, sheet = written
    samples = graphs["samples"]
    measured = measure(sets["poisoned"], Extractor())
    row_of = {uid: row for row, uid in enumerate(sets["poisoned"].table["uid"])}
    assert graphs["set"]["name"] == "poisoned"
    assert graphs["set"]["pairs"] == PAIRS - 4, "the test split is not measured"
    assert len(samples["uid"]) == 24
    for at, uid in enumerate(samples["uid"]):
        row = row_of[uid]
        for score in ("feature_distance", "structure_distance", "sample_ad"):
            value = getattr(measured.difficulty, score)[row].item()
            assert samples[score][at] == pytest.approx(value, rel=1e-4, abs=1e-9)
            higher = int((getattr(measured.difficulty, score) > getattr(measured.difficulty, score)[row]).sum())
            assert samples[f"{score}_rank"][at] == higher + 1
    assert sheet.width % THUMBNAIL_SIZE == 0
    assert samples["loss"] == [len(caption) + 16 for caption in samples["caption"]]
    assert graphs["loss_model"] == "control"


def test_movers_are_by_structure_distance_and_neighbours_by_cosine(written, sets):
    graphs, _, _ = written
    distances = graphs["samples"]["structure_distance"]
    assert [distances[row] for row in graphs["movers"]] == sorted(distances, reverse=True)
    image, text = features.pair_features(sets["poisoned"], Extractor())
    rows = [int(uid[1:]) for uid in graphs["samples"]["uid"]]
    for side, rows_of_side in (("image", image), ("text", text)):
        cosines = (rows_of_side[rows] @ rows_of_side[rows].T).fill_diagonal_(-2)
        for row, near in enumerate(graphs[side]["neighbours"]):
            assert near == cosines[row].topk(4).indices.tolist()
            assert graphs[side]["similarities"][row] == pytest.approx(cosines[row, near].tolist(), abs=6e-4)


def test_every_set_is_described_benign_first(written):
    _, alignment, _ = written
    assert [entry["poisoned_concept_count"] for entry in alignment["sets"]] == [0, 4]
    benign, poisoned = alignment["sets"]
    assert "poisoned" not in benign["distributions"]["structure_distance"]["groups"]
    assert benign["distributions"]["sample_ad"][0]["auc"] is None
    assert poisoned["distributions"]["sample_ad"][0]["auc"] is not None
    assert poisoned["poisoned_pairs"] == 10


def test_ad_and_its_error_recompose_exactly_at_any_alpha(sets):
    measured = measure(sets["poisoned"], Extractor())
    entry = describe_measurement("poisoned", sets["poisoned"], measured)
    parts, moments = entry["alignment_difficulty"], entry["moments"]
    for alpha in (0.0, 0.35, 0.8, 1.0):
        expected = measured.difficulty.with_alpha(alpha)
        beta = 1 - alpha
        variance = (
            alpha**2 * moments["feature_variance"]
            + 4 * beta**2 * moments["structure_variance"]
            + 4 * alpha * beta * moments["covariance"]
        )
        assert alpha * parts["feature_ad"] + beta * parts["structure_ad"] == pytest.approx(expected.ad, rel=1e-8)
        assert (variance / parts["n"]) ** 0.5 == pytest.approx(expected.ad_standard_error, rel=1e-8)


def test_distribution_of_sample_ad_is_exact_at_every_stop(sets):
    measured = measure(sets["poisoned"], Extractor())
    entry = describe_measurement("poisoned", sets["poisoned"], measured)
    assert len(entry["distributions"]["sample_ad"]) == len(ALPHA_STOPS)
    for alpha, stored in zip(ALPHA_STOPS, entry["distributions"]["sample_ad"], strict=True):
        scores = measured.difficulty.with_alpha(alpha).sample_ad.numpy()
        expected = describe_distribution(scores, measured.flags)
        assert stored["auc"] == pytest.approx(expected["auc"], abs=1e-5)
        benign = stored["groups"]["benign"]
        assert benign["quantiles"] == pytest.approx(np.quantile(scores[measured.flags.benign], SHARES), rel=1e-4)
        low, high = stored["range"]
        assert sum(benign["density"]) * (high - low) / BINS == pytest.approx(1, rel=1e-2)


def test_auc_of_a_distribution_counts_ties_half():
    described = describe_distribution(np.array([1.0, 2.0, 2.0, 3.0]), recorded(np.array([0, 0, 1, 1], bool)))
    assert described["auc"] == pytest.approx((2 + 1.5) / 4)


def test_sample_shows_both_kinds_and_is_reproducible():
    table = make_table(10)
    rows = stratified_sample(table, 20, seed=1)
    assert rows.tolist() == stratified_sample(table, 20, seed=1).tolist()
    assert rows.tolist() != stratified_sample(table, 20, seed=2).tolist()
    assert len(set(rows.tolist())) == 20
    assert table["is_poison"].iloc[rows].sum() == 8, "40 % at least, although one pair in six is poisoned"
    assert set(main_concepts(table.iloc[rows])) == set(CONCEPTS)


@pytest.mark.parametrize(("poisoned", "size", "expected"), [(0, 20, 0), (2, 20, 2), (PAIRS, 20, 20), (10, 999, 10)])
def test_sample_takes_what_is_there(poisoned, size, expected):
    table = make_table(poisoned)
    rows = stratified_sample(table, size, seed=0)
    assert len(rows) == min(size, PAIRS)
    assert table["is_poison"].iloc[rows].sum() == expected


def test_sample_of_nothing_is_refused():
    with pytest.raises(ValueError, match="sample size is 0: expected at least 1"):
        stratified_sample(make_table(0), 0, seed=0)


@pytest.mark.parametrize(
    ("known", "counts", "words"),
    [
        (0, (None, None, 60), "which of them are poison, nobody recorded"),
        (20, (10, 10, 40), "10 of 10 known to be poisoned, "),
    ],
)
def test_what_nobody_recorded_is_null_in_the_graphs(tmp_path, known, counts, words):
    table = make_table(10)
    for name in ("is_poison", "poisoned_concept", "target_concept"):
        table[name] = table[name].astype(object).where(np.arange(PAIRS) < known, None)
    images = np.zeros((PAIRS, 16, 16, 3), np.uint8)
    pair_set = PairSet.write(tmp_path / "set", table, images, config={}, seed=0)
    write_alignment_artefacts(tmp_path, {"set": pair_set}, Extractor(), sample_size=PAIRS, neighbours=3, split=None)
    graphs = json.loads((tmp_path / "graphs.json").read_text())
    stored = graphs["set"]
    assert (stored["poisoned_pairs"], stored["benign_pairs"], stored["unrecorded_pairs"]) == counts
    assert (stored["poisoned_concept_count"], stored["poison_recorded"]) == (None, False)
    assert graphs["samples"]["is_poison"] == [*(int(row < 10) for row in range(known)), *[None] * (PAIRS - known)]
    assert graphs["samples"]["target_concept"][known:] == [None] * (PAIRS - known)
    assert words in graphs["sampling"]["method"]
    entry = json.loads((tmp_path / "alignment.json").read_text())["sets"][0]
    assert (entry["distributions"]["feature_distance"]["auc"] is None) == (known == 0)


def test_no_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got no pair set"):
        write_alignment_artefacts(tmp_path, {}, Extractor())


def test_ranks_count_from_the_highest_and_share_ties():
    ranks = descending_ranks(np.array([0.1, 0.9, 0.5, 0.9]))
    assert (ranks["rank"].tolist(), ranks["rank_last"].tolist()) == ([4, 1, 3, 1], [4, 2, 3, 2])


def test_thumbnails_stand_row_by_row():
    colours = np.array([[255, 0, 0], [0, 0, 255]] * 25, np.uint8)
    sheet = thumbnail_sheet(np.broadcast_to(colours[:, None, None], (50, 8, 8, 3)).copy()).convert("RGB")
    assert sheet.size == (40 * THUMBNAIL_SIZE, 2 * THUMBNAIL_SIZE)
    assert sheet.getpixel((10, 10)) == (255, 0, 0)
    assert sheet.getpixel((THUMBNAIL_SIZE + 10, 10)) == (0, 0, 255)
    assert sheet.getpixel((10, THUMBNAIL_SIZE + 10)) == (255, 0, 0), "the 41st picture begins the second line"


def test_numbers_are_rounded_to_significant_digits():
    assert significant({"a": [0.000123456789, 12345.678], "n": 7, "none": None}) == {
        "a": [0.00012346, 12346.0],
        "n": 7,
        "none": None,
    }
