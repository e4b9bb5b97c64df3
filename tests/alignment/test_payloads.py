"""What describes a set's AD and draws its graphs, on small sets of random features."""

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
from explorer.alignment.graph_columns import Columns
from explorer.alignment.graph_files import THUMBNAIL_SIZE, thumbnail_sheet, write_graphs
from explorer.alignment.graph_sample import (
    describe_sample,
    movers_and_sample,
    movers_drawn,
    shown_concepts,
    stratified_sample,
)
from explorer.alignment.pair_sets import SCORES, measure
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
def fast_layout(monkeypatch):
    # UMAP compiles for half a minute; its layout is tested with the graphs.
    monkeypatch.setattr("explorer.alignment.graphs.umap_layout", lambda rows, *_, **__: np.array(rows[:, :2]))


def read_graphs(folder):
    header = json.loads((folder / "graphs.json").read_text())
    return header, Columns(folder / "columns.bin", header["columns"])


def write_measured(folder, pair_set, measured, *, losses=False):
    """The graphs of a set's measured pairs, with their captions' lengths for losses."""
    scores = {name: measured.scores(name) for name in SCORES}
    if losses:
        captions = pair_set.table["caption"].tolist()
        scores["loss"] = caption_lengths(pair_set.read_images(measured.rows), captions[: len(measured.rows)])
    image, text = (part[measured.rows] for part in features.pair_features(pair_set, Extractor()))
    return write_graphs(
        folder, name=folder.name, table=pair_set.table.iloc[measured.rows], image=image, text=text, scores=scores,
        facts={"loss_model": "control"}, read_images=lambda rows: pair_set.read_images(measured.rows[rows]),
        arm_rows=measured.rows + 7, neighbours=4, seed=5,
    )  # fmt: skip


@pytest.fixture
def written(sets, tmp_path, fast_layout):
    folder = tmp_path / "poisoned"
    names = write_measured(folder, sets["poisoned"], measure(sets["poisoned"], Extractor()), losses=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    return *read_graphs(folder), Image.open(folder / "thumbnails.png")


def test_graphs_draw_every_pair_of_the_most_poisoned_set(written, sets):
    header, columns, sheet = written
    measured = measure(sets["poisoned"], Extractor())
    assert header["set"]["name"] == "poisoned"
    assert header["set"]["pairs"] == PAIRS - 4, "the test split is not measured"
    assert columns.texts("uid") == sets["poisoned"].table["uid"].tolist()[: PAIRS - 4]
    assert columns["row"].tolist() == (measured.rows + 7).tolist()
    assert "<b>&amp;</b>" in columns.texts("caption")[0]
    for score in ("feature_distance", "structure_distance", "sample_ad"):
        values = getattr(measured.difficulty, score).numpy()
        np.testing.assert_allclose(columns[score], values, rtol=1e-6)
        ranks = descending_ranks(values)
        for end in ("rank", "rank_last"):
            assert columns[f"{score}_{end}"].tolist() == ranks[end].tolist()
    assert columns["loss"].tolist() == [len(caption) + 16 for caption in columns.texts("caption")]
    assert header["facts"]["loss_model"] == "control"
    assert columns["kind"].tolist() == [1] * 10 + [0] * (PAIRS - 14)
    concepts = header["concepts"]
    assert [concepts[number] for number in columns["main_concept"][:4]] == CONCEPTS
    assert concepts[columns["target_concept"][0]] == "moon"
    assert columns["target_concept"][-1] == -1
    assert columns["concepts_ends"].tolist() == [2 * (row + 1) for row in range(PAIRS - 4)]
    assert sheet.width % THUMBNAIL_SIZE == 0
    assert columns["thumbnail"].tolist() == list(range(PAIRS - 4)), "few enough for each to have one"


def test_neighbours_are_those_of_the_whole_set_also_in_a_sample(sets, tmp_path, fast_layout):
    image, text = features.pair_features(sets["poisoned"], Extractor())
    scores = {"structure_distance": np.arange(PAIRS, dtype=float)}
    write_graphs(tmp_path, name="s", table=sets["poisoned"].table, image=image, text=text, scores=scores,
                 arm_rows=np.arange(PAIRS) * 3, most_drawn=24, neighbours=4, seed=1)  # fmt: skip
    header, columns = read_graphs(tmp_path)
    told = header["sampling"]["method"]
    assert told.startswith("24 of 60 pairs are drawn: 9 of 10 poisoned and 15 of 50 benign ones")
    assert header["sampling"]["movers"] >= 2
    assert f"whatever their kind and concept, are the {header['sampling']['movers']} with the largest D_s." in told
    assert header["thumbnails"] is None
    drawn = [int(uid[1:]) for uid in columns.texts("uid")]
    assert {59, 58} <= set(drawn), "a tenth of the drawn pairs at most are there for being the biggest movers"
    assert columns["row"].tolist() == [3 * row for row in drawn]
    assert columns["structure_distance_rank"].tolist() == [PAIRS - row for row in drawn]
    for side, rows_of_side in (("image", image), ("text", text)):
        cosines = (rows_of_side @ rows_of_side.T).fill_diagonal_(-2)
        for own, near in zip(drawn, columns[f"{side}_neighbours"].tolist(), strict=True):
            rows = [drawn[other] if other >= 0 else -1 - other for other in near]
            assert rows == cosines[own].topk(4).indices.tolist()
            assert all((other >= 0) == (row in drawn) for other, row in zip(near, rows, strict=True))


def test_what_is_not_there_is_null_and_what_was_not_measured_has_no_rank(tmp_path, fast_layout):
    unit = np.eye(6, dtype=np.float32)
    table = pandas.DataFrame({"uid": list("abcdef"), "caption": ["x", None, "é", "", "y", "z"]})
    loss = np.array([1.0, np.nan, 3.0, np.nan, 2.0, 0.0])
    write_graphs(tmp_path, name="bare", table=table, image=unit, text=unit, neighbours=2,
                 scores={"structure_distance": np.zeros(6), "loss": loss})  # fmt: skip
    header, columns = read_graphs(tmp_path)
    assert columns.texts("caption") == ["x", "", "é", "", "y", "z"]
    assert columns["kind"].tolist() == [2] * 6
    assert (header["set"]["poisoned_pairs"], header["set"]["poisoned_concept_count"]) == (None, None)
    assert columns["main_concept"].tolist() == [-1] * 6
    assert columns["loss_rank"].tolist() == [3, 0, 1, 0, 2, 4]
    assert np.isnan(columns["loss"][1])
    assert header["layout"]["text"]["anchors"] == 6


def test_features_or_scores_of_other_pairs_are_refused(tmp_path):
    table = pandas.DataFrame({"uid": list("abcdef")})
    unit = np.eye(6, dtype=np.float32)
    with pytest.raises(ValueError, match="5 text features, 4 scores loss for 6 pairs"):
        write_graphs(tmp_path, name="s", table=table, image=unit, text=unit[:5],
                     scores={"structure_distance": np.zeros(6), "loss": np.zeros(4)})  # fmt: skip
    with pytest.raises(ValueError, match="got scores loss: expected structure_distance among them"):
        write_graphs(tmp_path, name="s", table=table, image=unit, text=unit, scores={"loss": np.zeros(6)})
    assert list(tmp_path.iterdir()) == []


def test_a_benign_set_has_no_poison_to_tell_from(sets):
    benign, poisoned = (describe_measurement(name, sets[name], measure(sets[name], Extractor()))
                        for name in ("benign", "poisoned"))  # fmt: skip
    assert (benign["poisoned_concept_count"], poisoned["poisoned_concept_count"]) == (0, 4)
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
    assert set(shown_concepts(table.iloc[rows])) == set(CONCEPTS)


@pytest.mark.parametrize(("poisoned", "size", "expected"), [(0, 20, 0), (2, 20, 2), (PAIRS, 20, 20), (10, 999, 10)])
def test_sample_takes_what_is_there(poisoned, size, expected):
    table = make_table(poisoned)
    rows = stratified_sample(table, size, seed=0)
    assert len(rows) == min(size, PAIRS)
    assert table["is_poison"].iloc[rows].sum() == expected


def test_the_biggest_movers_are_always_drawn_and_the_others_are_a_sample():
    table, moved = make_table(10), np.zeros(PAIRS)
    moved[[40, 50, 7]] = np.nan, 0.5, 0.2
    for seed in range(5):
        rows = movers_and_sample(table, moved, 20, seed)
        assert len(set(rows.tolist())) == 20
        assert {50, 7} <= set(rows.tolist())
        others = np.setdiff1d(np.arange(PAIRS), [50, 7])
        sample = others[stratified_sample(table.iloc[others], 18, seed)]
        assert rows.tolist() == sorted([7, 50, *sample.tolist()]), "as if the movers were not there"
    assert movers_drawn(moved, np.array([0, 1, 7, 50])) == 4, "of equal ones the first are the bigger movers"
    assert movers_drawn(moved, np.array([0, 1, 7])) == 0, "the first is not there"
    assert movers_drawn(moved, np.arange(PAIRS)) == PAIRS - 1, "what was not measured is no mover"


def test_sample_of_nothing_is_refused():
    with pytest.raises(ValueError, match="sample size is 0: expected at least 1"):
        stratified_sample(make_table(0), 0, seed=0)


@pytest.mark.parametrize(
    ("known", "counts", "words"),
    [
        (0, (None, None, 60), "which of them are poison, nobody recorded"),
        (20, (10, 10, 40), "2 of 10 known to be poisoned, "),
    ],
)
def test_what_nobody_recorded_is_null_in_the_graphs(tmp_path, fast_layout, known, counts, words):
    table = make_table(10)
    for name in ("is_poison", "poisoned_concept", "target_concept"):
        table[name] = table[name].astype(object).where(np.arange(PAIRS) < known, None)
    images = np.zeros((PAIRS, 16, 16, 3), np.uint8)
    pair_set = PairSet.write(tmp_path / "set", table, images, config={}, seed=0)
    measured = measure(pair_set, Extractor(), split=None)
    write_measured(tmp_path / "graphs", pair_set, measured)
    header, columns = read_graphs(tmp_path / "graphs")
    stored = header["set"]
    assert (stored["poisoned_pairs"], stored["benign_pairs"], stored["unrecorded_pairs"]) == counts
    assert (stored["poisoned_concept_count"], stored["poison_recorded"]) == (None, False)
    assert columns["kind"].tolist() == [*(int(row < 10) for row in range(known)), *[2] * (PAIRS - known)]
    assert columns["target_concept"][known:].tolist() == [-1] * (PAIRS - known)
    assert words in describe_sample(PoisonFlags.of(table), np.array([0, 1, 15, 30]))
    entry = describe_measurement("set", pair_set, measured)
    assert (entry["distributions"]["feature_distance"]["auc"] is None) == (known == 0)


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
