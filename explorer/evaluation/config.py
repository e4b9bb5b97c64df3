"""How the models are asked: by the evaluation, and for the naming study."""

from __future__ import annotations

from dataclasses import dataclass

DRAWING_VERSION = 3
"""Raised when something else is drawn or kept: what older versions stored is drawn anew."""
EVALUATION_NAME = "evaluation.json"
"""File of what was evaluated, in the folder of an evaluation and of a study's step."""
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
    """Pictures drawn at once at most; of 512 pixels 16, of larger ones fewer."""
    device: str = "cpu"
    """Torch device."""
    precision: str | None = None
    """Of every network: fp32, fp16 or bf16; without it fp32."""
    size: int | None = None
    """Pixels a side of the pictures; without it what each model was made for."""
    tau: float | None = None
    """CLIP similarity above which a picture shows what its prompt says; without it the control's tau_quantile."""
    tau_quantile: float = 0.10
    """Of the control's CLIP similarities, in (0, 1), where tau is not given."""
    maps: bool = True
    """Whether attention maps are kept; without them pictures of single concepts alone are drawn, which is all that
    metrics of pictures need."""
    two_concepts: bool = True
    """Whether prompts of two concepts are drawn as well where maps are kept, for how their maps overlap."""
    unrelated_distance: float | None = None
    """Text distance to the nearest poisoned concept above which one counts as unrelated; without it no such group."""

    def __post_init__(self) -> None:
        if self.unrelated_distance is not None and not self.unrelated_distance >= 0:
            raise ValueError(f"unrelated_distance is {self.unrelated_distance}: expected a distance from 0")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds are {self.seeds}: expected at least one, each once")
        if not 0 < self.tau_quantile < 1:
            raise ValueError(f"tau_quantile is {self.tau_quantile}: expected a share between 0 and 1")
        if self.tau is not None and not -1 <= self.tau <= 1:
            raise ValueError(f"tau is {self.tau}: expected a cosine from -1 to 1")


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
