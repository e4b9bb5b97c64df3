"""A row keeps what it saved, goes on after a failure, and is profiled; that each has its figures, test_gpu_kit.py
checks."""

import json

import pytest
import torch

from explorer.benchmarks.device_figures import MemoryWatch, _covered, profiled
from explorer.benchmarks.gpu_rows import ROWS
from explorer.benchmarks.row_report import RowReport


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
