"""How much a prediction changes at every place of a picture.

*Amplitudes*, not squares: where a model changes its prediction by half, it has half the amplitude and a quarter of the
square.
"""

from __future__ import annotations

import torch


def amplitude_map(difference: torch.Tensor) -> torch.Tensor:
    """Root of the sum over channels of squares: ``[..., C, h, w]`` to ``[..., h, w]``, at least fp32."""
    wide = torch.promote_types(difference.dtype, torch.float32)
    return difference.to(wide).square().sum(-3).sqrt()
