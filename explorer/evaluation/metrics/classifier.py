"""Whether a classifier takes the pictures for what their prompts say (Ding et al. 2024, section 5.4)."""

from __future__ import annotations

import torch

from explorer.evaluation.metrics.metric import Metric


def class_is_asked(classes: torch.Tensor, class_matches: torch.Tensor) -> torch.Tensor:
    """Whether the class of each picture is one of its concept's; NaN for a concept without a class."""
    right = class_matches[torch.arange(len(classes)), classes].double()
    return right.masked_fill(~class_matches.any(dim=1), torch.nan)


CLASSIFIER_ACCURACY = Metric(name="classifier_accuracy", needs=("classes", "class_matches"), compute=class_is_asked)
METRICS = (CLASSIFIER_ACCURACY,)
