"""What metrics of maps say of each attention layer by itself, whose mean the maps of other metrics are.

Each takes maps with the layers first, and gives a value for each layer and concept, or pair of concepts.
"""

from __future__ import annotations

from dataclasses import replace

from explorer.evaluation.metrics import known_masks, word_maps, word_overlap
from explorer.evaluation.metrics.metric import Metric

OF_LAYERS = {"late_maps": "late_layer_maps", "pair_maps": "pair_layer_maps", "scene_maps": "scene_layer_maps"}
"""Means over layers to what they are means of."""
NAMES = ("late_word_mass", "late_contiguity", "word_overlap", "mask_mass", "mask_overlap")


def _of_layers(metric: Metric) -> Metric:
    return replace(metric, needs=tuple(OF_LAYERS.get(need, need) for need in metric.needs))


LAYER_METRICS = tuple(
    _of_layers(metric)
    for metric in (*word_maps.METRICS, *word_overlap.METRICS, *known_masks.METRICS) if metric.name in NAMES
)  # fmt: skip
