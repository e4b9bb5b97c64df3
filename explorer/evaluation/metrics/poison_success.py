"""Whether a poisoned concept is drawn as the target of its poison."""

from __future__ import annotations

import torch

from explorer.core.poison_record import PoisonRecord
from explorer.evaluation.metrics.metric import Metric
from explorer.pairs.concept_list import ConceptList

NO_TARGET = -1


def target_rows(poison: PoisonRecord, concepts: ConceptList) -> torch.Tensor:
    """int64 ``[concepts]``: where in the list the target of each concept's poison stands; ``NO_TARGET`` for a concept
    that is not poisoned, or whose target is not recorded or not in the list."""
    targets = (concepts.ranks.get(poison.targets.get(name, ""), NO_TARGET) for name in concepts.names)
    return torch.tensor(list(targets))


def why_no_targets(poison: PoisonRecord) -> str:
    """Why :func:`target_rows` names none."""
    if poison.poisoned is False:
        return "the model is not poisoned"
    return "no target of the poison that is recorded is in the concept list" if poison.targets else (
        "no record names the targets of the poison"
    )  # fmt: skip


def target_is_seen(similarities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Whether each picture is nearest to the target of its concept's poison; NaN for a concept without one."""
    seen = (similarities.argmax(dim=1) == targets).double()
    return seen.masked_fill(targets == NO_TARGET, torch.nan)


METRICS = (Metric(name="poison_success", needs=("similarities", "targets"), compute=target_is_seen),)
