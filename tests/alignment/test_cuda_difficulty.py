"""Structure AD on a GPU equals the CPU's: exact, estimated, from disk, after removals."""

import numpy as np
import pandas
import pytest
import torch

from explorer.alignment import rows_on_disk
from explorer.alignment.stores import measure_store
from explorer.alignment.structure.compute import compute_structure
from explorer.alignment.structure.plan import StructureRequest
from explorer.core.workers import worker_group

N = 700
ESTIMATORS = ("exact", "landmarks", "rows", "stratified")
RANGE = {"feature_range": (0.4, 0.9)}
CLOSE = {"fp64": 1e-10, "fp32": 4e-6, "fp16": 8e-4}
"""Of a D_s, computed twice with rounded operands."""


def unit_rows(seed, width, dtype=torch.float32):
    rows = torch.randn(N, width, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.3
    return torch.nn.functional.normalize(rows)


def computed(request, image, text):
    with worker_group(request.device) as workers:
        return compute_structure(image, text, request, strata=np.arange(N) % 5, workers=workers)


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_plan_is_carried_out_as_on_the_cpu(estimator, precision):
    dtype = torch.float64 if precision == "fp64" else torch.float32
    image, text = unit_rows(0, 96, dtype), unit_rows(1, 65, dtype)
    options = {"estimator": estimator, "samples": None if estimator == "exact" else 100, "precision": precision}
    expected = computed(StructureRequest(**options), image, text)
    found = computed(StructureRequest(**options, device="cuda"), image, text)
    assert found.plan.device == "cuda:0"
    assert found.plan.kernel == ("triton" if estimator == "exact" and precision == "fp16" else "torch")
    assert found.check.passed
    for name in ("structure_distance", "centred_distance"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.device.type == "cpu"
        off = (ours - theirs).abs().max().item()
        assert off <= CLOSE[precision], f"{name} is off by {off:.3g}, allowed {CLOSE[precision]:.3g}"
    if found.estimate is not None:
        assert torch.equal(found.estimate.drawn, expected.estimate.drawn)
        assert found.estimate.standard_error == pytest.approx(expected.estimate.standard_error, rel=1e-2)


@pytest.mark.cuda
def test_a_memory_and_time_budget_is_measured_on_the_gpu():
    request = StructureRequest(estimator="auto", budget_seconds=600, device="cuda")
    found = computed(request, unit_rows(0, 32), unit_rows(1, 32))
    assert found.plan.estimator == "exact"
    assert found.plan.operations_per_second > 0


@pytest.fixture
def store(tmp_path):
    """``N`` pairs in two partitions; cosines around 0.7."""
    generator = np.random.default_rng(0)
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / name).mkdir()
    for number, rows in enumerate((N - 15, 15)):
        image = generator.normal(size=(rows, 40))
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", image.astype(np.float16))
        text = image + generator.normal(size=(rows, 40))
        np.save(tmp_path / "text_emb" / f"text_emb_{number}.npy", text.astype(np.float16))
        captions = [f"a {('dog', 'hat', 'ship')[row % 3]}" for row in range(rows)]
        table = pandas.DataFrame({"uid": [f"{number}/{row}" for row in range(rows)], "caption": captions})
        table.to_parquet(tmp_path / "metadata" / f"metadata_{number}.parquet")
    return tmp_path


@pytest.mark.cuda
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("held", [True, False])
def test_a_store_is_measured_as_on_the_cpu(store, monkeypatch, estimator, held):
    if not held:
        monkeypatch.setattr(rows_on_disk, "HELD_SHARE", 0.0)
    options = {"estimator": estimator, "samples": None if estimator == "exact" else 100}
    concepts = {"concepts": ("dog", "hat")} if estimator == "stratified" else {}
    found = {}
    for device in ("cpu", "cuda"):
        with worker_group(device) as workers:
            request = StructureRequest(**options, device=device)
            found[device] = measure_store(store, **RANGE, **concepts, sample=600, request=request, workers=workers)
    ours, theirs = found["cuda"], found["cpu"]
    assert ours.features == ("memory" if held else "disk")
    assert ours.difficulty.ad == pytest.approx(theirs.difficulty.ad, abs=4e-6)
    off = (ours.difficulty.sample_ad - theirs.difficulty.sample_ad).abs().max().item()
    assert off <= CLOSE["fp32"], f"a pair's AD is off by {off:.3g}"
    assert ours.offset["mean_offset"] == pytest.approx(theirs.offset["mean_offset"], abs=1e-5)
