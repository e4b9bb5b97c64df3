"""What an encoder passes on early, as a further aim of a perturbation: Nightshade's objective reads the latents alone.

An encoder's first levels still see lines and colours. Whether a picture that comes near to its target there comes
nearer in the latents as well is a question of the autoencoder, which this makes measurable; of IconWorld's it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def early_outputs(autoencoder: Any, layers: int) -> Iterator[list[torch.Tensor]]:
    """What the first levels of an ``AutoencoderKL``'s encoder gave out for the pictures that were encoded last.

    Args:
        layers: how many of its ``down_blocks``, from the first, 0 or more.

    Yields:
        A list that every encoding inside the block fills anew, ``[n, C, h, w]`` each in the autoencoder's dtype.

    Raises:
        ValueError: if the encoder has fewer levels.
    """
    blocks = autoencoder.encoder.down_blocks
    check_layers(len(blocks), layers)
    seen: list[torch.Tensor] = [None] * layers  # type: ignore[list-item]

    def keep(place: int) -> Any:
        def hook(block: Any, inputs: tuple, output: torch.Tensor) -> None:
            seen[place] = output

        return hook

    handles = [block.register_forward_hook(keep(place)) for place, block in enumerate(blocks[:layers])]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def check_layers(levels: int, layers: int) -> None:
    """Refuse more early layers than an encoder has levels.

    Raises:
        ValueError: naming both.
    """
    if layers > levels:
        raise ValueError(f"early layers are {layers}: the autoencoder's encoder has {levels}, expected no more")


def early_distance(seen: Sequence[torch.Tensor], aims: Sequence[torch.Tensor], latents: torch.Tensor) -> torch.Tensor:
    """Squared distance of each early output to the target's as a share of the target's squared length, times that of
    the target's latents: summed over layers and pictures. So a layer weighs as much as the latents, however large its
    values are.

    Args:
        aims: the target's outputs, as many as there are ``seen``.
        latents: the target's, ``[n, ...]``.
    """
    import torch

    def lengths(values: torch.Tensor) -> torch.Tensor:
        return values.float().square().flatten(1).sum(dim=1)

    shares = [lengths(own.float() - aim.float()) / lengths(aim).clamp_min(torch.finfo(torch.float32).tiny)
              for own, aim in zip(seen, aims, strict=True)]  # fmt: skip
    return (torch.stack(shares) * lengths(latents)).sum()
