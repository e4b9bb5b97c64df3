"""Where attention falls on painted scenes, of which it is known which pixels are the object."""

from __future__ import annotations

import torch

from explorer.attention.statistics import mass_in_mask, overlap_with_mask
from explorer.evaluation.metrics.metric import Metric


def area(scene_masks: torch.Tensor) -> torch.Tensor:
    """The object's share of the picture: what a uniform map would score as ``mask_mass``."""
    return scene_masks.mean(dim=(1, 2))


def overlap(scene_maps: torch.Tensor, scene_masks: torch.Tensor) -> torch.Tensor:
    """Intersection over union of the object and as many of the map's highest positions; NaN for an object that covers
    half of no position."""
    seen = (scene_masks >= 0.5).any(dim=-1).any(dim=-1)
    found = torch.full(scene_maps.shape[:-2], torch.nan)
    found[..., seen] = overlap_with_mask(scene_maps[..., seen, :, :], scene_masks[seen])
    return found


METRICS = (
    Metric(name="mask_mass", needs=("scene_maps", "scene_masks"), compute=mass_in_mask),
    Metric(name="mask_overlap", needs=("scene_maps", "scene_masks"), compute=overlap),
    Metric(name="mask_area", needs=("scene_masks",), compute=area),
)
