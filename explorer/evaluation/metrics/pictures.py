"""What the universal extractor sees in the pictures."""

from __future__ import annotations

import torch

from explorer.evaluation.metrics.metric import Metric

UTILITY = "share of pictures whose CLIP similarity is above tau and whose top-1 concept is the prompt's"


def top_concept_is_asked(similarities: torch.Tensor) -> torch.Tensor:
    """Whether each picture, in the order of the concepts, is nearest to its own."""
    return similarities.argmax(dim=1) == torch.arange(len(similarities))


def useful(similarities: torch.Tensor, tau: float) -> torch.Tensor:
    """``UTILITY``; in fp64, that of tau."""
    return top_concept_is_asked(similarities) & (similarities.diagonal().double() > tau)


ACCURACY = Metric(name="accuracy", needs=("similarities",), compute=top_concept_is_asked)
CLIP_SIMILARITY = Metric(name="clip_similarity", needs=("similarities",), compute=torch.Tensor.diagonal)
METRICS = (ACCURACY, CLIP_SIMILARITY, Metric(name="utility", needs=("similarities", "tau"), compute=useful))
