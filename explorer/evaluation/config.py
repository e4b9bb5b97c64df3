"""How the models are asked: by the evaluation, and for the naming study."""

from __future__ import annotations

from dataclasses import dataclass

SHEET_CONCEPTS = 20
"""Concepts of either group on the contact sheet."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How every model is asked."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Pictures per concept; a seed's noise is the same for every concept and model."""
    steps: int = 20
    """DDIM steps."""
    guidance_scale: float = 4.0
    """Classifier-free guidance scale."""
    batch_size: int = 40
    """Pictures drawn at once."""
    device: str = "cpu"
    """Torch device."""

    def __post_init__(self) -> None:
        if len(self.seeds) < 2:
            raise ValueError(f"seeds are {self.seeds}: expected at least two, for an interval")


@dataclass(frozen=True, kw_only=True)
class NamingConfig:
    """What the readers are shown."""

    seed: int = 0
    """Noise of every picture, the same for all concepts and models."""
    order_seed: int = 0
    """Order of the pictures."""
    steps: int = 20
    """DDIM steps."""
    guidance_scale: float = 4.0
    """Classifier-free guidance scale."""
    concepts_per_group: int = SHEET_CONCEPTS
    """From the poison pool, and as many that no poison targets: those of the contact sheet."""
