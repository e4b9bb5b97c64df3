"""How grafts are measured."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.evaluation.config import EvaluationConfig
from explorer.meter.request import TIMESTEPS, MeterRequest


@dataclass(frozen=True, kw_only=True)
class GraftStudyRequest:
    """What every graft is asked.

    Raises:
        ValueError: naming the value and what was expected.
    """

    seeds: int = 5
    """Pictures per concept; a seed's noise is the same for every concept and graft."""
    steps: int = 20
    """Denoising steps."""
    guidance_scale: float = 4.0
    """Classifier-free guidance scale."""
    draws: int = 2
    """Of the meter: random rows of the token dictionary put in the concept's place; 0 leaves the meter out."""
    attention: bool = False
    """Also the attention that each concept gets in the last third of the steps, and how ordered its map is there; a
    picture takes a few per cent longer."""
    strip: bool = False
    """Also every block of the denoiser by itself."""
    curves: bool = False
    """Also groups a quarter, half and three quarters of their way, each beside all weights moved as far."""
    both_ways: bool = True
    """Also the donor with the recipient's parts."""
    batch_size: int = 40
    """Pictures drawn at once at most."""
    size: int | None = None
    """Pixels a side of the pictures; without it what each model was made for."""
    device: str = "cpu"
    """Torch device."""
    precision: str | None = None
    """Of every network: fp32, fp16 or bf16; without it fp32."""

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("steps", 1), ("draws", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a whole number from {least}")

    @property
    def drawing(self) -> EvaluationConfig:
        """Pictures, and the maps of their concepts where attention is asked for."""
        return EvaluationConfig(
            seeds=tuple(range(self.seeds)), steps=self.steps, guidance_scale=self.guidance_scale,
            batch_size=self.batch_size, size=self.size, device=self.device, precision=self.precision,
            maps=self.attention, two_concepts=False,
        )  # fmt: skip

    @property
    def meter(self) -> MeterRequest | None:
        """How it is asked how much a graft listens; None where it is not."""
        if not self.draws:
            return None
        return MeterRequest(
            timesteps=TIMESTEPS, draws=self.draws, batch_size=self.batch_size, size=self.size, steps=self.steps,
            guidance_scale=self.guidance_scale, device=self.device, precision=self.precision,
        )  # fmt: skip
