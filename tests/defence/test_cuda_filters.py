"""What the step `filters` measures on a GPU equals the CPU's."""

import numpy as np
import pytest
import torch

from explorer.defence.measured_scores import measured_scores
from explorer.defence.recipe import order_of_suspicion
from explorer.defence.remaining import kept_structure_curves

N = 700


@pytest.mark.cuda
def test_scores_and_curves_follow_the_cpus():
    generator = torch.Generator().manual_seed(3)
    rows = [torch.nn.functional.normalize(torch.randn(N, 64, generator=generator) + 0.3) for _ in range(2)]
    labels = np.arange(N) % 7 - 1
    expected, found = (
        measured_scores(*(part.to(device) for part in rows), labels, feature_range=(0.0, 0.6), alpha=0.8)
        for device in ("cpu", "cuda")
    )
    assert found.scores.keys() == expected.scores.keys()
    for name, values in expected.scores.items():
        # A neighbour that is hardly nearer than another may be another one: 15 of them decide a score.
        allowed = 1 / 15 + 1e-6 if name == "knn_label_disagreement" else 5e-3 if name == "picture_scatter" else 4e-6
        np.testing.assert_allclose(found.scores[name], values, atol=allowed, err_msg=name)
    assert found.ad == pytest.approx(expected.ad, abs=4e-6)
    orders = {name: order_of_suspicion(values, "highest") for name, values in expected.scores.items()}
    curves = kept_structure_curves(*(part.cuda() for part in rows), orders, block=256)
    for name, curve in kept_structure_curves(*rows, orders, block=256).items():
        np.testing.assert_allclose(curves[name], curve, atol=4e-6, err_msg=name)
