"""Means and ratios of a measure as ``meter.json`` says them; whoever reads it need not load torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from explorer.core.intervals import Estimate, ratio_of_means


def as_json(estimate: Estimate) -> dict[str, Any]:
    """``value``, ``low``, ``high`` (None without an interval) and ``n``."""
    return estimate.as_json() | {"n": estimate.n}


def ratio(values: np.ndarray, reference: np.ndarray) -> dict[str, Any] | None:
    """Of the means of two fp64 ``[n]``, paired by concept; None where the reference is 0, as the noun's part of a
    single concept's guidance vector is."""
    return as_json(ratio_of_means(values, reference)) if reference.mean() > 0 else None


def known(value: float) -> float | None:
    """The number, or None for NaN, which JSON has not."""
    return None if math.isnan(value) else value
