"""What the whole text changes in the predictions of a generation, where its classifier-free guidance is."""

from __future__ import annotations

import torch

from explorer.evaluation.metrics.metric import Metric


def guidance_amplitude(guidance_maps: torch.Tensor) -> torch.Tensor:
    """``[concepts, h, w]`` to its mean over places, ``[concepts]``, at least 0 on the scale of noise."""
    return guidance_maps.mean((1, 2))


METRICS = (Metric(name="guidance", needs=("guidance_maps",), compute=guidance_amplitude),)
