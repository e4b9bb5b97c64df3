"""How the targets of poisoned concepts are chosen; apart from what chooses them, so that reading it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

DIFFICULTY, NEAREST, RANDOM = CHOICES = ("difficulty", "nearest", "random")


@dataclass(frozen=True, kw_only=True)
class TargetSelection:
    """How targets are chosen.

    Raises:
        ValueError: if a count is below 1, ``how`` is unknown, or a weight or a cosine is none.
    """

    how: str = CHOICES[0]
    """``difficulty``: what raises AD most; ``nearest``: what is hardest to see; ``random``: any."""
    least_alignment: float | None = None
    """Mean cosine that the pairs of a concept with its target must reach; None for the median of its targets, so that
    the better half is allowed."""
    alpha: float = 0.8
    """Weight of the feature part."""
    samples: int = 20
    """Captions of each concept and pictures of each target that the means are over."""
    reference: int = 500
    """Pairs of the set that D_s is measured against."""
    seed: int = 0
    """Of the samples, and of what is random."""

    def __post_init__(self) -> None:
        if self.how not in CHOICES:
            raise ValueError(f"how is {self.how!r}: expected one of {', '.join(CHOICES)}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}: expected a weight in [0, 1]")
        if self.least_alignment is not None and not -1 <= self.least_alignment <= 1:
            raise ValueError(f"least_alignment is {self.least_alignment}: expected a cosine, -1 to 1")
        if (fewest := min(self.samples, self.reference)) < 1:
            raise ValueError(f"samples are {self.samples}, reference is {self.reference}: {fewest} is below 1")
