"""The cross-attention of a diffusers U-Net: its layers, their probabilities, and how these are captured.

The probabilities of all layers of a resolution and, where these are small, of several U-Net calls are computed
together, summed over each word's tokens and written to a preallocated tensor on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from explorer.attention.maps import AttentionGroup
from explorer.attention.storage import AttentionCapture

MAX_SCORE_ELEMENTS = 1 << 24  # 64 MiB of fp32 scores at once; more layers are worked off in chunks
WAITING_SCORE_ELEMENTS = 1 << 17  # fewer wait for further calls: to start a computation takes longer than to do it
TEXT_READING = ("attn1", "attn2")
"""Last parts of the names of attention modules that can read the text. ``attn2`` always does; ``attn1`` does in blocks
built with ``only_cross_attention`` and is self-attention everywhere else."""


def cross_attention_layers(unet: torch.nn.Module, attentions: Sequence[str] = TEXT_READING) -> dict[str, Any]:
    """The U-Net's cross-attention modules by name, in module order: every attention that reads the text.

    Args:
        unet: a diffusers U-Net.
        attentions: last part of the module names; self-attention is never returned.

    Raises:
        ValueError: if there is none, or one cannot be captured (fused projections, normalised queries).
    """
    layers = {
        name: module
        for name, module in unet.named_modules()
        if name.rpartition(".")[2] in attentions and getattr(module, "is_cross_attention", False)
    }
    if not layers:
        raise ValueError(f"{type(unet).__name__} has no cross-attention named {' or '.join(attentions)}")
    for name, module in layers.items():
        if module.fused_projections:
            raise ValueError(f"{name} has fused QKV projections, which hide its queries: expected separate ones")
        if module.norm_q is not None or module.norm_k is not None:
            raise ValueError(f"{name} normalises queries or keys: expected plain projections")
    return layers


class CrossAttention:
    """Where a U-Net's cross-attention has its parts; see :class:`~explorer.attention.hooks.TextAttention`."""

    network, sample_name, text_position = "U-Net", "sample", 2
    layer_keywords, guides_by_calls = (), False

    def __init__(self, unet: torch.nn.Module, attentions: Sequence[str] = TEXT_READING):
        self.layers = cross_attention_layers(unet, attentions)

    def projections(self, layer: Any) -> dict[str, torch.nn.Module]:
        """Queries of the image, keys of the text."""
        return {"query": layer.to_q, "key": layer.to_k}

    def text_value(self, layer: Any) -> torch.nn.Module:
        """Which has the text alone."""
        return layer.to_v

    def output(self, layer: Any) -> torch.nn.Module:
        """The output projection."""
        return layer.to_out[0]

    def probabilities(self, layer: Any, kept: Mapping[str, torch.Tensor], tokens: int) -> torch.Tensor:
        """The layer's softmax over the text."""
        query, key = (kept[part].float().unflatten(2, (layer.heads, -1)).transpose(1, 2) for part in ("query", "key"))
        return (query @ (key * layer.scale).mT).softmax(-1)


class CrossAttentionCapture(AttentionCapture):
    """Collects the cross-attention of every U-Net call."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._latent_size: tuple[int, int] | None = None
        self._members: list[list[str]] = []
        self._together: list[int] = []
        """Calls whose probabilities are computed at once, of each group of layers."""
        self._waiting: list[list[dict[str, dict[str, torch.Tensor]]]] = []
        """Of each group the calls, up to the last, that are not stored yet."""

    def _grouped(self, kept: list[torch.Tensor]) -> tuple[AttentionGroup, ...]:
        return tuple(
            AttentionGroup(layers=tuple(names), probabilities=stored.unflatten(-1, self._resolution(stored.shape[-1])))
            for names, stored in zip(self._members, kept, strict=True)
        )

    def _begin(self, sample: torch.Tensor, inputs: tuple, keywords: dict[str, Any]) -> None:
        super()._begin(sample, inputs, keywords)
        self._latent_size = tuple(sample.shape[-2:])

    def _finish(self) -> None:
        order = [*self._kept, *(self._layers.keys() - self._kept.keys())]
        kept = {name: self._take(name) for name in order}
        if self.calls == 0:
            self._allocate(kept)
        for group, (names, waiting) in enumerate(zip(self._members, self._waiting, strict=True)):
            waiting.append({name: kept[name] for name in names})
            if len(waiting) == self._together[group] or self._edited.keys() & set(names):
                self._store_group(group, self.calls + 1)

    def _complete(self) -> None:
        for group, waiting in enumerate(self._waiting):
            if waiting:
                self._store_group(group, self.calls)

    def _allocate(self, kept: dict[str, dict[str, torch.Tensor]]) -> None:
        """Group the layers by positions and heads, in call order, and reserve room for every step."""
        members: dict[tuple[int, int, int, float], list[str]] = {}
        for name, parts in kept.items():
            layer, (_, positions, width) = self._layers[name], parts["query"].shape
            members.setdefault((positions, layer.heads, width, layer.scale), []).append(name)
        columns = self._groups.shape[2]
        self._members = list(members.values())
        self._stored = [
            self._room(len(names), self._plan.batch, heads if self._keep_heads else 1, columns, positions)
            for (positions, heads, _, _), names in members.items()
        ]
        self._waiting = [[] for _ in members]
        scores = [len(names) * heads * positions * self._plan.batch * self._groups.shape[1]
                  for (positions, heads, _, _), names in members.items()]  # fmt: skip
        # The graph is the caller's, who may need it after every call.
        self._together = [1 if self._gradient else max(1, WAITING_SCORE_ELEMENTS // count) for count in scores]

    def _store_group(self, group: int, calls: int) -> None:
        """Probabilities per word of layers of one shape, of the calls that wait: the last of the first ``calls``."""
        names, waiting = self._members[group], self._waiting[group]
        stored = self._stored[group][calls - len(waiting) : calls]  # [calls, layers, B, heads or 1, W, positions]
        heads, batch = self._layers[names[0]].heads, self._plan.batch
        chunk = max(1, MAX_SCORE_ELEMENTS // (len(waiting) * batch * heads * stored.shape[-1] * self._groups.shape[1]))
        # What was made in inference mode is written to in it alone, also where a caller asks for the cube later.
        with torch.inference_mode(stored.is_inference()), self._graph():
            for start in range(0, len(names), chunk):
                part = names[start : start + chunk]
                # Positions last throughout: what is stored then lies as it is computed.
                keys, queries = (_per_head([kept[name][which] for kept in waiting for name in part], heads)
                                 for which in ("key", "query"))  # fmt: skip
                scores = torch.bmm(keys.mul_(self._layers[part[0]].scale), queries.mT)
                probabilities = scores.softmax(-2).unflatten(0, (len(waiting), len(part), batch, heads))
                words = torch.matmul(self._groups.mT[:, None], probabilities)
                stored[:, start : start + chunk] = words if self._keep_heads else words.mean(3, keepdim=True)
            for name in self._edited.keys() & set(names):
                stored[-1, names.index(name)] = self._edited[name][0]
        waiting.clear()

    def _resolution(self, positions: int) -> tuple[int, int]:
        """``(h, w)`` of a layer: the latent size halved (rounding up) until the number of positions fits."""
        height, width = self._latent_size
        while height * width > positions:
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width != positions:
            raise ValueError(f"{positions} positions do not come from halving latents of {self._latent_size}")
        return height, width


def _per_head(projected: list[torch.Tensor], heads: int) -> torch.Tensor:
    """``[B, n, heads * d]`` of each layer to fp32 ``[layers * B * heads, n, d]``."""
    stacked = torch.stack(projected).float()
    return stacked.unflatten(3, (heads, -1)).transpose(2, 3).flatten(0, 2)
