"""Every row runs at tiny size on a CPU, saves what it has as it goes, and measures what it is there for."""

import json

import pytest
import torch

from explorer.benchmarks.device_figures import MemoryWatch, _covered, profiled
from explorer.benchmarks.gpu_rows import ROWS
from explorer.benchmarks.row_report import RowReport
from explorer.benchmarks.training_turns import OURS, PLAIN

CONDITIONS = {"device", "gpu", "torch", "triton", "code_version", "row_seconds"}
FIGURES = {
    "alignment": {"matmul_operations_per_second", "results", "ratios", "largest_disagreement", "profile", "landmarks"},
    "capture": {"captures", "profile"},
    "training_sd15": {"samples_per_second", "speedup", "peak_bytes", "profile", "layouts"},
    "training_sdxl": {"samples_per_second", "speedup_of_medians", "peak_bytes", "batch_size"},
    "embeddings": {"extraction", "profile"},
    "training_sd15_compiled": {"samples_per_second", "speedup"},
}


@pytest.fixture(scope="module")
def reports():
    """Every report each row saved, by row, as a reader of its JSON finds them."""
    saved = {name: [] for name in ROWS}
    for name, (row, seconds) in ROWS.items():
        assert seconds > 0
        row(lambda report, name=name: saved[name].append(json.loads(json.dumps(report))), smoke=True, device="cpu")
    return saved


@pytest.mark.parametrize("name", list(ROWS))
def test_a_row_reports_its_figures_and_where_they_were_taken(reports, name):
    last = reports[name][-1]
    assert last.keys() >= CONDITIONS | FIGURES[name]
    assert "errors" not in last
    assert last["device"] == "cpu"
    assert last["torch"] == torch.__version__


@pytest.mark.parametrize("name", list(ROWS))
def test_what_was_measured_is_saved_before_the_row_ends(reports, name):
    saved = reports[name]
    assert saved[0].keys() >= CONDITIONS
    assert not saved[0].keys() & FIGURES[name]
    sizes = [len(json.dumps(report)) for report in saved]
    assert len(set(sizes)) > 2 or name == "training_sd15_compiled"


def test_a_row_that_is_killed_keeps_what_it_saved():
    kept = []

    def save(report):
        kept.append(json.loads(json.dumps(report)))
        if "results" in report:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ROWS["alignment"][0](save, smoke=True, device="cpu")
    assert kept[-1]["matmul_operations_per_second"] > 0
    assert kept[-1]["results"]


def test_alignment_says_how_near_the_limit_each_peer_is(reports):
    last = reports["alignment"][-1]
    measured = [row for row in last["results"] if row["seconds"] is not None]
    for row in measured:
        useful = 2 * row["n"] ** 2 * last["d"] / row["seconds"]
        assert row["share_of_matmul_rate"] == pytest.approx(useful / last["matmul_operations_per_second"])
    assert {row["n"] for row in measured} == {200, 300, 400}
    assert max(last["largest_disagreement"].values()) < last["agreement_goal"]
    exact = next(row["structure_ad"] for row in measured if row["n"] == 400 and row["peer"] == "blocked")
    assert last["landmarks"]["structure_ad"] == pytest.approx(exact, abs=0.02)


def test_capture_stands_beside_others(reports):
    captures = reports["capture"][-1]["captures"]
    assert list(captures) == ["fp32", "fp32, beside others", "bf16"]
    assert list(captures["fp32"]) == ["ours"]
    assert list(captures["fp32, beside others"]) == ["ours", "DAAM-style", "prompt-to-prompt-style"]


@pytest.mark.parametrize("name", ["training_sd15", "training_sdxl"])
def test_both_training_loops_are_timed(reports, name):
    rates = {loop: found["median"] for loop, found in reports[name][-1]["samples_per_second"].items()}
    assert set(rates) == {OURS, PLAIN}
    assert min(rates.values()) > 0


def test_a_failure_is_told_and_the_row_goes_on():
    kept = []
    report = RowReport(kept.append, "cpu", 10.0)
    assert report.attempt("a figure", lambda: 1 / 0) is None
    assert report.attempt("another", lambda: 7) == 7
    assert kept[-1]["errors"]["a figure"]["error"] == "ZeroDivisionError: division by zero"
    assert "test_gpu_rows" in kept[-1]["errors"]["a figure"]["where"]


def test_a_profile_names_what_took_longest():
    rows = torch.randn(300, 300)
    profile = profiled(lambda: [rows @ rows for _ in range(20)], "cpu")
    assert profile["longest"][0]["name"] == "aten::mm"
    assert profile["longest"][0]["calls"] == 20
    assert profile["idle_share"] is None


def test_overlapping_kernels_count_once():
    assert _covered([("b", 5, 9), ("a", 0, 3), ("c", 6, 7), ("d", 8, 12)]) == 10


def test_memory_is_not_measured_on_a_cpu():
    assert MemoryWatch("cpu").peak() is None
