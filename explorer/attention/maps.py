"""Captured attention to the text, kept per step, layer, image, head and word, and the maps read out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import numpy as np

PREFERRED_POSITIONS = 16 * 16


@dataclass(frozen=True, kw_only=True)
class AttentionGroup:
    """Attention layers that share a resolution and a number of heads."""

    layers: tuple[str, ...]
    """Module names in the order in which the denoiser calls them."""
    probabilities: torch.Tensor
    """``[steps, layers, images, heads, W, h, w]`` attention probabilities summed over each word's tokens;
    they sum to one over ``W`` at every position, unless an edit changed that. Steps count denoiser calls (Heun's
    method makes two a step). One head where their mean was stored."""
    text_share: torch.Tensor | None = None
    """``[steps, layers, images, heads, h, w]`` in [0, 1], joint attention only: what the softmax over text and image
    gives the text. ``probabilities * text_share[:, :, :, :, None]`` are that softmax's own (head by head; of stored
    means it is an approximation). None for cross-attention, which reads nothing else, or where it was not kept."""

    @property
    def resolution(self) -> tuple[int, int]:
        """``(h, w)`` in latent positions."""
        return tuple(self.probabilities.shape[-2:])

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.probabilities.shape[3]


@dataclass(frozen=True, kw_only=True)
class QuantisedCube:
    """The first image's cube at one resolution, small enough for a browser, with the means worked in.

    Index 0 of the step, layer and head axes is the mean over that axis, index ``i + 1`` its ``i``-th entry.
    ``values * scales[..., None, None]`` are probabilities, off by at most half a scale.
    """

    values: np.ndarray
    """uint8 ``[steps + 1, layers + 1, heads + 1, W, h, w]``; one head entry where heads were averaged."""
    scales: np.ndarray
    """fp32 ``[steps + 1, layers + 1, heads + 1, W]``, probability per unit of ``values``."""
    layers: tuple[str, ...]
    """Module names of the layers."""


@dataclass(frozen=True, kw_only=True)
class AttentionCube:
    """Everything captured in one generation. ``maps`` and ``map`` follow prompt-to-prompt by default.

    That convention (Hertz et al. 2022): the 16x16 layers, averaged over layers, heads and steps. Where no
    layer has 256 positions, the resolution nearest to it (in ratio) is taken.
    """

    groups: tuple[AttentionGroup, ...]
    """Layers by resolution and number of heads."""
    columns: tuple[str, ...]
    """Names of the ``W`` columns: the words, then start token, then end token with padding."""

    @property
    def steps(self) -> int:
        """Number of U-Net calls captured."""
        return self.groups[0].probabilities.shape[0]

    @property
    def images(self) -> int:
        """Number of images in the batch."""
        return self.groups[0].probabilities.shape[2]

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Resolution ``(h, w)`` of every captured layer by module name."""
        return {name: group.resolution for group in self.groups for name in group.layers}

    @property
    def resolutions(self) -> tuple[tuple[int, int], ...]:
        """Distinct resolutions ``(h, w)``, finest first."""
        return tuple(sorted({group.resolution for group in self.groups}, key=math.prod, reverse=True))

    @property
    def default_resolution(self) -> tuple[int, int]:
        """The captured resolution whose number of positions is nearest to 16 x 16, in ratio."""
        return min(self.resolutions, key=lambda size: abs(math.log(math.prod(size) / PREFERRED_POSITIONS)))

    def maps(
        self,
        size: tuple[int, int] | None = None,
        *,
        step: int | slice | None = None,
        layer: str | int | None = None,
        head: int | None = None,
        image: int = 0,
        resolution: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Maps of all columns, averaged at native resolution, then resized once (bilinear).

        Args:
            size: ``(height, width)`` of the result; None keeps the native resolution.
            step: one U-Net call, a slice of them, or None for the mean over all.
            layer: a module name (any resolution), an index among the resolution's layers, or None for
                the mean.
            head: one head, or None for the mean.
            image: which image of the batch.
            resolution: ``(h, w)`` of the layers used; None for ``default_resolution`` or the named layer's.

        Returns:
            ``[W, h, w]`` fp32 probabilities; they sum to one over ``W`` at every position.

        Raises:
            ValueError: naming the index, layer or resolution that does not exist.
        """
        return self._means(size, lambda group: group.probabilities, step, layer, head, image, resolution)

    def layer_maps(self, *, step: int | slice | None = None, image: int = 0) -> torch.Tensor:
        """Every layer's maps at ``default_resolution``, in the order of ``default_layers``; their mean is ``maps``.

        Returns:
            ``[layers, W, h, w]`` fp32 probabilities, means over heads and over the chosen steps.

        Raises:
            ValueError: as ``maps``.
        """
        return self._of_layers(lambda group: group.probabilities, step, None, None, image, None)

    @property
    def default_layers(self) -> list[str]:
        """The layers of ``default_resolution``, by module name."""
        return [name for name, size in self.layers.items() if size == self.default_resolution]

    @property
    def has_text_share(self) -> bool:
        """Whether ``text_share`` was kept: of joint attention only."""
        return all(group.text_share is not None for group in self.groups)

    def text_share(
        self,
        size: tuple[int, int] | None = None,
        *,
        step: int | slice | None = None,
        layer: str | int | None = None,
        head: int | None = None,
        image: int = 0,
        resolution: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """How much of its joint attention each position gives to the text, averaged and resized as ``maps``.

        Returns:
            ``[h, w]`` fp32 in [0, 1].

        Raises:
            ValueError: as ``maps``, or if no share was captured.
        """
        if not self.has_text_share:
            raise ValueError("no text share was captured: expected joint attention (SD3, Flux) and text_share=True")
        return self._means(
            size, lambda group: group.text_share[:, :, :, :, None], step, layer, head, image, resolution
        )[0]

    def _means(self, size: tuple[int, int] | None, *selection: Any) -> torch.Tensor:
        """``[W, h, w]``, the mean over layers of what :meth:`_of_layers` selects, resized to ``size``; see ``maps``."""
        means = self._of_layers(*selection).mean(0)
        if size is None or tuple(size) == tuple(means.shape[-2:]):
            return means
        return torch.nn.functional.interpolate(means[None], size=size, mode="bilinear")[0]

    def _of_layers(
        self,
        values: Callable[[AttentionGroup], torch.Tensor],
        step: int | slice | None,
        layer: str | int | None,
        head: int | None,
        image: int,
        resolution: tuple[int, int] | None,
    ) -> torch.Tensor:
        """Means ``[layers, W, h, w]`` of the values ``[steps, layers, images, heads, W, h, w]`` selected."""
        if isinstance(layer, str):
            resolution = self._resolution_of(layer, resolution)
        groups = self._groups_at(resolution or self.default_resolution)
        names = [name for group in groups for name in group.layers]
        chosen = names if layer is None else [layer if isinstance(layer, str) else _entry("layer", names, layer)]
        selected = [_layer_means(group.layers, values(group), chosen, step, head, image) for group in groups]
        return torch.cat([part for part in selected if part is not None])

    def map(self, word: int | Sequence[int], size: tuple[int, int] | None = None, **selection: object) -> torch.Tensor:
        """Map of one word ``[h, w]``, or the sum over several (a concept of two words); see ``maps``.

        Raises:
            ValueError: if a word index is not one of the columns.
        """
        words = [word] if isinstance(word, int) else list(word)
        if not words:
            raise ValueError("no word index given: expected at least one")
        for index in words:
            _entry("word", self.columns, index)
        return self.maps(size, **selection)[words].sum(0)

    def quantised(
        self,
        *,
        heads: bool = True,
        resolution: tuple[int, int] | None = None,
    ) -> QuantisedCube:
        """The first image's cube in 8 bits, one scale a map, so that faint maps keep their shape.

        Args:
            heads: keep every head, or their mean only (smaller by the number of heads plus one).
            resolution: as in ``maps``.

        Raises:
            ValueError: if heads are asked for where layers of one resolution differ in their number.
        """
        groups = self._groups_at(resolution or self.default_resolution)
        if heads and len({group.heads for group in groups}) > 1:
            raise ValueError("layers of this resolution differ in their number of heads: use heads=False")
        parts = [group.probabilities[:, :, 0] for group in groups]
        if not heads:
            parts = [part.float().mean(2, keepdim=True) for part in parts]
        values = _with_means(parts, heads)
        scales = values.amax((-2, -1)) / 255
        values.div_(scales.clamp(min=torch.finfo(torch.float32).tiny)[..., None, None]).round_()
        return QuantisedCube(
            values=values.to(torch.uint8).cpu().numpy(),
            scales=scales.cpu().numpy(),
            layers=tuple(name for group in groups for name in group.layers),
        )

    def _groups_at(self, resolution: tuple[int, int]) -> list[AttentionGroup]:
        groups = [group for group in self.groups if group.resolution == tuple(resolution)]
        if not groups:
            raise ValueError(f"no layer has resolution {tuple(resolution)}: expected one of {self.resolutions}")
        return groups

    def _resolution_of(self, layer: str, resolution: tuple[int, int] | None) -> tuple[int, int]:
        if layer not in self.layers:
            raise ValueError(f"layer {layer!r} was not captured: expected one of {sorted(self.layers)}")
        found = self.layers[layer]
        if resolution is not None and tuple(resolution) != found:
            raise ValueError(f"layer {layer!r} has resolution {found}: expected {tuple(resolution)}")
        return found


def _with_means(parts: Sequence[torch.Tensor], heads: bool) -> torch.Tensor:
    """``[steps, layers, heads, W, h, w]`` of several groups side by side, in fp32, the mean over each axis before it.

    One tensor is filled in place: it is the largest that a comparison makes, and every copy of it would be felt.
    """
    steps, _, count, *rest = parts[0].shape
    layers = sum(part.shape[1] for part in parts)
    filled = torch.empty((steps + 1, layers + 1, count + heads, *rest), device=parts[0].device)
    inner = filled[1:, 1:, int(heads) :]
    inner.copy_(torch.cat(list(parts), dim=1))
    torch.mean(inner, 0, out=filled[0, 1:, int(heads) :])
    torch.mean(filled[:, 1:, int(heads) :], 1, out=filled[:, 0, int(heads) :])
    if heads:
        torch.mean(filled[:, :, 1:], 2, out=filled[:, :, 0])
    return filled


def _layer_means(
    layers: Sequence[str],
    values: torch.Tensor,
    names: list[str],
    step: int | slice | None,
    head: int | None,
    image: int,
) -> torch.Tensor | None:
    """Mean over the selected steps and heads for the named ones of a group's layers: ``[n, W, h, w]`` fp32."""
    steps, _, images, heads = values.shape[:4]
    indices = [index for index, name in enumerate(layers) if name in names]
    if not indices:
        return None
    _entry("image", range(images), image)
    if isinstance(step, int):
        _entry("step", range(steps), step)
        step = slice(step, step + 1 or None)
    chosen = values[step or slice(None), :, image]
    if chosen.shape[0] == 0:
        raise ValueError(f"step {step} selects none of the {steps} steps")
    if head is not None:
        _entry("head", range(heads), head)
        chosen = chosen[:, :, head, None]
    return chosen[:, indices].mean((0, 2), dtype=torch.float32)


def _entry(kind: str, entries: Sequence[Any], index: int) -> Any:
    """``entries[index]``, or an error in words."""
    if not -len(entries) <= index < len(entries):
        raise ValueError(f"{kind} {index} does not exist: expected 0 to {len(entries) - 1}")
    return entries[index]
