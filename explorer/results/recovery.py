"""Table 6: an imploded model fine-tuned on benign pairs."""

from __future__ import annotations

import numpy as np

from explorer.core.intervals import Estimate, ratio_of_means
from explorer.results import paper
from explorer.results.comparison import Comparison, Quantity
from explorer.results.measured import Measured
from explorer.results.table_rows import recovery_rows


def recovery(measured: Measured) -> Comparison:
    """Table 6: fine-tuning an imploded model on benign pairs."""
    table = paper.rows(6)
    poisoned, *recovered, benign = (row["accuracy"]["all"] for row in table)
    here, first, done = None, None, (series := _recovered(measured)) is not None
    if done:
        before, after = np.array(series[0]), np.array(series[2])
        sizes = [np.array(per_concept) for _, per_concept in series[1]]
        here, first = _share(sizes[-1] - before, after - before), _share(sizes[0] - before, sizes[-1] - before)
    return Comparison(
        name="Table 6", about="Benign pairs recover a part of what was lost, most of it with the first of them.",
        quantities=(
            Quantity(what="recovered with the most benign pairs, of what was lost", claim=(0.0, 1.0),
                     paper=(recovered[-1] - poisoned) / (benign - poisoned), here=here, over="concepts",
                     unknown="the control draws no more than the poisoned model" if done and here is None else ""),
            Quantity(what="of that, recovered with the fewest", claim=(0.25, 1.0),
                     paper=(recovered[0] - poisoned) / (recovered[-1] - poisoned), here=first, over="concepts",
                     unknown="nothing was recovered with the most" if done and first is None else ""),
        ), missing="models of `study recover`, and the step retrained",
        rows=recovery_rows(*series) if done else (),
    )  # fmt: skip


def _share(part: np.ndarray, whole: np.ndarray) -> Estimate | None:
    """None where the whole is no gain, so that nothing is a share of it."""
    return ratio_of_means(part, whole) if whole.mean() > 0 else None


def _recovered(measured: Measured) -> tuple[list[float], list[tuple[int, list[float]]], list[float]] | None:
    """Accuracy of every concept: of the poisoned model, of the recovered ones with their benign pairs, fewest first,
    and of the control."""
    control = None if measured.retrained is None else measured.retrained["control"]
    if control is None:
        return None
    for arm in measured.retrained["arms"].values():
        if arm["recovery"] and arm["unfiltered"] is not None:
            sizes = sorted(arm["recovery"], key=lambda model: model["kept"])
            recovered = [(model["kept"], model["per_concept"]) for model in sizes]
            return arm["unfiltered"]["per_concept"], recovered, control["per_concept"]
    return None
