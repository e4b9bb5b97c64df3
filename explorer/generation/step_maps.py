"""Guidance and sensitivity maps as a comparison keeps them: 8 bits a place, one scale a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


DRAWS = 8
"""Random words put in a word's place, one after the other; so many had the first measurements of this."""
STEPS = 5
"""Steps of a generation that are measured, where nobody says which."""
OWN = 1
"""Prediction with the prompt as it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepMaps:
    """Maps over steps; ``values * scales[:, None, None]`` are amplitudes on the scale of noise, off by at most half a
    scale."""

    values: np.ndarray
    """uint8 ``[n, h, w]``."""
    scales: np.ndarray
    """fp32 ``[n]``, amplitude per unit of ``values``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WordSensitivity:
    """What one word changes, at some steps."""

    steps: tuple[int, ...]
    """Which, from 0."""
    maps: StepMaps
    """Means over draws, one for each step."""
    draws: np.ndarray
    """fp32 ``[steps, draws]``: amplitude of every draw, averaged over places; their scatter is the mean's error."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptLatents:
    """Latents of some steps of a generation, from which sensitivity can still be measured."""

    steps: tuple[int, ...]
    """Which, from 0."""
    samples: np.ndarray
    """fp32 ``[steps, C, h, w]``, as :class:`~explorer.generation.recorded_steps.Trajectory` has them."""
    timesteps: np.ndarray
    """fp32 ``[steps]``."""


def spread_steps(steps: int) -> tuple[int, ...]:
    """``STEPS`` of ``steps`` steps, from 0, evenly spread; all of them where there are no more."""
    return tuple(range(steps)) if steps <= STEPS else tuple(int((at + 0.5) * steps / STEPS) for at in range(STEPS))


def guidance_steps(guidance: torch.Tensor) -> StepMaps:
    """Guidance maps ``[steps, images, h, w]``, the first image's: index 0 is their mean, ``i + 1`` step ``i``."""
    maps = guidance[:, 0].float().numpy()
    return quantise_maps(np.concatenate([maps.mean(0, keepdims=True), maps]))


def word_sensitivity(steps: tuple[int, ...], amplitudes: torch.Tensor) -> WordSensitivity:
    """Of what :func:`~explorer.generation.sensitivity.sensitivity_maps` measured at ``steps``, ``[steps, draws, h,
    w]``."""
    amplitudes = amplitudes.float().numpy()
    return WordSensitivity(steps=steps, maps=quantise_maps(amplitudes.mean(1)), draws=amplitudes.mean((2, 3)))


def quantise_maps(maps: np.ndarray) -> StepMaps:
    """Maps ``[n, h, w]``, finite and at least 0, in 8 bits.

    Raises:
        ValueError: if they hold anything else.
    """
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise ValueError("maps hold negative or non-finite values: expected amplitudes")
    scales = (maps.max((1, 2)) / 255).astype(np.float32)
    units = np.maximum(scales, np.finfo(np.float32).tiny)[:, None, None]
    return StepMaps(values=(maps / units).round().clip(0, 255).astype(np.uint8), scales=scales)


def sensitivity_tensors(words: Mapping[int, WordSensitivity]) -> dict[str, np.ndarray]:
    """As a comparison's file holds them; :func:`read_sensitivity` reads them."""
    tensors = {}
    for word, measured in words.items():
        parts = {"values": measured.maps.values, "scales": measured.maps.scales, "draws": measured.draws,
                 "steps": np.asarray(measured.steps, np.int64)}  # fmt: skip
        tensors |= {f"sensitivity.{word}.{name}": array for name, array in parts.items()}
    return tensors


def read_sensitivity(tensors: dict[str, Any], words: list[int]) -> dict[int, WordSensitivity]:
    """Of the words named, from a file's tensors."""

    def read(word: int) -> WordSensitivity:
        part = {name: tensors[f"sensitivity.{word}.{name}"] for name in ("values", "scales", "draws", "steps")}
        maps = StepMaps(values=part["values"], scales=part["scales"])
        return WordSensitivity(steps=tuple(part["steps"].tolist()), maps=maps, draws=part["draws"])

    return {word: read(word) for word in words}
