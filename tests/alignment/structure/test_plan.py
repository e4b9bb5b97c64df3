"""Plans keep to their budgets or refuse; what was planned is what is done, checked and reported."""

import numpy as np
import pytest
import torch

from explorer.alignment.difficulty import alignment_difficulty
from explorer.alignment.structure.check import TOLERANCES
from explorer.alignment.structure.compute import compute_structure
from explorer.alignment.structure.controls import twin_operations
from explorer.alignment.structure.plan import (
    LEAST_SAMPLES,
    StructureRequest,
    plan_structure,
    tile_rate,
    twin_rate,
)
from explorer.core.workers import Workers, worker_group

CPU = torch.device("cpu")


def planned(n=10**6, rate=1e11, **request):
    request = StructureRequest(**request)
    return plan_structure(request, n, 512, 512, device=CPU, precision="fp32", operations_per_second=rate)


def unit_rows(n, seed, d=16):
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 0.3
    return torch.nn.functional.normalize(rows)


def test_exact_unless_it_does_not_fit():
    exact = planned(n=20_000, estimator="auto", budget_seconds=10)
    assert (exact.estimator, exact.samples) == ("exact", None)
    assert exact.estimated_seconds == pytest.approx(20_000 * 21_024 * 1024 / 1e11)
    drawn = planned(n=20_000, estimator="auto", budget_seconds=1)
    assert drawn.estimator == "landmarks"
    assert drawn.estimated_seconds <= 1 < exact.estimated_seconds
    assert drawn.reason.startswith("exact takes about 4.31 s of 1 s and ")


def test_the_largest_sample_that_fits_is_drawn():
    plan = planned(estimator="auto", budget_seconds=60)
    task_seconds = 2 * 10**6 * 1024 / 1e11
    assert plan.samples == int(60 / task_seconds)


def test_memory_decides_too():
    plan = planned(n=100_000, estimator="auto", budget_memory=0.2)
    assert plan.estimator == "landmarks"
    assert plan.samples == 1000, "what is drawn where no time budget says how many"
    assert plan.estimated_bytes <= 2e8
    assert planned(n=100_000, estimator="auto", budget_memory=10.0).estimator == "exact"


def test_more_workers_take_less_time():
    request = StructureRequest(estimator="exact")
    plans = [
        plan_structure(
            request, 10_000, 64, 64, device=CPU, precision="fp32", workers=workers, operations_per_second=1e9
        )
        for workers in (1, 4)
    ]
    assert plans[0].estimated_seconds == pytest.approx(4 * plans[1].estimated_seconds)


def drawing(estimator, **options):
    request = StructureRequest(estimator=estimator, samples=20_000)
    return plan_structure(
        request, 10**6, 512, 512, device=CPU, precision="fp32", operations_per_second=1e11,
        double_operations_per_second=4e10, **options,
    )  # fmt: skip


@pytest.mark.parametrize("estimator", ["rows", "stratified"])
def test_every_worker_computes_the_whole_twin_in_fp64(estimator):
    twin_seconds = 2 * 10**6 * 2 * 3 * 512**2 / 4e10
    columns_seconds = 2 * 10**6 * 20_000 * 1024 / 1e11
    for workers in (1, 4):
        plan = drawing(estimator, workers=workers)
        assert plan.estimated_seconds == pytest.approx(twin_seconds + columns_seconds / workers)
        assert plan.report()["double_operations_per_second"] == 4e10


def test_strata_cost_a_product_and_a_matrix():
    for workers in (1, 4):
        few, many = (drawing("stratified", workers=workers, strata=strata) for strata in (10, 9000))
        seconds = 2 * 10**6 * 20_000 * 8990 / 4e10
        assert many.estimated_seconds - few.estimated_seconds == pytest.approx(seconds / workers)
        assert many.estimated_bytes - few.estimated_bytes >= 20_000 * 8990 * 4
    assert drawing("landmarks", strata=900).estimated_seconds == drawing("landmarks").estimated_seconds


def test_the_twins_memory_is_that_of_its_fp64_blocks():
    request = StructureRequest(estimator="rows", samples=40)
    plan = plan_structure(
        request, 10**5, 2048, 2048, device=CPU, precision="fp32", operations_per_second=1e11,
        double_operations_per_second=4e10,
    )  # fmt: skip
    assert plan.estimated_bytes >= 8 * (8192 * 2 * 4096 + 3 * 3 * 2048**2)


def test_the_triton_kernel_holds_rows_and_no_tile():
    """At a million pairs: joined rows, sums and one block of rows, where torch holds tiles besides."""
    pytest.importorskip("triton", reason="Triton is not installed")
    arguments = {"device": CPU, "precision": "fp16", "operations_per_second": 1e14}
    plan = plan_structure(StructureRequest(kernel="triton"), 10**6, 768, 768, **arguments)
    assert plan.kernel == "triton"
    assert plan.estimated_bytes == 10**6 * (1536 * 2 + 5 * 8) + plan.block * 1536 * 2


def test_landmarks_are_drawn_from_the_trusted_rows():
    request = StructureRequest(estimator="landmarks", budget_seconds=60)
    arguments = {"device": CPU, "precision": "fp32", "operations_per_second": 1e11}
    plan = plan_structure(request, 10**6, 512, 512, **arguments, trusted=200)
    assert plan.samples == 200, "time would allow more"
    assert plan.reason.startswith("landmarks asked for: 200 of 200 trusted of 1000000 rows are drawn")
    unhurried = StructureRequest(estimator="landmarks")
    said = [plan_structure(unhurried, 10**6, 512, 512, **arguments, streamed=streamed).reason for streamed in (1, 0)]
    assert ["squared twin" in reason for reason in said] == [True, False], "only a stream may use it"
    image, text = unit_rows(60, 0), unit_rows(60, 1)
    trusted = np.arange(0, 60, 3)
    done = compute_structure(image, text, StructureRequest(estimator="landmarks"), trusted=trusted)
    disparity = (image @ image.T - text @ text.T).abs().fill_diagonal_(0)[:, trusted]
    torch.testing.assert_close(done.structure_distance, disparity.mean(1).double(), atol=1e-6, rtol=0)
    assert (done.report()["trusted_landmarks"], done.report()["samples"]) == (20, 20)
    with pytest.raises(ValueError, match="landmarks are given and estimator is 'rows': expected landmarks"):
        compute_structure(image, text, StructureRequest(estimator="rows", samples=9), trusted=trusted)


def test_nothing_is_put_in_the_place_of_what_was_asked_for():
    with pytest.raises(ValueError, match=r"exact takes about .* of 1 s and .*: expected a larger budget or estimator"):
        planned(estimator="exact", budget_seconds=1)
    with pytest.raises(ValueError, match=f"{LEAST_SAMPLES} landmarks take about"):
        planned(estimator="auto", budget_seconds=1e-3)
    with pytest.raises(ValueError, match=r"5000 rows take about .* or fewer samples"):
        planned(estimator="rows", samples=5000, budget_seconds=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "guess"}, "estimator is 'guess': expected one of auto, exact"),
        ({"samples": 5}, "samples is 5 and estimator exact"),
        ({"estimator": "rows", "samples": 0}, "samples is 0"),
        ({"budget_seconds": 0.0}, "budget_seconds is 0.0: expected a positive number"),
        ({"budget_memory": float("nan")}, "budget_memory is nan"),
        ({"estimator": "rows", "kernel": "triton"}, "kernel is 'triton' and estimator rows"),
    ],
)
def test_impossible_requests_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        StructureRequest(**settings)


def test_the_probe_measures_a_rate():
    assert 1e6 < tile_rate(CPU, 16, 24, "fp32", "torch", 64) < 1e15
    assert 1e5 < twin_rate(CPU, 16, 24, 64) < 1e15
    assert twin_operations(10, 16, 24) == 2 * 10 * 2 * (16**2 + 24**2 + 16 * 24)
    assert planned(estimator="landmarks").double_operations_per_second is None
    assert planned(estimator="rows").double_operations_per_second > 1e5


@pytest.mark.parametrize("precision", ["fp16", "fp32", "fp64"])
def test_exact_computation_is_alignment_difficulty(precision):
    image, text = unit_rows(150, 0), unit_rows(150, 1)
    done = compute_structure(image, text, StructureRequest(precision=precision), convention="halved")
    expected = alignment_difficulty(image, text, convention="halved", precision=precision)
    assert torch.equal(done.structure_distance, expected.structure_distance)
    assert done.check.passed
    report = done.report()
    assert (report["estimator"], report["precision"], report["estimator_standard_error"]) == ("exact", precision, 0.0)
    assert report["self_check_deviation"] <= TOLERANCES[precision]
    assert {"plan", "estimated_seconds", "estimated_bytes", "seconds"} <= done.cost_report().keys()


@pytest.mark.parametrize("estimator", ["landmarks", "rows", "stratified"])
def test_estimates_say_so_and_are_close(estimator):
    image, text = unit_rows(300, 0), unit_rows(300, 1)
    strata = np.arange(300) % 3
    request = StructureRequest(estimator=estimator, samples=100, seed=3)
    done = compute_structure(image, text, request, strata=strata)
    report = done.report()
    assert (report["estimator"], report["samples"], report["estimator_seed"]) == (estimator, 100, 3)
    exact = alignment_difficulty(image, text).structure_ad
    assert abs(done.structure_distance.mean().item() - exact) < 5 * report["estimator_standard_error"]
    assert set(report["self_check_rows"]) <= set(done.estimate.drawn.tolist())


def test_a_result_that_fails_its_check_is_not_returned(monkeypatch):
    monkeypatch.setitem(TOLERANCES, "fp32", 0.0)
    with pytest.raises(ArithmeticError, match=r"is off by .* at precision fp32 on cpu with kernel torch"):
        compute_structure(unit_rows(60, 0), unit_rows(60, 1), StructureRequest())


def test_a_lack_of_memory_says_what_can_be_changed(monkeypatch):
    def lacking(*given, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("explorer.alignment.structure.tiles.structure_and_centred_row_sums", lacking)
    image = text = torch.nn.functional.normalize(torch.randn(40, 8))
    with pytest.raises(ValueError, match=r"for Alignment Difficulty \(CUDA out .* 9 GiB\): expected a --budget-memory"):
        compute_structure(image, text, StructureRequest())


def test_devices_and_strata_are_not_guessed():
    image, text = unit_rows(40, 0), unit_rows(40, 1)
    with pytest.raises(ValueError, match="there are no strata"):
        compute_structure(image, text, StructureRequest(estimator="stratified", samples=10))
    with pytest.raises(ValueError, match="device is 'cuda' and the workers compute on 'cpu'"):
        compute_structure(image, text, StructureRequest(device="cuda"), workers=Workers())
    with pytest.raises(ValueError, match="device is 'mps': expected cpu or cuda"), worker_group("mps"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="which has 0 GPUs"), worker_group("cuda"):
            pass
