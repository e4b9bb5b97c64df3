"""Pictures perturbed within a budget until an autoencoder takes them for others: sign-PGD in latent space.

Shan et al. 2024 (Nightshade), with the settings of the script that they published; Ding et al. 2024, section 5.1, use
it. Momentum (Dong et al. 2018) and restarts (Madry et al. 2018) are added here, and off. Of what is installed only
torch is used, and in functions, since the command line reads the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Encode = Callable[[torch.Tensor], torch.Tensor]
    """Pictures float32 ``[n, 3, H, W]`` in [-1, 1] to latents ``[n, ...]``, differentiable, each by itself."""

LEVELS = 255
"""Steps between the darkest and the brightest value of a picture of eight bits."""


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """How far pictures may change, and how the change is looked for; the defaults are those of Nightshade's script.

    Raises:
        ValueError: naming the value and what was expected.
    """

    budget: float = 0.04
    """Most that any value of a picture may change, of its range [0, 1]: the L-infinity norm."""
    steps: int = 500
    """Gradient steps of every picture."""
    first_step: float = 1.0
    """Size of the first step, as a share of the budget."""
    last_step: float = 0.01
    """Size that steps fall to, evenly, as a share of the budget; the first step's for steps of one size."""
    momentum: float = 0.0
    """Share of the earlier gradients that each step keeps (Dong et al. 2018); Nightshade's script keeps none."""
    restarts: int = 0
    """Further searches of every picture, from places within the budget by chance (Madry et al. 2018); the nearest
    stays."""
    early_layers: int = 0
    """Levels of the encoder, from the first, that are to come near to the target's as well, each weighing as much as
    the latents; Nightshade's script has the latents alone."""

    def __post_init__(self) -> None:
        if not 1 / LEVELS <= self.budget <= 1:
            raise ValueError(f"budget is {self.budget}: expected 1/255 to 1 of the range of a picture's values")
        if self.steps < 1:
            raise ValueError(f"steps are {self.steps}: expected at least 1")
        if not 0 < self.last_step <= self.first_step <= 2:
            raise ValueError(f"steps of {self.first_step} to {self.last_step} of the budget: expected a first size up "
                             "to 2, and a last one above 0 and no larger")  # fmt: skip
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum is {self.momentum}: expected 0 to 1, which keeps all gradients alike")
        if self.restarts < 0:
            raise ValueError(f"restarts are {self.restarts}: expected 0 or more")
        if self.early_layers < 0:
            raise ValueError(f"early layers are {self.early_layers}: expected 0 or more")

    @property
    def levels(self) -> int:
        """The budget in whole levels of a picture of eight bits: 10 of 255 for .04."""
        return int(self.budget * LEVELS + 1e-6)

    @property
    def gradients(self) -> int:
        """How many of each picture are taken."""
        return self.steps * (1 + self.restarts)

    def step_sizes(self) -> list[float]:
        """Of every step, in [0, 1]."""
        slope = (self.first_step - self.last_step) / self.steps
        return [self.budget * (self.first_step - slope * step) for step in range(self.steps)]


def perturbed(
    encode: Encode,
    pictures: torch.Tensor,
    targets: torch.Tensor,
    settings: Perturbation,
    after_step: Callable[[], None] = lambda: None,
    starts: Sequence[torch.Tensor] = (),
    further: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Pictures whose latents come as near to ``targets`` as the budget allows, uint8 ``[n, H, W, 3]``.

    Every step moves every value by the step's size against the sign of its gradient, and back into the budget. The
    gradient is that of the squared distance, whose sign is the distance's; with momentum the earlier ones are added,
    each brought to a mean absolute value of 1. Pictures do not influence one another. What is returned is rounded; the
    budget in whole levels holds before rounding, and so it holds after it.

    Args:
        encode: whose parameters need no gradient.
        pictures: uint8 ``[n, H, W, 3]``, on the device of the work.
        targets: the latents to come near to, one for each picture.
        after_step: called after each step of the whole batch.
        starts: float32 ``[n, 3, H, W]`` in [-1, 1] for each restart: where in the budget it begins. Of a picture's
            searches, the first of which begins at the picture, the one that came nearest is returned.
        further: asked after each encoding for what is added to the squared distance of the latents.

    Raises:
        ValueError: if there are not as many starts as restarts, or latents or gradients are not finite, as where a
            network overflows in half precision.
    """
    import torch

    if len(starts) != settings.restarts:
        raise ValueError(f"{len(starts)} starts are given: expected {settings.restarts}, one for each restart")
    original, reach = as_values(pictures), settings.levels / LEVELS
    best = _searched(encode, original, original, targets, settings, after_step, further)
    for start in starts:
        begun = (original + reach * start.to(original)).clamp(0, 1)
        found = _searched(encode, original, begun, targets, settings, after_step, further)
        distances = [latent_distance(latents_of(encode, each), targets) for each in (found, best)]
        best = torch.where((distances[0] < distances[1])[:, None, None, None], found, best)
    return best


def _searched(
    encode: Encode, original: torch.Tensor, changed: torch.Tensor, targets: torch.Tensor, settings: Perturbation,
    after_step: Callable[[], None], further: Callable[[], torch.Tensor] | None,
) -> torch.Tensor:  # fmt: skip
    """One search, from ``changed``."""
    import torch

    reach = settings.levels / LEVELS
    lowest, highest = (original - reach).clamp_min(0), (original + reach).clamp_max(1)
    kept, finite = torch.zeros_like(original), torch.ones((), dtype=torch.bool, device=original.device)
    for size in settings.step_sizes():
        with torch.enable_grad():
            changed = changed.detach().requires_grad_(True)
            squared = (encode(changed * 2 - 1) - targets).square().sum()
            squared = squared if further is None else squared + further()
            (gradient,) = torch.autograd.grad(squared, changed)
        finite &= gradient.isfinite().all()  # the sign of NaN is 0: nothing would tell
        if settings.momentum:
            scale = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
            kept = gradient = settings.momentum * kept + gradient / scale
        changed = (changed.detach() - size * gradient.sign()).clamp(lowest, highest)
        after_step()
    if not finite:
        raise ValueError("the autoencoder gave gradients that are not finite: expected weights and a precision that it "
                         "works in, such as fp32")  # fmt: skip
    return (changed * LEVELS).round().to(torch.uint8).permute(0, 2, 3, 1)


def latents_of(encode: Encode, pictures: torch.Tensor) -> torch.Tensor:
    """Latents of uint8 ``[n, H, W, 3]``.

    Raises:
        ValueError: if they are not finite.
    """
    import torch

    with torch.no_grad():
        latents = encode(as_values(pictures) * 2 - 1)
    if not torch.isfinite(latents).all():
        raise ValueError("the autoencoder gave latents that are not finite: expected weights and a precision that it "
                         "works in, such as fp32")  # fmt: skip
    return latents


def latent_distance(latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of each picture's latents to its target's, ``[n]``."""
    return (latents - targets).flatten(1).norm(dim=1)


def largest_change(pictures: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """L-infinity norm of the difference of uint8 pictures ``[n, H, W, 3]``, in [0, 1]: float64 ``[n]``."""
    return (pictures.double() - others.double()).abs().flatten(1).amax(dim=1) / LEVELS


def as_values(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 ``[n, H, W, 3]`` to float32 ``[n, 3, H, W]`` in [0, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / LEVELS
