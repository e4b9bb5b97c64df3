"""How alike the maps of a prompt's two concepts are."""

from __future__ import annotations

import torch

from explorer.attention.statistics import cosine_overlap
from explorer.evaluation.metrics.metric import Metric


def overlap_of_two(pair_maps: torch.Tensor) -> torch.Tensor:
    """Cosine between the two maps of each prompt, in [0, 1]."""
    return cosine_overlap(pair_maps)[..., 0, 1]


METRICS = (Metric(name="word_overlap", needs=("pair_maps",), compute=overlap_of_two, by_group=False),)
