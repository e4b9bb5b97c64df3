"""Each metric on a case whose answer is known."""

import pytest
import torch

from explorer.evaluation.drawings import Drawing
from explorer.evaluation.evaluate import NOT_SEEN
from explorer.evaluation.metrics.layers import LAYER_METRICS, NAMES
from explorer.evaluation.metrics.listed import METRICS

BY_NAME = {metric.name: metric for metric in METRICS}
SIMILARITIES = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.7, 0.1], [0.1, 0.1, 0.3]])
SCORES = torch.tensor([7.0, 6.0, 8.0])
CLASSES = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
BLOB = torch.zeros(4, 4).index_put((torch.tensor([0]), torch.tensor([0])), torch.tensor(0.5))
UNIFORM = torch.full((4, 4), 0.25)
HALF = torch.zeros(4, 4).index_fill(0, torch.tensor([0, 1]), 1.0)


def test_every_metric_asks_for_what_there_is_and_has_a_name_of_its_own():
    known = Drawing(images=torch.zeros(0)).measurable().keys() | NOT_SEEN.keys() | {"similarities", "tau", "targets"}
    assert "images" not in known
    assert all(set(metric.needs) <= known for metric in (*METRICS, *LAYER_METRICS))
    assert len(BY_NAME) == len(METRICS)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("accuracy", [SIMILARITIES], [1, 0, 1]),
        ("clip_similarity", [SIMILARITIES], [0.9, 0.7, 0.3]),
        ("utility", [SIMILARITIES, 0.5], [1, 0, 0]),
        ("clip_accuracy", [SIMILARITIES, 0.5], [1, 1, 0]),
        ("aesthetic_score", [SCORES], [7, 6, 8]),
        ("aesthetics", [SCORES, 6.5], [1, 0, 1]),
        ("clip_aesthetic_utility", [SIMILARITIES, 0.5, SCORES, 6.5], [1, 0, 0]),
        ("classifier_accuracy", [torch.tensor([2, 2, 0]), CLASSES], [1, 0, torch.nan]),
        ("classifier_broken", [torch.tensor([2, 2, 0]), 2], [1, 1, 0]),
        ("poison_success", [SIMILARITIES, torch.tensor([1, 0, -1])], [0, 1, torch.nan]),
        ("scatter", [torch.stack([BLOB, UNIFORM])], [0, 1]),
        ("contiguity", [torch.stack([HALF, UNIFORM])], [(4 / 48) / (4 / 15), 1]),
        ("late_contiguity", [torch.stack([torch.zeros(4, 4), UNIFORM])], [1, 1]),
        ("word_mass", [torch.stack([BLOB, UNIFORM])], [0.5 / 16, 0.25]),
        ("late_word_mass", [torch.stack([torch.zeros(4, 4), UNIFORM])], [0, 0.25]),
        ("word_overlap", [torch.stack([torch.stack([BLOB, BLOB]), torch.stack([BLOB, UNIFORM])])], [1, 0.25]),
        ("mask_mass", [torch.stack([BLOB, UNIFORM]), torch.stack([HALF, HALF])], [1, 0.5]),
        (
            "mask_overlap",
            [torch.stack([HALF, UNIFORM, BLOB]), torch.stack([HALF, HALF, 0.1 * HALF])],
            [1, 0.5, torch.nan],
        ),
        ("mask_area", [torch.stack([HALF, UNIFORM])], [0.5, 0.25]),
        ("guidance", [torch.stack([3 * HALF, UNIFORM])], [1.5, 0.25]),
    ],
)
def test_a_metric_of_a_known_case(name, given, expected):
    assert BY_NAME[name].compute(*given).tolist() == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_metric_of_layers_says_of_each_what_the_metric_says_of_its_maps_alone():
    assert {metric.name for metric in LAYER_METRICS} == set(NAMES)
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([HALF, HALF.T, BLOB])
    for metric in LAYER_METRICS:
        maps = torch.rand((2, 3, 2, 4, 4) if metric.name == "word_overlap" else (2, 3, 4, 4), generator=generator)
        given = [masks] if "scene_masks" in metric.needs else []
        found = metric.compute(maps, *given)
        assert found.shape == (2, 3)
        for layer in range(2):
            alone = BY_NAME[metric.name].compute(maps[layer], *given)
            torch.testing.assert_close(found[layer], alone, equal_nan=True)
