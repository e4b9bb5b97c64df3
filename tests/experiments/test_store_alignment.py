"""AD of a store equals AD of its rows; where the feature range comes from; samples."""

import numpy as np
import pandas
import pytest
import torch

from explorer.experiments.embedding_store import KIND
from explorer.experiments.store_alignment import measure_store
from explorer.provenance import write_manifest
from explorer.theory.alignment_difficulty import alignment_difficulty


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
        pandas.DataFrame({"caption": ["x"] * rows}).to_parquet(tmp_path / "metadata" / f"metadata_{number}.parquet")
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
