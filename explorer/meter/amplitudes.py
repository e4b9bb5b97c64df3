"""The sizes that the meter reads off differences of predictions; shapes are those of latents.

Sizes are *amplitudes*, not squares: a model that changes its prediction by half has half the amplitude and a quarter
of the square.
"""

from __future__ import annotations

import torch

from explorer.generation.amplitudes import amplitude_map


def amplitude(difference: torch.Tensor) -> torch.Tensor:
    """Root of the sum over channels of squares, averaged over places: ``[..., C, h, w]`` to fp64 ``[...]``.

    Of a semantic sensitivity map (Eq. 6 of its paper, a sum over channels of squares, averaged over draws) this is the
    root at every place and for every draw by itself.
    """
    return amplitude_map(difference.double()).mean((-2, -1))


def common_part(guidance: torch.Tensor) -> torch.Tensor:
    """The mean over concepts of guidance vectors ``[T, n, C, h, w]``, ``[T, C, h, w]``.

    It is what any of these prompts does, whichever noun it has. Of n nouns without anything in common it is not 0 but
    1 / sqrt(n) of the amplitude of one.
    """
    return guidance.double().mean(1)


def noun_part(guidance: torch.Tensor) -> torch.Tensor:
    """What is left of guidance vectors ``[T, n, C, h, w]`` without :func:`common_part`: what the noun itself does."""
    return guidance.double() - common_part(guidance)[:, None]


def cosines(guidance: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Cosine of the guidance vectors of two models, over channels and places: ``[T, n, C, h, w]`` to ``[T, n]``; NaN
    where one of them is 0."""
    one, other = guidance.double().flatten(2), reference.double().flatten(2)
    return (one * other).sum(-1) / (one.norm(dim=-1) * other.norm(dim=-1))
