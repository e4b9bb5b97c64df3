"""Shape and mass of the maps of the concepts' words."""

from __future__ import annotations

import torch

from explorer.attention.statistics import column_mass, gearys_c, scatter
from explorer.evaluation.metrics.metric import Metric

NO_ATTENTION = 1e-12
"""Below fp16's smallest number: added to maps, it gives a word that is read nowhere a constant map."""


def late_gearys_c(late_maps: torch.Tensor) -> torch.Tensor:
    """Geary's C over the last steps alone, in which a word may be read nowhere."""
    return gearys_c(late_maps + NO_ATTENTION)


METRICS = (
    Metric(name="scatter", needs=("maps",), compute=scatter),
    Metric(name="contiguity", needs=("maps",), compute=gearys_c),
    Metric(name="late_contiguity", needs=("late_maps",), compute=late_gearys_c),
    Metric(name="word_mass", needs=("maps",), compute=column_mass),
    Metric(name="late_word_mass", needs=("late_maps",), compute=column_mass),
)
