"""AD over N: the store that is made, what a run notes, and what several runs say together."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer.benchmarks.alignment_scale import ScaleRun, benchmark_scale, markdown, summary, write_synthetic_store
from explorer.cli.application import application
from explorer.embeddings.store import EmbeddingStore


def run(n, seconds, gigabytes, rank=0.995):
    report = {"seconds": seconds, "rank_correlation": rank, "estimator_standard_error": 1e-4}
    return ScaleRun(
        n=n, seconds=seconds + 5, peak_bytes=int(gigabytes * 1e9), peak_anonymous_bytes=int(5e8), report=report
    )


def test_goals_are_met_or_missed_by_what_was_measured():
    good = summary([run(10_000, 1, 0.9), run(1_000_000, 100, 1.0)])
    assert good["exponents"]["computing_seconds"] == pytest.approx(1)
    assert list(good["goals"].values()) == [True, True, True]
    bad = summary([run(10_000, 1, 0.9), run(1_000_000, 300, 3.0, rank=None)])
    assert list(bad["goals"].values()) == [False, False, False]
    assert summary([run(10_000, 1, 0.9)])["goals"]["exponent of computing at most 1.05"] is None
    table = markdown({"d": 8, **bad})
    assert "| 1000000 | 305.0 | 300.00 | 3000 | 500 |" in table
    assert "not known" in table


def test_rows_beyond_the_distinct_ones_are_links(tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.benchmarks.alignment_scale.PARTITION_ROWS", 100)
    write_synthetic_store(tmp_path, 430, d=16, distinct=200, seed=3)
    store = EmbeddingStore.open(tmp_path)
    image, text = (part.stored().astype(np.float32) for part in (store.image, store.text))
    assert len(store) == 430
    np.testing.assert_array_equal(image[200:400], image[:200])
    assert not (image[:100] == image[100:200]).all()
    assert (tmp_path / "img_emb" / "img_emb_0002.npy").stat().st_nlink == 2
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, atol=2e-3)
    matched = (image * text).sum(1) - (image * np.roll(text, 1, axis=0)).sum(1)
    assert matched.mean() > 0.1, "a caption is nearer to its own picture"
    assert store.metadata()["uid"].nunique() == 430


def test_the_command_measures_itself(tmp_path):
    arguments = [
        "benchmark",
        "ad-scale",
        "--sizes",
        "600",
        "--width",
        "8",
        "--samples",
        "50",
        "--folder",
        str(tmp_path),
    ]
    printed = json.loads(CliRunner().invoke(application, [*arguments, "--json"]).stdout)
    (row,) = printed["results"]
    assert (row["n"], row["report"]["n"], row["report"]["samples"]) == (600, 600, 50)
    assert row["peak_bytes"] >= row["peak_anonymous_bytes"] > 1e7
    assert row["seconds"] > row["report"]["seconds"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [([], {}, "expected ascending"), ([5, 4], {}, "expected ascending"), ([9], {"d": 0}, "width is 0")],
)
def test_bad_settings_are_named(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        benchmark_scale(sizes, **options)
