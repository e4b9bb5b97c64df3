"""Structural similarity of pictures (Wang et al. 2004, IEEE Transactions on Image Processing 13(4))."""

from __future__ import annotations

import torch
from torch.nn import functional

WINDOW, DEVIATION = 11, 1.5
K1, K2, RANGE = 0.01, 0.03, 255.0


def structural_similarity(pictures: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """SSIM of uint8 pictures ``[n, H, W, 3]`` of at least 11 pixels a side: float64 ``[n]`` in [-1, 1], 1 for equal.

    As published: a Gaussian window of 11 pixels and deviation 1.5 wherever it fits in, K1 = .01, K2 = .03. The mean
    over places and over the three channels, each by itself.

    Raises:
        ValueError: for smaller pictures.
    """
    if min(pictures.shape[1:3]) < WINDOW:
        raise ValueError(f"pictures are {tuple(pictures.shape[1:3])}: expected at least {WINDOW} pixels a side")
    places = torch.arange(WINDOW, dtype=torch.float64, device=pictures.device) - WINDOW // 2
    weights = (-places.square() / (2 * DEVIATION**2)).exp()
    window = torch.outer(weights, weights)[None, None] / weights.sum().square()

    def local(values: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(values.flatten(0, 1)[:, None], window)

    x, y = (each.permute(0, 3, 1, 2).double() for each in (pictures, others))
    mean_x, mean_y = local(x), local(y)
    variance_x, variance_y = local(x * x) - mean_x.square(), local(y * y) - mean_y.square()
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness = likeness / ((mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2))
    return likeness.flatten(1).mean(dim=1).unflatten(0, x.shape[:2]).mean(dim=1)
