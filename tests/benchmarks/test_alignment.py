"""All peers compute the same structure AD; what is not measured says why; the table holds every figure."""

from dataclasses import replace

import pytest

from explorer.benchmarks.alignment import benchmark_alignment, fitted_exponent, markdown
from explorer.benchmarks.alignment_peers import PEERS, landmarks, synthetic_rows

EXACT_ON_CPU = ["blocked", "blocked-centred", "blocked-fp16", "row-loop", "torch-dense", "scikit-learn"]


@pytest.mark.parametrize("n", [1, 130])
def test_exact_peers_agree(n):
    image, text = synthetic_rows(n, 16, seed=0)
    kernel = (image.double() @ image.double().T - text.double() @ text.double().T).fill_diagonal_(0)
    for name in EXACT_ON_CPU:
        tolerance = 2e-5 if name == "blocked-fp16" else 1e-6
        assert PEERS[name].compute(image, text) == pytest.approx(kernel.abs().mean().item(), abs=tolerance), name


def test_keops_agrees_and_keeps_standard_output_clean(capsys):
    if PEERS["keops"].absence():
        pytest.skip(PEERS["keops"].absence())
    rows = synthetic_rows(60, 32, seed=0)
    assert PEERS["keops"].compute(*rows) == pytest.approx(PEERS["row-loop"].compute(*rows), abs=1e-6)
    assert capsys.readouterr().out == ""


def test_landmarks_are_all_rows_of_a_small_set():
    rows = synthetic_rows(50, 8, seed=0)
    assert landmarks(*rows) == pytest.approx(PEERS["row-loop"].compute(*rows), abs=1e-6)


def test_report_has_every_peer_and_says_what_is_missing():
    peers = ["products", "blocked", "row-loop", "torch-dense", "gpu-blocked-fp16"]
    report = benchmark_alignment([40, 80], d=8, rounds=2, peers=peers, memory=False)
    assert [(row["n"], row["peer"]) for row in report["results"]] == [(n, peer) for n in (40, 80) for peer in peers]
    for row in report["results"]:
        assert (row["seconds"] is None) == bool(row["note"])
    gpu = report["results"][-1]
    if PEERS["gpu-blocked-fp16"].absence():
        assert gpu["note"] == "no GPU at hand: not measured"
    assert {row["name"] for row in report["ratios"]} >= {"blocked / products", "row-loop / blocked"}
    assert isinstance(report["exponents"]["blocked"]["seconds"], float)
    table = markdown(report)
    assert table.count("| torch-dense |") == 3
    assert "at most 1.3" in table
    assert "at least 4" in table


def test_the_limit_holds_on_a_gpu_too(monkeypatch):
    for name in ("blocked-fp16", "products-fp16"):
        monkeypatch.setitem(PEERS, f"gpu-{name}", replace(PEERS[f"gpu-{name}"], device="cpu"))
    report = benchmark_alignment([40], d=8, rounds=1, peers=["gpu-products-fp16", "gpu-blocked-fp16"], memory=False)
    ratios = [(row["name"], row["goal"]) for row in report["ratios"]]
    assert ratios == [("gpu-blocked-fp16 / gpu-products-fp16", "at most 1.3")]


def test_a_slow_peer_is_left_out_by_its_own_time():
    report = benchmark_alignment([40, 80], d=8, rounds=1, peers=["row-loop"], memory=False, limit_seconds=1e-9)
    assert "over the limit" in report["results"][1]["note"]


def test_memory_is_measured_in_a_process_of_its_own():
    report = benchmark_alignment([1500], d=8, rounds=1, peers=["torch-dense"])
    assert report["results"][0]["peak_bytes"] > 1500**2 * 4


def test_fitted_exponent_is_the_slope():
    assert fitted_exponent([10, 100, 1000], [3.0, 300.0, 30000.0]) == pytest.approx(2)
    assert fitted_exponent([10], [1.0]) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": []}, r"sizes are \[\]"),
        ({"sizes": [20, 10]}, "expected ascending"),
        ({"sizes": [10], "rounds": 0}, "rounds is 0"),
        ({"sizes": [10], "peers": ["magic"]}, "peer is 'magic': expected one of products"),
        ({"sizes": [10], "d": 0}, "d is 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        benchmark_alignment(**settings)
