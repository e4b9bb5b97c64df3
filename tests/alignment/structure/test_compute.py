"""How often features are read, what a plan is told, and whether a result says that it is an estimate."""

import numpy as np
import pytest
import torch

from explorer.alignment.structure.check import CHECKED_ROWS
from explorer.alignment.structure.compute import compose_structure, compute_structure
from explorer.alignment.structure.plan import StructureRequest

N, SAMPLES = 400, 40


class CountedRows:
    """Features as if they lay on disk, and how many rows were read of them."""

    def __init__(self, width, seed):
        rows = torch.randn(N, width, generator=torch.Generator().manual_seed(seed)) + 0.3
        self.held, self.read = torch.nn.functional.normalize(rows), 0
        self.dtype, self.device, self.shape, self.ndim = self.held.dtype, self.held.device, self.held.shape, 2

    def __len__(self):
        return N

    def __getitem__(self, rows):
        part = self.held[rows]
        self.read += len(part)
        return part

    def to(self, device):
        return self


def composed(image, text, estimator):
    samples = None if estimator == "exact" else SAMPLES
    return compose_structure(
        image, text, torch.zeros(N, dtype=torch.float64), StructureRequest(estimator=estimator, samples=samples),
        alpha=0.8, convention="authors", feature_range=(0.0, 1.0), names=range(N), strata=np.arange(N) % 3,
    )  # fmt: skip


@pytest.mark.parametrize(("estimator", "passes"), [("exact", 4), ("landmarks", 4), ("rows", 6), ("stratified", 6)])
def test_features_are_read_a_few_times_only(estimator, passes):
    """Twice for their statistics, once for the sums, once for the self-check, and twice for the squared twin."""
    image, text = CountedRows(12, 0), CountedRows(8, 1)
    composed(image, text, estimator)
    for rows in (image, text):
        assert rows.read <= passes * N + SAMPLES + CHECKED_ROWS


@pytest.mark.parametrize("estimator", ["exact", "landmarks", "rows", "stratified"])
def test_an_estimate_says_that_it_is_one(estimator):
    difficulty, offset, _ = composed(CountedRows(12, 0).held, CountedRows(12, 1).held, estimator)
    assert difficulty.exact == offset.centred.exact == difficulty.with_alpha(0.5).exact == (estimator == "exact")


def test_the_plan_is_told_the_number_of_strata():
    image, text = CountedRows(12, 0).held, CountedRows(12, 1).held
    request = StructureRequest(estimator="stratified", samples=100)
    few, many = (
        compute_structure(image, text, request, strata=np.arange(N) % count).plan.estimated_bytes for count in (2, 50)
    )
    assert many - few >= 100 * 48 * 4
