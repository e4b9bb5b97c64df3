"""Whether pictures show what their prompt says, whether they please, and both: the metrics of Ding et al. (2024),
section 5.1."""

from __future__ import annotations

import torch

from explorer.evaluation.metrics.metric import Metric

CLIP_AESTHETIC_UTILITY = "share of pictures whose CLIP similarity is above tau and whose aesthetics are above threshold"
"""The paper's model utility."""


def shows_its_prompt(similarities: torch.Tensor, tau: float) -> torch.Tensor:
    """Whether the CLIP similarity of each picture to its own prompt is above tau; in fp64, that of tau."""
    return similarities.diagonal().double() > tau


def score(aesthetic_scores: torch.Tensor) -> torch.Tensor:
    """As the head gave it."""
    return aesthetic_scores


def pleases(aesthetic_scores: torch.Tensor, aesthetic_threshold: float) -> torch.Tensor:
    """Whether the score of each picture is above the threshold."""
    return aesthetic_scores.double() > aesthetic_threshold


def shows_and_pleases(
    similarities: torch.Tensor, tau: float, aesthetic_scores: torch.Tensor, aesthetic_threshold: float
) -> torch.Tensor:
    """``CLIP_AESTHETIC_UTILITY``."""
    return shows_its_prompt(similarities, tau) & pleases(aesthetic_scores, aesthetic_threshold)


SCORES = ("aesthetic_scores", "aesthetic_threshold")
METRICS = (
    Metric(name="clip_accuracy", needs=("similarities", "tau"), compute=shows_its_prompt),
    Metric(name="aesthetic_score", needs=SCORES[:1], compute=score),
    Metric(name="aesthetics", needs=SCORES, compute=pleases),
    Metric(name="clip_aesthetic_utility", needs=("similarities", "tau", *SCORES), compute=shows_and_pleases),
)
