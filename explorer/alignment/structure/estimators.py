"""Structure AD and every sample's D_s from a random part of the columns, with standard errors.

For sets whose N^2 pairs are too many. Some columns k are drawn; every sample's disparity to them is one product of
N x m, and its column sums are the *exact* D_s of the m drawn samples. Three estimators read these numbers:

- ``landmarks``: m samples, each as likely; D_s(i) is the mean disparity to them.
- ``rows``: the same draw, but D_s of a sample that was not drawn is predicted from its squared twin, which is known
  exactly for all N; structure AD is then the regression estimator (Cochran, Sampling Techniques, chapter 7).
- ``stratified``: within given strata (concepts), as many from each as Neyman's allocation asks, with the twin for the
  spread inside a stratum; no stratum, however small, goes without.

All are estimates of the mean of this finite set; that is what the standard errors are about. Draws are without
replacement, so that m = N is exact and has standard error 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from explorer.alignment.structure.columns import ROWS_AT_ONCE, BlockEstimates, column_pass
from explorer.alignment.structure.distance import (
    FeatureRows,
    FeatureStatistics,
    check_same_rows,
    convention_scale,
    feature_statistics,
    row_slices,
)
from explorer.alignment.structure.tiles import exact_products
from explorer.core.sampling_design import Draw, draw_evenly, draw_strata, neyman_allocation
from explorer.core.share import ALONE, Share


@dataclass(frozen=True, kw_only=True, eq=False)
class StructureEstimate:
    """Estimated D_s of N samples; their mean is the estimated structure AD. All tensors on the CPU."""

    estimator: str
    """``landmarks``, ``rows`` or ``stratified``."""
    seed: int
    """Decides the draw."""
    standard_error: float
    """Of ``structure_distance``'s mean against that of all pairs, over draws; NaN where it is undefined (m = 1)."""
    structure_distance: torch.Tensor
    """`[N]` fp64 estimated D_s."""
    sample_standard_error: torch.Tensor
    """`[N]` fp64 of each estimated D_s, over draws; under ``rows`` the spread of the prediction, 0 for drawn rows."""
    centred_distance: torch.Tensor
    """`[N]` fp64 estimated D_s of mean-free features, from the same draw."""
    drawn: torch.Tensor
    """`[m]` int64 rows that were drawn, ascending."""
    drawn_distance: torch.Tensor
    """`[m]` fp64 D_s of the drawn rows: exact."""

    @property
    def structure_ad(self) -> float:
        """Mean of the estimated D_s."""
        return self.structure_distance.mean().item()

    @property
    def structure_variance(self) -> float:
        """Variance of the exact D_s over the N samples, as far as the draw tells it; NaN where it does not.

        Predictions (``rows``) lack the residuals' spread: there it is that of the drawn rows. Mean disparities to drawn
        columns have the draw's noise on top, but for the part of it that all samples share.
        """
        if self.estimator == "rows":
            return self.drawn_distance.var().item() if len(self.drawn_distance) > 1 else math.nan
        noise = self.sample_standard_error.square().mean().item() - self.standard_error**2
        return max(self.structure_distance.var().item() - max(noise, 0.0), 0.0)


def landmark_estimate(
    image: FeatureRows,
    text: FeatureRows,
    samples: int,
    *,
    seed: int,
    trusted: torch.Tensor | Sequence[int] | None = None,
    convention: str = "authors",
    precision: str | None = None,
    share: Share = ALONE,
    statistics: FeatureStatistics | None = None,
) -> StructureEstimate:
    """D_s of all samples from ``samples`` shared landmarks.

    Args:
        image: `[N, d_image]` unit rows; read in parts, several times over, and never held together.
        text: `[N, d_text]` unit rows on the same device.
        samples: landmarks m.
        seed: decides which.
        trusted: rows that landmarks are drawn from, where poison must not vouch for poison. D_s then means the mean
            disparity to the trusted rows, and so does structure AD; None draws from all N.
        precision: of the products, as in ``structure_row_sums``.
        share: this worker's part where several share the work.
        statistics: of these features, where they are known; None finds them here.

    Raises:
        ValueError: unless 1 <= samples <= the rows there are to draw from, and on what
            ``structure_and_centred_row_sums`` refuses.
    """
    population = len(image) if trusted is None else _trusted_rows(trusted, len(image))
    draw = draw_evenly(population, samples, seed, least=1)
    return _from_columns("landmarks", image, text, draw, seed, convention, precision, share, statistics)


def row_estimate(
    image: FeatureRows,
    text: FeatureRows,
    samples: int,
    *,
    seed: int,
    convention: str = "authors",
    precision: str | None = None,
    share: Share = ALONE,
    statistics: FeatureStatistics | None = None,
) -> StructureEstimate:
    """Exact D_s of ``samples`` rows, and a linear prediction from the squared twin for the others.

    The mean of both together is the regression estimator of structure AD: its standard error is that of the residuals,
    which are small, since the twin and D_s are nearly proportional. Arguments as in ``landmark_estimate``; at least
    three rows, for two coefficients.
    """
    draw = draw_evenly(len(image), samples, seed, least=min(3, len(image)))
    from_columns = _from_columns("rows", image, text, draw, seed, convention, precision, share, statistics)
    twin = convention_scale(convention) * squared_twin(image, text)
    known, exact = twin[draw.rows], from_columns.drawn_distance
    spread = known - known.mean()
    variance = spread.square().sum()
    slope = (spread * (exact - exact.mean())).sum() / variance if variance > 0 else torch.zeros((), dtype=torch.float64)
    predicted = exact.mean() + slope * (twin - known.mean())
    residuals = exact - predicted[draw.rows]
    count, n = len(exact), len(twin)
    residual_variance = residuals.square().sum().item() / (count - 2) if count > 2 else math.nan
    left_out = 1 - count / n
    predicted[draw.rows] = exact
    prediction_error = torch.full_like(predicted, math.sqrt(residual_variance))
    prediction_error[draw.rows] = 0
    return StructureEstimate(
        estimator="rows",
        seed=seed,
        standard_error=math.sqrt(residual_variance / count * left_out) if left_out else 0.0,
        structure_distance=predicted,
        sample_standard_error=prediction_error,
        centred_distance=from_columns.centred_distance,
        drawn=from_columns.drawn,
        drawn_distance=exact,
    )


def stratified_estimate(
    image: FeatureRows,
    text: FeatureRows,
    samples: int,
    *,
    strata: torch.Tensor | Sequence[int],
    seed: int,
    convention: str = "authors",
    precision: str | None = None,
    share: Share = ALONE,
    statistics: FeatureStatistics | None = None,
) -> StructureEstimate:
    """D_s of all samples from a stratified draw with Neyman's allocation.

    Args:
        strata: `[N]` integers, equal within a stratum, e.g. the number of a pair's main concept.

    Other arguments as in ``landmark_estimate``.

    Raises:
        ValueError: on strata that are not `[N]` integers, or too few samples for two of every stratum.
    """
    labels = torch.as_tensor(strata).cpu()
    if labels.is_floating_point() or labels.shape != (len(image),):
        raise ValueError(f"strata have shape {list(labels.shape)} and dtype {labels.dtype}: expected [N] integers")
    _, stratum, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    twin = squared_twin(image, text)
    deviations = [
        twin[stratum == number].std().item() if size > 1 else 0.0 for number, size in enumerate(sizes.tolist())
    ]
    draw = draw_strata(stratum, neyman_allocation(sizes.tolist(), deviations, samples), seed)
    return _from_columns("stratified", image, text, draw, seed, convention, precision, share, statistics)


def squared_twin(image: FeatureRows, text: FeatureRows) -> torch.Tensor:
    """Root of mean over k of (cos_img(i,k) - cos_txt(i,k))^2: a bound on D_s(i) from above, `[N]` fp64 on the CPU.

    Exact in O(N d^2): the mean is (x'X'Xx + y'Y'Yy - 2 x'X'Yy) / N, so that three d x d products of the whole set are
    all it needs. It orders samples almost as D_s does. Every worker computes it whole: it decides draws, and fp64 sums
    in another order would change its bits.
    """
    check_same_rows(image, text)
    n = len(image)
    blocks = list(row_slices(n, ROWS_AT_ONCE))
    grams = [0.0, 0.0, 0.0]
    means = torch.empty(n, dtype=torch.float64, device=image.device)
    with exact_products(image.device):
        for rows in blocks:
            x, y = image[rows].double(), text[rows].double()
            grams = [gram + part for gram, part in zip(grams, (x.T @ x, y.T @ y, x.T @ y), strict=True)]
        for rows in blocks:
            x, y = image[rows].double(), text[rows].double()
            squares = (x @ grams[0] * x).sum(1) + (y @ grams[1] * y).sum(1) - 2 * (x @ grams[2] * y).sum(1)
            means[rows] = squares / n
    return means.clamp_(min=0).sqrt_().cpu()


def _trusted_rows(trusted: torch.Tensor | Sequence[int], n: int) -> torch.Tensor:
    rows = torch.as_tensor(trusted).cpu().long().flatten()
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= n or len(torch.unique(rows)) != len(rows):
        raise ValueError(f"trusted holds {len(rows)} rows: expected different numbers in 0..{n - 1}, at least one")
    return rows


def _from_columns(
    estimator: str,
    image: FeatureRows,
    text: FeatureRows,
    draw: Draw,
    seed: int,
    convention: str,
    precision: str | None,
    share: Share,
    statistics: FeatureStatistics | None,
) -> StructureEstimate:
    scale = convention_scale(convention)
    statistics = feature_statistics(image, text) if statistics is None else statistics
    results = torch.zeros(3, len(image), dtype=torch.float64, device=image.device)

    def keep(block: BlockEstimates) -> None:
        results[:, block.rows] = torch.stack([block.means, block.variances, block.centred])

    sums = column_pass(image, text, draw, keep, precision=precision, share=share, statistics=statistics)
    means, variances, centred = share.total(results).cpu()
    drawn_distance = scale * sums.absolute / len(image)
    return StructureEstimate(
        estimator=estimator,
        seed=seed,
        standard_error=draw.standard_error(drawn_distance),
        structure_distance=scale * means,
        sample_standard_error=scale * variances.clamp(min=0).sqrt(),
        centred_distance=scale * centred,
        drawn=draw.rows,
        drawn_distance=drawn_distance,
    )
