"""Means, proportions, correlations and areas with their uncertainty; histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
"""Nominal coverage of every interval that says no other."""
AREA_DRAWS = 500
"""Of the bootstrap of an area."""
ROUNDING = 1e-12
"""Relative difference below which numbers are equal: what is left of it is of float64's rounding."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with an interval. Undefined bounds (one observation, or all alike) are NaN, never a made-up width."""

    value: float
    """The point estimate."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    n: int
    """Number of observations."""

    def as_json(self, name: str = "value") -> dict[str, float | None]:
        """The value by its ``name``, ``low`` and ``high``; bounds that are undefined are null."""
        low, high = (None if math.isnan(bound) else bound for bound in (self.low, self.high))
        return {name: self.value, "low": low, "high": high}


def mean_and_standard_error(values: Any) -> tuple[float, float]:
    """Mean and sd / sqrt(n) (sample sd, n - 1) of `[n]` values; the error is NaN for n = 1."""
    values = _finite("values", values)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def normal_interval(value: float, standard_error: float, *, n: int) -> Estimate:
    """``value +- z * standard_error``."""
    reach = normal_quantile() * standard_error
    return Estimate(value=value, low=value - reach, high=value + reach, n=n)


def wilson_interval(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """Wilson score interval of a proportion: inside [0, 1] and honest at 0 and 1 (Wilson, JASA 1927)."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"got {successes} successes of {trials} trials: expected 0 <= successes <= trials >= 1")
    z_squared = normal_quantile(confidence) ** 2
    share = successes / trials
    centre = (share + z_squared / (2 * trials)) / (1 + z_squared / trials)
    spread = share * (1 - share) / trials + z_squared / (4 * trials**2)
    reach = math.sqrt(z_squared * spread) / (1 + z_squared / trials)
    low = 0.0 if successes == 0 else centre - reach
    high = 1.0 if successes == trials else centre + reach
    return Estimate(value=share, low=low, high=high, n=trials)


def t_interval(values: Any) -> Estimate:
    """Student interval of the mean of `[n]` values, e.g. one per seed; bounds are NaN for n = 1, and where all are
    alike, which says nothing of how far the next one might be."""
    from scipy.special import stdtrit

    values = _finite("values", values)
    mean, error = mean_and_standard_error(values)
    reach = math.nan
    if np.ptp(values) > ROUNDING * np.abs(values).max():
        reach = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * error
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=len(values))


def ratio_of_means(values: Any, reference: Any) -> Estimate:
    """mean(values) / mean(reference) of two `[n]` series that are paired; bounds are NaN for n = 1, and where every
    value is in that ratio to its reference.

    The interval is Student's over the residuals ``values - ratio * reference``, the linearised variance of a ratio
    (Cochran 1977, *Sampling Techniques*, section 6.4): what moves both series of a pair alike does not widen it.

    Raises:
        ValueError: on lengths that differ, NaN, or a reference whose mean is not above 0.
    """
    values, reference = _finite("values", values), _finite("reference", reference)
    if len(values) != len(reference):
        raise ValueError(f"series have {len(values)} and {len(reference)} values: expected the same number")
    if (below := float(reference.mean())) <= 0:
        raise ValueError(f"the reference's mean is {below:g}: expected one above 0")
    ratio = float(values.mean()) / below
    residuals = values - ratio * reference
    if np.abs(residuals).max() <= ROUNDING * np.abs(values).max():
        residuals = np.zeros_like(residuals)
    spread = t_interval(residuals / below)
    return Estimate(value=ratio, low=ratio + spread.low, high=ratio + spread.high, n=len(values))


def nested_ratio(
    values: Sequence[Any], references: Sequence[Any], *, noises_shared: bool = False, draws: int = 10_000
) -> Estimate:
    """Mean over runs of mean(values) / mean(reference), with a percentile interval of a nested bootstrap: every draw
    takes runs with replacement, of each of them pairs with replacement and, where they are told apart, noises. A run
    that is taken twice has its pairs drawn twice, each time by themselves.

    Pairs and noises are crossed (each noise is of all pairs): both are drawn anew, each by itself. Unlike an interval
    over pairs alone it widens with what runs differ by; of few runs it is rather too narrow all the same (Davison and
    Hinkley 1997, *Bootstrap Methods and their Application*, section 3.8). Bounds are NaN where all draws agree.

    Args:
        values: of each run `[n]` values, or `[n, noises]`; both may differ between runs.
        references: of each run as many values, paired with the run's ``values``.
        noises_shared: whether the noises of all runs are the same ones, so that a draw takes the same of them all.

    Raises:
        ValueError: unless both have the same runs, of the same shapes and at least one; on NaN; if runs that share
            their noises have different numbers of them; or if a run's reference has a mean that is not above 0.
    """
    runs = [(_of_noises("values", first), _of_noises("references", second))
            for first, second in zip(values, references, strict=True)]  # fmt: skip
    if not runs or any(first.shape != second.shape for first, second in runs):
        raise ValueError(f"{len(runs)} runs: expected at least one, and as many values as references in each")
    if below := [float(second.mean()) for _, second in runs if second.mean() <= 0]:
        raise ValueError(f"a run's reference has the mean {below[0]:g}: expected one above 0")
    if noises_shared and len(counts := {first.shape[1] for first, _ in runs}) > 1:
        raise ValueError(f"runs that share their noises have {sorted(counts)} of them: expected the same number")
    random = np.random.default_rng(0)
    taken = random.integers(0, len(runs), (draws, len(runs)))
    heard = _drawn_noises(random, draws, runs[0][0].shape[1]) if noises_shared else None
    ratios = np.empty(taken.shape)
    for number, run in enumerate(runs):
        ratios[taken == number] = _drawn_ratios(random, *run, np.nonzero(taken == number)[0], heard)
    chosen = ratios.mean(axis=1)
    reach = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(chosen, [reach, 1 - reach])
    if np.nanmax(chosen) - np.nanmin(chosen) <= ROUNDING * np.nanmax(np.abs(chosen)):
        low = high = math.nan
    value = float(np.mean([first.mean() / second.mean() for first, second in runs]))
    return Estimate(value=value, low=float(low), high=float(high), n=sum(len(first) for first, _ in runs))


def _of_noises(name: str, values: Any) -> np.ndarray:
    """`[n, noises]`; of `[n]` one."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2 and array.size:
        return _finite(name, array.ravel()).reshape(array.shape)
    return _finite(name, array)[:, None]


def _drawn_ratios(
    random: np.random.Generator, first: np.ndarray, second: np.ndarray, of_draws: np.ndarray, heard: np.ndarray | None
) -> np.ndarray:
    """Of a run `[n, noises]`, taken by each of ``of_draws`` `[times]`, the ratio of its means over pairs that are drawn
    anew each time, `[times]`; NaN where the reference's is 0.

    Args:
        heard: `[draws, noises]` that each draw takes of all runs; None where every time has its own.
    """
    pairs = random.integers(0, len(first), (len(of_draws), len(first)))
    noises = _drawn_noises(random, len(of_draws), first.shape[1]) if heard is None else heard[of_draws]
    above, below = (_drawn_mean(each, pairs, noises) for each in (first, second))
    return np.divide(above, below, out=np.full(len(of_draws), np.nan), where=below > 0)


def _drawn_noises(random: np.random.Generator, draws: int, noises: int) -> np.ndarray:
    """`[draws, noises]`, with replacement; of one noise nothing is drawn."""
    return random.integers(0, noises, (draws, noises)) if noises > 1 else np.zeros((draws, 1), dtype=np.int64)


def _drawn_mean(values: np.ndarray, pairs: np.ndarray, noises: np.ndarray) -> np.ndarray:
    """Mean of `[n, noises]` over the pairs `[draws, n]` and noises that each draw takes, `[draws]`."""
    of_noises = np.stack([values[pairs, noise].mean(axis=1) for noise in range(values.shape[1])], axis=1)
    return np.take_along_axis(of_noises, noises, axis=1).mean(axis=1)


def pearson_correlation(first: Any, second: Any) -> Estimate:
    """Pearson's r of two `[n]` series with Fisher's z interval.

    Bounds are NaN for n <= 3, and where r is 1 or -1: of points on one line, nothing says how far the next one is off.

    Raises:
        ValueError: on lengths that differ, fewer than two points, NaN, or a series without variance.
    """
    first, second = _finite("first", first), _finite("second", second)
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"series have {len(first)} and {len(second)} values: expected the same, at least 2")
    for name, series in (("first", first), ("second", second)):
        if np.ptp(series) == 0:
            raise ValueError(f"all {len(series)} values of {name} are {series[0]:g}: r needs variance")
    r = float(np.corrcoef(first, second)[0, 1])
    if 1 - abs(r) < ROUNDING:
        r = math.copysign(1.0, r)
    low = high = math.nan
    if len(first) > 3 and abs(r) < 1:
        reach = normal_quantile() / math.sqrt(len(first) - 3)
        low, high = math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)
    return Estimate(value=r, low=low, high=high, n=len(first))


def rank_correlation(first: Any, second: Any) -> Estimate:
    """Spearman's rank correlation of two `[n]` series, equal values at their mean rank.

    Bounds are NaN for n <= 3, and where the orders are the same or opposed, which says nothing of how sure that is. The
    interval is Fisher's with the variance (1 + r^2 / 2) / (n - 3) (Bonett and Wright, Psychometrika 2000).

    Raises:
        ValueError: as :func:`pearson_correlation`.
    """
    from scipy.stats import rankdata

    r = pearson_correlation(rankdata(_finite("first", first)), rankdata(_finite("second", second))).value
    low = high = math.nan
    if len(first) > 3 and abs(r) < 1:
        reach = normal_quantile() * math.sqrt((1 + r**2 / 2) / (len(first) - 3))
        low, high = math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)
    return Estimate(value=r, low=low, high=high, n=len(first))


def exact_mcnemar(rises: int, falls: int) -> float:
    """Two-sided exact p of McNemar's test (1947): of pairs that changed, as many rise as fall; 1 where none changed.

    Raises:
        ValueError: on counts below 0.
    """
    if min(rises, falls) < 0:
        raise ValueError(f"got {rises} rises and {falls} falls: expected counts from 0")
    changed = rises + falls
    tail = sum(math.comb(changed, each) for each in range(min(rises, falls) + 1))
    return min(1.0, 2 * tail / 2**changed)


def area_under_curve(positives: Any, negatives: Any) -> float:
    """AUC: chance that a positive (poison) scores above a negative (benign), a tie counting one half.

    The Mann-Whitney statistic over n_pos * n_neg, in O(n log n).
    """
    positives, negatives = _finite("positives", positives), np.sort(_finite("negatives", negatives))
    below = np.searchsorted(negatives, positives, side="left")
    not_above = np.searchsorted(negatives, positives, side="right")
    return float((below + not_above).sum() / 2 / (len(positives) * len(negatives)))


def area_interval(positives: Any, negatives: Any, *, paired: bool = False) -> Estimate:
    """:func:`area_under_curve` with a percentile interval of a bootstrap.

    Bounds are NaN where a group has one value, and where all draws agree: of two groups that do not overlap, a
    bootstrap cannot say how far they might.

    Args:
        paired: values of one place in both belong to one thing, and are drawn together; else each group by itself.

    Raises:
        ValueError: on NaN, no values, or paired groups of different lengths.
    """
    positives, negatives = _finite("positives", positives), _finite("negatives", negatives)
    count, other = len(positives), len(negatives)
    if paired and count != other:
        raise ValueError(f"groups have {count} and {other} values: expected as many of both, to be paired")
    random, reach, drawn = np.random.default_rng(0), (1 - CONFIDENCE) / 2, []
    for _ in range(AREA_DRAWS):
        rows = random.integers(0, count, count)
        drawn.append(area_under_curve(positives[rows], negatives[rows if paired else random.integers(0, other, other)]))
    told = min(count, other) > 1 and np.ptp(drawn) > 0
    low, high = np.quantile(drawn, [reach, 1 - reach]) if told else (math.nan, math.nan)
    return Estimate(value=area_under_curve(positives, negatives), low=float(low), high=float(high),
                    n=count if paired else count + other)  # fmt: skip


def histogram(values: Any, *, bins: int = 40, value_range: tuple[float, float] | None = None) -> dict[str, Any]:
    """``{"edges": [bins + 1], "density": [bins]}``, the density integrating to 1 over the values in range.

    Two groups are comparable only with the same ``value_range``; a value outside it is refused, not dropped.
    """
    values = _finite("values", values)
    low, high = value_range if value_range is not None else (float(values.min()), float(values.max()))
    if values.min() < low or values.max() > high:
        raise ValueError(f"values span [{values.min():.4g}, {values.max():.4g}]: expected them inside [{low}, {high}]")
    if low == high:
        low, high = low - 0.5, high + 0.5
    density, edges = np.histogram(values, bins=bins, range=(low, high), density=True)
    return {"edges": edges.tolist(), "density": density.tolist()}


def normal_quantile(confidence: float = CONFIDENCE) -> float:
    """z with ``confidence`` of a standard normal inside [-z, z]."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _finite(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} has shape {list(array.shape)}: expected [n] with n >= 1")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(array)).sum())} NaN or infinite of {len(array)}")
    return array
