"""AD of one pair set as the screens need it: parts, distributions at every stop of alpha, the mean offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from explorer.core.intervals import area_under_curve, histogram
from explorer.pairs.poison_flags import recorded_by_flags

if TYPE_CHECKING:
    import pandas

    from explorer.alignment.pair_sets import Measurement
    from explorer.pairs.poison_flags import PoisonFlags

ALPHA_STOPS = tuple(round(step / 20, 2) for step in range(21))
"""Stops of the alpha slider: the distribution of AD(x, y) is stored, exact, at each of them."""
SHARES = tuple(round(step / 100, 2) for step in range(101))
"""Shares at which a distribution function is stored as quantiles."""
BINS = 40
DIGITS = 5


class DescribedPairs(Protocol):
    """Pairs of any kind: a pair set, or an arm's pairs in a study."""

    @property
    def table(self) -> pandas.DataFrame:
        """One row a pair, with the columns ``is_poison``, ``poisoned_concept`` and ``target_concept``."""

    @property
    def data_hash(self) -> str:
        """Identifies the pairs."""


def describe_measurement(name: str, pairs: DescribedPairs, measured: Measurement) -> dict[str, Any]:
    """The entry of ``alignment.json`` about pairs: AD, its moments, the mean offset and all distributions."""
    difficulty, flags = measured.difficulty, measured.flags
    feature, structure = difficulty.feature_distance.numpy(), difficulty.structure_distance.numpy()
    mixtures = [alpha * feature + (1 - alpha) * structure for alpha in ALPHA_STOPS]
    return {
        "name": name,
        "poisoned_concept_count": poisoned_concept_count(pairs, measured),
        "poison_recorded": flags.recorded,
        "pairs": len(flags),
        **flags.counts(),
        "split": measured.split or "all",
        "data_hash": pairs.data_hash,
        "extractor": measured.extractor,
        "alignment_difficulty": significant(difficulty.summary(), digits=9),
        "moments": describe_moments(feature, structure),
        "mean_offset": significant(measured.offset.summary()),
        "local": None if measured.local is None else significant(measured.local.summary()),
        "alpha_stops": list(ALPHA_STOPS),
        "shares": list(SHARES),
        "distributions": {
            "feature_distance": describe_distribution(feature, flags, value_range=(0.0, 1.0)),
            "structure_distance": describe_distribution(structure, flags),
            "sample_ad": [describe_distribution(mixture, flags) for mixture in mixtures],
            **_local_distributions(measured),
        },
    }


def _local_distributions(measured: Measurement) -> dict[str, Any]:
    """Of the picture scatter, over the pairs whose neighbourhoods are measured; nothing without any."""
    if measured.local is None:
        return {}
    rows, scatter = measured.local.rows.numpy(), measured.local.picture_scatter.numpy()
    return {"picture_scatter": describe_distribution(scatter, measured.flags[rows])}


def poisoned_concept_count(pairs: DescribedPairs, measured: Measurement) -> int | None:
    """C_P: how many concepts have poison among the measured pairs; None unless it is known of every pair."""
    columns = ["is_poison", "poisoned_concept", "target_concept"]
    return recorded_by_flags(pairs.table[columns].iloc[measured.rows]).concept_count


def describe_moments(feature: np.ndarray, structure: np.ndarray) -> dict[str, float] | None:
    """Sample (co)variances of D_img:txt and D_s, from which AD's standard error follows at any alpha.

    N SE^2 = a^2 Var(D_img:txt) + 4 (1-a)^2 Var(D_s) + 4 a (1-a) Cov. None for fewer than two pairs.
    """
    if len(feature) < 2:
        return None
    covariance = np.cov(feature, structure)
    return {
        "feature_variance": float(covariance[0, 0]),
        "structure_variance": float(covariance[1, 1]),
        "covariance": float(covariance[0, 1]),
    }


def describe_distribution(
    scores: np.ndarray, flags: PoisonFlags, value_range: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Histogram (common edges), quantiles at ``SHARES``, mean and size of each kind, and poison's AUC.

    The kinds are ``benign``, ``poisoned`` and ``unrecorded``. ``auc`` is the chance that a poisoned pair scores above a
    benign one; None where no pair is known to be the one or the other.
    """
    low, high = value_range or (float(scores.min()), float(scores.max()))
    groups = {}
    for name in ("benign", "poisoned", "unrecorded"):
        chosen = scores[getattr(flags, name)]
        if len(chosen):
            groups[name] = {
                "n": len(chosen),
                "mean": significant(float(chosen.mean())),
                "density": significant(histogram(chosen, bins=BINS, value_range=(low, high))["density"], digits=4),
                "quantiles": significant(np.quantile(chosen, SHARES)),
            }
    auc = area_under_curve(scores[flags.poisoned], scores[flags.benign]) if flags.comparable else None
    return {"range": significant([low, high], digits=9), "groups": groups, "auc": significant(auc)}


def significant(value: Any, digits: int = DIGITS) -> Any:
    """``value`` with every float in it rounded to ``digits`` significant digits; arrays become lists."""
    if isinstance(value, dict):
        return {key: significant(entry, digits) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [significant(entry, digits) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.{digits}g}")
    return value
