"""Samples drawn without replacement, evenly or by strata, and what they say of a mean (Cochran, Sampling Techniques).

What the estimators of structure AD have in common, and what is not about structure distances.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """Samples drawn without replacement, from one population or from each of its strata. All tensors on the CPU."""

    rows: torch.Tensor
    """`[m]` int64 drawn rows, ascending."""
    stratum: torch.Tensor
    """`[m]` int64 stratum of each, 0..strata - 1."""
    sizes: torch.Tensor
    """`[strata]` int64 samples that each stratum has, drawn or not."""

    @property
    def counts(self) -> torch.Tensor:
        """`[strata]` int64 samples drawn from each."""
        return torch.bincount(self.stratum, minlength=len(self.sizes))

    @property
    def weights(self) -> torch.Tensor:
        """`[strata]` fp64 share of all samples, summing to one."""
        return self.sizes.double() / self.sizes.sum()

    def error_factors(self) -> torch.Tensor:
        """`[strata]` fp64: what a stratum's sample variance contributes to a mean's variance, W^2 (1 - m/N) / m."""
        counts, sizes = self.counts.double(), self.sizes.double()
        return self.weights.square() * (1 - counts / sizes) / counts

    def standard_error(self, values: torch.Tensor) -> float:
        """Of the stratified mean of the drawn rows' ``values`` `[m]`; strata drawn whole contribute nothing.

        NaN where a stratum that is not drawn whole has one sample: its variance is unknown.
        """
        variance = 0.0
        for stratum, factor in enumerate(self.error_factors().tolist()):
            if factor:
                known = self.counts[stratum] > 1
                variance += factor * values[self.stratum == stratum].var().item() if known else math.nan
        return math.sqrt(variance)

    def averaging(self, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
        """`[m, strata]` averages of each stratum's columns; weights and error factors of strata, then of columns."""
        counts = self.counts.double()
        # The sample variance has m - 1 in its denominator; one observation has none, unless it is the whole stratum.
        factors = self.error_factors() * counts / (counts - 1)
        factors[self.counts == self.sizes] = 0
        factors[(self.counts == 1) & (self.sizes > 1)] = math.nan
        averages = torch.zeros(len(self.rows), len(counts), dtype=dtype)
        averages[torch.arange(len(self.rows)), self.stratum] = (1 / counts)[self.stratum].to(dtype)
        of_strata = (self.weights, factors)
        of_columns = [(part / counts)[self.stratum].to(dtype) for part in of_strata]
        return tuple(part.to(device) for part in (averages, *of_strata, *of_columns))


def draw_evenly(population: torch.Tensor | int, samples: int, seed: int, least: int) -> Draw:
    """``samples`` rows, each as likely, of those `[n]` in ``population`` or, where it is a number n, of 0..n-1.

    Memory grows with the samples, not with n, where these are few of a number of rows.

    Raises:
        ValueError: unless ``least`` <= samples <= n.
    """
    n = population if isinstance(population, int) else len(population)
    if not least <= samples <= n:
        raise ValueError(f"samples is {samples}: expected {least} to {n}")
    drawn = torch.from_numpy(np.random.default_rng(seed).choice(n, samples, replace=False, shuffle=False))
    rows = (drawn if isinstance(population, int) else population[drawn]).sort().values
    return Draw(rows=rows, stratum=torch.zeros_like(rows), sizes=torch.tensor([n]))


def draw_strata(stratum: torch.Tensor, allocation: Sequence[int], seed: int) -> Draw:
    """As many of each stratum's samples as ``allocation`` `[strata]` says, each as likely within its stratum.

    Args:
        stratum: `[N]` int64 stratum of each sample, 0..strata - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for number, count in enumerate(allocation):
        members = torch.nonzero(stratum == number).flatten()
        drawn.append(members[torch.randperm(len(members), generator=generator)[:count]])
    rows = torch.cat(drawn).sort().values
    return Draw(rows=rows, stratum=stratum[rows], sizes=torch.bincount(stratum, minlength=len(allocation)))


def neyman_allocation(sizes: Sequence[int], deviations: Sequence[float], samples: int) -> list[int]:
    """Samples for each stratum that make the variance of the stratified mean least, exactly ``samples`` in all.

    Every stratum gets two (one where it has no more), since its variance must be estimated; every further sample goes
    where it lowers the variance most, which is where N_h S_h / sqrt(n_h (n_h + 1)) is largest (Wright, "A simple method
    of exact optimal sample allocation under stratification", 2014).

    Args:
        sizes: samples N_h of each stratum.
        deviations: standard deviation S_h of each stratum; only their ratios matter.

    Raises:
        ValueError: if ``samples`` is fewer than two a stratum, or more than there are.
    """
    counts = [min(2, size) for size in sizes]
    if not sum(counts) <= samples <= sum(sizes):
        raise ValueError(
            f"samples is {samples}: expected {sum(counts)} (two of each of {len(sizes)} strata) to {sum(sizes)}"
        )
    # Where no stratum has any spread, spread by size.
    spreads = list(deviations) if any(deviations) else [1.0] * len(sizes)

    def priority(stratum: int) -> tuple[float, int]:
        count = counts[stratum]
        return -sizes[stratum] * spreads[stratum] / math.sqrt(count * (count + 1)), stratum

    queue = [priority(stratum) for stratum, size in enumerate(sizes) if counts[stratum] < size]
    heapq.heapify(queue)
    for _ in range(samples - sum(counts)):
        _, stratum = heapq.heappop(queue)
        counts[stratum] += 1
        if counts[stratum] < sizes[stratum]:
            heapq.heappush(queue, priority(stratum))
    return counts
