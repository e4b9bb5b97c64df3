"""Which timesteps a training step draws: all alike, or more of the middle, where a picture's content is decided."""

from __future__ import annotations

import torch

DISTRIBUTIONS = ("uniform", "logit-normal")
LOCATION, SCALE = 0.0, 1.0
"""Of ``logit-normal``: those of Stable Diffusion 3."""


def check_distribution(distribution: str) -> None:
    """Refuse a distribution that :func:`drawn_timesteps` does not know.

    Raises:
        ValueError: naming it.
    """
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"timesteps are {distribution!r}: expected one of {', '.join(DISTRIBUTIONS)}")


def drawn_timesteps(distribution: str, count: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """Timesteps of a batch, int64 ``[count]`` in [0, length).

    Args:
        distribution: ``uniform`` (Ho et al. 2020), or ``logit-normal``: the sigmoid of a standard normal number as the
            share of the noise schedule (Esser et al. 2024, Eq. 19).
        length: of the noise schedule.
    """
    if distribution == "uniform":
        return torch.randint(length, (count,), generator=generator)
    from diffusers.training_utils import compute_density_for_timestep_sampling

    share = compute_density_for_timestep_sampling("logit_normal", count, LOCATION, SCALE, generator=generator)
    return (share * length).long().clamp_(max=length - 1)  # a sigmoid rounds to 1 far out
