"""When a judge's word for a picture is sure enough for a tick, told by the pictures that the control gets right.

A judge with a closed list of words names something in every picture, and its similarity alone is high for blobs, too.
Of the imploded model's pictures in IconWorld's naming study those that it names with a high similarity *and* well
before the next concept are mostly those that readers name (docs/ui.md has the counts, and what the rule costs). How
high and how well is on the extractor's own scale, so that it is taken from the control.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

QUANTILE = 0.25
"""Of what the control's right pictures have: three quarters of them are sure in either way."""
LEAST = 8
"""Right pictures that a quartile is taken of."""
BOUNDS = ("clip_similarity", "margin")


def sure_bounds(verdicts: Sequence[dict[str, Any]], concepts: Sequence[str]) -> dict[str, Any] | None:
    """Lowest similarity and margin of a sure verdict; None where the control has fewer than :data:`LEAST` right.

    Args:
        verdicts: of the control's pictures, each with ``top_concept``, ``clip_similarity`` and ``margin``, the
            similarity of the concept named first less that of the second.
        concepts: what each should show.

    Returns:
        ``clip_similarity`` and ``margin``, and ``pictures``, how many these quartiles are of.
    """
    right = [verdict for verdict, concept in zip(verdicts, concepts, strict=True)
             if verdict.get("top_concept") == concept and verdict.get("margin") is not None]  # fmt: skip
    if len(right) < LEAST:
        return None
    bounds = {name: round(float(np.quantile([each[name] for each in right], QUANTILE)), 4) for name in BOUNDS}
    return bounds | {"pictures": len(right)}


def is_sure(verdict: dict[str, Any], bounds: dict[str, Any]) -> bool:
    """Whether a verdict that names the right concept lies within ``bounds``."""
    return all(verdict[name] >= bounds[name] for name in BOUNDS)
