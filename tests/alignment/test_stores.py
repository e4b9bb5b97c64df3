"""AD of a store equals AD of its rows; where the feature range comes from; samples."""

import json
import shutil

import fsspec
import numpy as np
import pandas
import pytest
import torch
from pyarrow import parquet

from explorer.alignment import rows_on_disk, score_parts
from explorer.alignment.difficulty import alignment_difficulty
from explorer.alignment.landmarks import read_landmarks
from explorer.alignment.neighbourhoods import LocalRequest, measure_local
from explorer.alignment.stores import measure_store
from explorer.alignment.structure import check, columns
from explorer.alignment.structure.plan import StructureRequest
from explorer.core.provenance import write_manifest
from explorer.core.workers import Workers
from explorer.embeddings import store as store_module
from explorer.embeddings.store import KIND, EmbeddingRows, EmbeddingStore


@pytest.fixture
def folder(tmp_path):
    """40 pairs in two partitions of a foreign store; cosines around 0.7."""
    generator = np.random.default_rng(0)
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / name).mkdir()
    for number, rows in enumerate((25, 15)):
        image = generator.normal(size=(rows, 8))
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", image.astype(np.float16))
        text = image + generator.normal(size=(rows, 8))
        np.save(tmp_path / "text_emb" / f"text_emb_{number}.npy", text.astype(np.float16))
        captions = [f"a {('dog', 'hat', 'ship')[row % 3]}" for row in range(rows)]
        table = pandas.DataFrame({"uid": [f"{number}/{row}" for row in range(rows)], "caption": captions})
        table.to_parquet(tmp_path / "metadata" / f"metadata_{number}.parquet")
    return tmp_path


def unit_rows(folder, part):
    stored = np.concatenate([np.load(path) for path in sorted((folder / f"{part}_emb").iterdir())])
    return torch.nn.functional.normalize(torch.from_numpy(stored).double(), dim=1)


def test_a_store_is_measured_as_its_rows_are(folder):
    measured = measure_store(folder, feature_range=(0.4, 0.9), alpha=0.6, convention="halved")
    expected = alignment_difficulty(
        unit_rows(folder, "img"), unit_rows(folder, "text"), alpha=0.6, feature_range=(0.4, 0.9), convention="halved"
    )
    report = measured.report()
    for key in ("feature_ad", "structure_ad", "ad", "ad_standard_error"):
        assert report[key] == pytest.approx(getattr(expected, key), abs=1e-6)
    assert (report["n"], report["pairs"], report["seed"], report["extractor"]) == (40, 40, None, None)
    assert (report["feature_range"], report["feature_range_from"]) == ([0.4, 0.9], "option")
    assert report["convention"] == "halved"
    local = measure_local(
        unit_rows(folder, "img"), unit_rows(folder, "text"), alpha=0.6, feature_range=(0.4, 0.9), convention="halved"
    )
    for key in ("picture_scatter", "local_feature_ad", "local_structure_ad", "local_ad"):
        assert report[key] == pytest.approx(local.summary()[key], abs=1e-6)
    without = measure_store(folder, feature_range=(0.4, 0.9), local=LocalRequest(neighbours=0)).report()
    assert "picture_scatter" not in without


@pytest.fixture
def far(folder):
    """The same store at an address."""
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), f"/{folder.name}", recursive=True)
    yield f"memory://{folder.name}"
    memory.rm(f"/{folder.name}", recursive=True)


@pytest.mark.parametrize(
    "asked", [{}, {"sample": 12, "seed": 3}, {"request": StructureRequest(estimator="landmarks", samples=32)}]
)
def test_a_store_at_an_address_is_measured_as_on_disk(folder, far, asked):
    near, there = (measure_store(place, feature_range=(0.4, 0.9), **asked) for place in (folder, far))
    assert there.report() == near.report()
    assert there.uids() == near.uids()


def test_a_far_store_that_is_broken_is_named(folder, far):
    memory = fsspec.filesystem("memory")
    place = f"/{folder.name}/img_emb/img_emb_1.npy"
    whole = memory.cat(place)
    for content in (b"", whole[:30], b"\x93NUMPY\x09\x00" + whole[8:]):
        memory.pipe(place, content)
        with pytest.raises(ValueError, match=r"img_emb_1.npy is no readable .npy file"):
            EmbeddingStore.open(far)
    memory.pipe(place, whole[:-16])
    with pytest.raises(ValueError, match=r"img_emb_1.npy ends before its last row"):
        EmbeddingStore.open(far).image.read()


def test_a_sample_is_of_the_rows_its_seed_drew(folder):
    measured = measure_store(folder, feature_range=(0.4, 0.9), sample=12, seed=3)
    assert len(set(measured.rows)) == 12
    rows = measured.rows
    expected = alignment_difficulty(
        unit_rows(folder, "img")[rows], unit_rows(folder, "text")[rows], feature_range=(0.4, 0.9)
    )
    assert measured.difficulty.ad == pytest.approx(expected.ad, abs=1e-6)
    assert measured.report()["seed"] == 3
    again, other = (measure_store(folder, feature_range=(0.4, 0.9), sample=12, seed=seed) for seed in (3, 4))
    assert (again.rows == rows).all()
    assert (other.rows != rows).any()
    with pytest.raises(ValueError, match="sample is 41: expected 1 to 40"):
        measure_store(folder, feature_range=(0.4, 0.9), sample=41)


def test_a_foreign_store_needs_a_range_and_ours_brings_its_own(folder):
    with pytest.raises(ValueError, match="does not say which extractor made it: expected a feature range LO HI"):
        measure_store(folder)
    extractor = {"name": "towers", "feature_range": [0.3, 0.8]}
    write_manifest(folder, kind=KIND, config={"extractor": extractor}, seed=None)
    report = measure_store(folder).report()
    assert (report["feature_range"], report["feature_range_from"]) == ([0.3, 0.8], "extractor")
    assert report["extractor"] == "towers"
    assert measure_store(folder, feature_range=(0.4, 0.9)).feature_range_from == "option"


def test_a_row_of_zeros_is_named(folder):
    path = folder / "img_emb" / "img_emb_1.npy"
    rows = np.load(path)
    rows[2] = 0
    np.save(path, rows)
    with pytest.raises(ValueError, match="image is not L2-normalised in row 27"):
        measure_store(folder, feature_range=(0.4, 0.9))
    size = len(EmbeddingStore.open(folder))
    with pytest.raises(ValueError, match="image is not L2-normalised in row 27 "):
        measure_store(folder, feature_range=(0.4, 0.9), sample=size - 1, seed=drawn_with(27, size))


def drawn_with(row, size):
    """A seed whose sample of all rows but one has ``row`` in another place than its own."""
    for seed in range(100):
        drawn = np.sort(np.random.default_rng(seed).choice(size, size=size - 1, replace=False))
        if row in drawn and drawn[row] != row:
            return seed
    raise AssertionError("no such seed")


RANGE = {"feature_range": (0.4, 0.9)}
REQUESTS = [
    {},
    {"precision": "fp16"},
    {"estimator": "landmarks", "samples": 20},
    {"estimator": "rows", "samples": 20},
    {"estimator": "stratified", "samples": 20},
]


@pytest.mark.parametrize("settings", REQUESTS, ids=lambda settings: "-".join(map(str, settings.values())))
@pytest.mark.parametrize("sample", [None, 33])
def test_features_on_disk_give_the_numbers_of_held_ones(folder, monkeypatch, settings, sample):
    request = StructureRequest(**settings, seed=5)
    options = {**RANGE, "request": request, "sample": sample}
    if request.estimator == "stratified":
        options["concepts"] = ("dog", "hat")
    held = measure_store(folder, **options)
    monkeypatch.setattr(rows_on_disk, "HELD_SHARE", 0.0)
    on_disk = measure_store(folder, **options)
    streamed = request.estimator == "landmarks" and sample is None
    assert (held.features, on_disk.features) == ("disk" if streamed else "memory", "disk")
    assert on_disk.report() == held.report()
    report = on_disk.report()
    assert (report["estimator"], report["samples"]) == (request.estimator, request.samples)
    assert report["self_check_deviation"] <= report["self_check_tolerance"]
    exact = measure_store(folder, **RANGE, sample=sample).difficulty.structure_ad
    assert abs(report["structure_ad"] - exact) <= 5 * report["estimator_standard_error"] + 4e-4
    assert {"plan", "estimated_bytes", "seconds"} <= on_disk.cost_report().keys()


@pytest.fixture
def rows_read(monkeypatch):
    """Row numbers of every read of stored rows."""
    reads, stored = [], EmbeddingRows.stored

    def recorded(self, rows=slice(None)):
        reads.append(np.arange(len(self))[rows])
        return stored(self, rows)

    monkeypatch.setattr(EmbeddingRows, "stored", recorded)
    return reads


@pytest.mark.parametrize("samples", [20, 512])
def test_what_is_not_held_is_read_in_parts(tmp_path, rows_read, monkeypatch, samples):
    monkeypatch.setattr(rows_on_disk, "HELD_SHARE", 0.0)
    n, generator = 40_000, np.random.default_rng(0)
    for name, part in (("img_emb", "img_emb_0.npy"), ("text_emb", "text_emb_0.npy")):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / part, generator.normal(size=(n, 64)).astype(np.float16))
    (tmp_path / "metadata").mkdir()
    pandas.DataFrame({"caption": ["x"] * n}).to_parquet(tmp_path / "metadata" / "metadata_0.parquet")
    request = StructureRequest(estimator="rows", samples=samples)
    local = LocalRequest(local_pairs=100)
    measured = measure_store(tmp_path, feature_range=(0.0, 1.0), request=request, local=local)
    assert (measured.difficulty.n, measured.report()["local_pairs"]) == (n, 100)
    assert max(map(len, rows_read)) <= 16_384 < n


def test_a_sample_reads_its_own_rows_only(folder, rows_read):
    measured = measure_store(folder, **RANGE, sample=7, request=StructureRequest(estimator="landmarks", samples=5))
    assert set(np.concatenate(rows_read)) == set(measured.rows)


def test_trusted_landmarks_are_rows_or_uids(folder, tmp_path):
    rows = [3, 11, 26, 38]
    request = StructureRequest(estimator="landmarks", samples=4)
    (tmp_path / "rows.txt").write_text("\n".join(map(str, rows)))
    (tmp_path / "uids.txt").write_text("0/3\n1/13\n0/11\n\n# the last\n1/1\n")
    by_row, by_uid = (
        measure_store(folder, **RANGE, request=request, landmarks=read_landmarks(tmp_path / f"{name}.txt"))
        for name in ("rows", "uids")
    )
    assert by_row.report() == by_uid.report()
    assert by_row.computation.streamed.drawn.tolist() == rows
    image, text = unit_rows(folder, "img"), unit_rows(folder, "text")
    disparity = (image @ image.T - text @ text.T).abs().fill_diagonal_(0)[:, rows]
    assert by_row.difficulty.structure_ad == pytest.approx(disparity.mean().item(), abs=1e-6)
    assert by_row.report()["trusted_landmarks"] == 4


@pytest.mark.parametrize("ranked", [True, False])
def test_streamed_scores_are_lines_of_their_pairs(folder, tmp_path, monkeypatch, ranked):
    monkeypatch.setattr(columns, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(store_module, "STRINGS_AT_ONCE", 4)
    monkeypatch.setattr(score_parts, "LINES_AT_ONCE", 10)
    if not ranked:
        monkeypatch.setattr(score_parts, "RANKED_PAIRS", 39)
    path, told = tmp_path / "scores.parquet", []
    request = StructureRequest(estimator="landmarks", samples=20)
    workers = Workers(on_progress=lambda progress: told.append(progress.message))
    measured = measure_store(folder, **RANGE, request=request, scores=path, workers=workers)
    table = parquet.read_table(path)
    assert table["row"].to_pylist() == list(range(40))
    assert table["uid"].to_pylist() == [f"{part}/{row}" for part, rows in ((0, 25), (1, 15)) for row in range(rows)]
    report = measured.report()
    assert json.loads(table.schema.metadata[b"explorer"]) == report
    for score, mean in (
        ("feature_distance", "feature_ad"),
        ("structure_distance", "structure_ad"),
        ("sample_ad", "ad"),
    ):
        assert np.mean(table[score].to_numpy()) == pytest.approx(report[mean])
        assert (f"{score}_rank" in table.column_names) == ranked
    assert any("has no ranks" in message for message in told) != ranked
    image, text = unit_rows(folder, "img"), unit_rows(folder, "text")
    expected = alignment_difficulty(image, text, feature_range=RANGE["feature_range"]).feature_distance
    np.testing.assert_allclose(table["feature_distance"].to_numpy(), expected, atol=1e-6)
    assert [found.name for found in tmp_path.glob(".*")] == [], "no part is left"


def test_a_stream_that_fails_leaves_no_scores(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(check.TOLERANCES, "fp32", -1.0)
    with pytest.raises(ArithmeticError, match="rounding explains"):
        measure_store(
            folder, **RANGE, request=StructureRequest(estimator="landmarks", samples=9), scores=tmp_path / "s.parquet"
        )
    assert [*tmp_path.glob("*.parquet"), *tmp_path.glob(".*")] == []


def test_scores_without_uids_and_of_a_store_that_is_held(folder, tmp_path):
    shutil.rmtree(folder / "metadata")
    for estimator in ("exact", "landmarks"):
        request = StructureRequest(estimator=estimator, samples=None if estimator == "exact" else 40)
        path = tmp_path / f"{estimator}.parquet"
        measure_store(folder, **RANGE, request=request, scores=path)
    held, streamed = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("exact", "landmarks"))
    assert held.column_names == streamed.column_names
    assert held["uid"].null_count == streamed["uid"].null_count == 40
    np.testing.assert_allclose(held["sample_ad"].to_numpy(), streamed["sample_ad"].to_numpy(), atol=1e-6)


def test_a_time_budget_leaves_no_room_for_the_twin(folder):
    settings = {"estimator": "landmarks", "samples": 40}
    assert measure_store(folder, **RANGE, request=StructureRequest(**settings)).report()["control_variates"]
    hurried = measure_store(folder, **RANGE, request=StructureRequest(**settings, budget_seconds=1e6))
    assert "twin" not in hurried.report()["control_variates"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"request": StructureRequest(estimator="stratified", samples=9)}, "is 'stratified': expected concepts"),
        ({"concepts": ("dog",)}, "concepts are given and estimator is 'exact': expected stratified"),
        ({"landmarks": "1"}, "landmarks are given and estimator is 'exact': expected landmarks"),
        ({"landmarks": "40", "request": StructureRequest(estimator="landmarks")}, "names '40': not among the measured"),
        ({"landmarks": "x/1", "request": StructureRequest(estimator="landmarks")}, "names 'x/1': unknown uids"),
        (
            {"landmarks": "1", "sample": 9, "request": StructureRequest(estimator="landmarks")},
            "a sample of 9 pairs is asked for and landmarks are given",
        ),
        (
            {
                "concepts": ("dog",),
                "caption_column": "title",
                "request": StructureRequest(estimator="stratified", samples=9),
            },
            "expected 'title', too",
        ),
        ({"request": StructureRequest(budget_memory=1e-9)}, "exact takes about .* expected a larger budget"),
    ],
)
def test_what_does_not_fit_together_is_named(folder, tmp_path, options, message):
    if "landmarks" in options:
        (tmp_path / "landmarks.txt").write_text(options["landmarks"])
        options = {**options, "landmarks": read_landmarks(tmp_path / "landmarks.txt")}
    with pytest.raises(ValueError, match=message):
        measure_store(folder, **RANGE, **options)


def test_captions_that_are_no_text_are_named(folder):
    table = pandas.DataFrame({"caption": np.arange(15)})
    table.to_parquet(folder / "metadata" / "metadata_1.parquet")
    with pytest.raises(ValueError, match="column 'caption' of the metadata holds 0: expected captions"):
        measure_store(folder, **RANGE, concepts=("dog",), request=StructureRequest(estimator="stratified", samples=9))
