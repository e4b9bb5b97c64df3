"""From one model's weights towards another's: how far, and where a tensor stands after a part of the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch


def moved(recipient: torch.Tensor, direction: torch.Tensor, weight: float) -> torch.Tensor:
    """``recipient + weight * direction``, summed in fp32, in the recipient's precision and on its device."""
    shifted = recipient.float() + weight * direction.to(recipient.device, torch.float32)
    return shifted.to(recipient.dtype)


def random_directions(
    recipient: Mapping[str, torch.Tensor], donor: Mapping[str, torch.Tensor], seed: int
) -> dict[str, torch.Tensor]:
    """For every tensor a Gaussian direction with the Euclidean norm of donor less recipient, fp32 on the CPU.

    One stream for all tensors in the order of their names: the same seed and names give the same directions.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in sorted(recipient):
        drawn = torch.randn(recipient[name].shape, generator=generator)
        found[name] = drawn * (distance([(recipient[name], donor[name])]) / drawn.norm())
    return found


def distance(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Euclidean norm of the difference over all pairs of tensors, in fp64."""
    return math.sqrt(sum(float((one.double().cpu() - other.double().cpu()).square().sum()) for one, other in pairs))
