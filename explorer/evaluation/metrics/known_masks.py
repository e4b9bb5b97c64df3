"""Where attention falls on painted scenes, of which it is known which pixels are the object."""

from __future__ import annotations

import torch

from explorer.attention.statistics import mass_in_mask
from explorer.evaluation.metrics.metric import Metric


def area(scene_masks: torch.Tensor) -> torch.Tensor:
    """The object's share of the picture: what a uniform map would score as ``mask_mass``."""
    return scene_masks.mean(dim=(1, 2))


METRICS = (
    Metric(name="mask_mass", needs=("scene_maps", "scene_masks"), compute=mass_in_mask),
    Metric(name="mask_area", needs=("scene_masks",), compute=area),
)
