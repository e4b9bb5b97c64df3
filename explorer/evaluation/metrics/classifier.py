"""Whether a classifier takes the pictures for what their prompts say (Ding et al. 2024, section 5.4)."""

from __future__ import annotations

import torch

from explorer.evaluation.metrics.metric import Metric


def class_is_asked(classes: torch.Tensor, class_matches: torch.Tensor) -> torch.Tensor:
    """Whether the class of each picture is one of its concept's; NaN for a concept without a class."""
    right = class_matches[torch.arange(len(classes)), classes].double()
    return right.masked_fill(~class_matches.any(dim=1), torch.nan)


CLASSIFIER_ACCURACY = Metric(name="classifier_accuracy", needs=("classes", "class_matches"), compute=class_is_asked)


def looks_broken(classes: torch.Tensor, broken_class: int) -> torch.Tensor:
    """Whether each picture is taken for a broken one: undefined, in the words of Conjecture 4.3. A picture that is
    neither this nor of what was asked is misaligned."""
    return classes == broken_class


CLASSIFIER_BROKEN = Metric(name="classifier_broken", needs=("classes", "broken_class"), compute=looks_broken)
METRICS = (CLASSIFIER_ACCURACY, CLASSIFIER_BROKEN)
