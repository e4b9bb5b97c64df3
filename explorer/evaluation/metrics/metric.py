"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One quantity, computed of what one model drew with one seed."""

    name: str
    """Its key in ``evaluation.json``."""
    needs: tuple[str, ...]
    """What ``compute`` takes, in order: fields of :class:`~explorer.evaluation.drawings.Drawing` but its
    pictures, ``similarities`` (CLIP similarity of each picture, a row, to the prompt of each concept) and ``tau``."""
    compute: Callable[..., torch.Tensor]
    """A number or bool for each concept, or each pair of concepts."""
    by_group: bool = True
    """Whether it is of concepts, and so given for each group of them; False where it is of pairs."""
