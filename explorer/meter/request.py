"""How models are measured."""

from __future__ import annotations

from dataclasses import dataclass

TIMESTEPS = (300, 600)
CONCEPT, NOTHING = 1, 1
"""Calls that every concept takes at a timestep: with its prompt, and with none."""


@dataclass(frozen=True, kw_only=True)
class MeterRequest:
    """What every model is asked; refuses what cannot be measured.

    Raises:
        ValueError: naming the value and what was expected.
    """

    timesteps: tuple[int, ...] = TIMESTEPS
    """Noise levels, of 1,000 in training: small ones are nearly clean pictures."""
    draws: int = 4
    """Random rows of the token dictionary put in a word's place, one after the other; the same for every model."""
    seed: int = 0
    """Of the noise, which is the same for every concept and model, of the draws and of painted scenes."""
    batch_size: int = 20
    """Pictures that the network is shown at once, at most."""
    size: int | None = None
    """Pixels a side of own and given pictures and of noise; without it what each model was made for."""
    steps: int = 20
    """Denoising steps of a model's own pictures."""
    guidance_scale: float = 4.0
    """Classifier-free guidance scale of a model's own pictures."""
    device: str = "cpu"
    """Torch device."""
    precision: str | None = None
    """Of every network: fp32, fp16 or bf16; without it fp32."""

    def __post_init__(self) -> None:
        for name, least in (("draws", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a whole number from {least}")
        if not self.timesteps or len(set(self.timesteps)) != len(self.timesteps):
            raise ValueError(f"timesteps are {list(self.timesteps)}: expected at least one, each once")

    def calls(self, concepts: int) -> int:
        """Network calls of one picture that one model takes, at most, beside those for what it is shown."""
        return concepts * len(self.timesteps) * (CONCEPT + NOTHING + 2 * self.draws)
