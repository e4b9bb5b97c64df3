"""Token attention maps of a diffusers U-Net or joint transformer, captured beside the generation without changing it.

This module is the U-Net's cross-attention and the one way in; ``joint_attention`` has what SD3 and Flux do instead.
The attention processors stay as they are. Forward hooks on every cross-attention's ``to_q`` and ``to_k`` keep
references to what the U-Net has computed anyway; when a U-Net call ends, the probabilities of all layers of a
resolution are computed together, summed over each word's tokens and written to a preallocated tensor on the
device. The hooks return nothing, so images are bit-identical with and without them.

Convention of the maps: Hertz et al. 2022 (prompt-to-prompt), equation for M = softmax(Q K^T / sqrt(d)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch

from explorer.attention.joint import JointAttentionCapture, is_joint_transformer
from explorer.attention.maps import AttentionCube, AttentionGroup

MAX_SCORE_ELEMENTS = 1 << 24  # 64 MiB of fp32 scores at once; more layers are worked off in chunks
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


class AttentionCapture:
    """Collects the cross-attention of every U-Net call; made by ``capture_attention``."""

    def __init__(
        self,
        layers: dict[str, Any],
        groups: torch.Tensor,
        *,
        batch: int,
        rows: slice,
        total_rows: int,
        steps: int,
        columns: tuple[str, ...],
        dtype: torch.dtype,
        keep_heads: bool,
    ):
        self.calls = 0
        """U-Net calls captured so far."""
        self._layers = layers
        self._groups = groups
        self._batch, self._rows, self._total_rows = batch, rows, total_rows
        self._capacity, self._columns, self._dtype = steps, columns, dtype
        self._keep_heads = keep_heads
        self._latent_size: tuple[int, int] | None = None
        self._queries: dict[str, torch.Tensor] = {}
        self._keys: dict[str, torch.Tensor] = {}
        self._members: list[list[str]] = []
        self._stored: list[torch.Tensor] = []

    def cube(self) -> AttentionCube:
        """Everything captured so far.

        Raises:
            ValueError: if the U-Net was not called.
        """
        if self.calls == 0:
            raise ValueError("nothing was captured: the U-Net was not called inside the with block")
        groups = []
        for names, stored in zip(self._members, self._stored, strict=True):
            height, width = self._resolution(stored.shape[-1])
            kept = stored[: self.calls]
            kept = kept if self.calls == self._capacity else kept.clone()
            groups.append(AttentionGroup(layers=tuple(names), probabilities=kept.unflatten(-1, (height, width))))
        return AttentionCube(groups=tuple(groups), columns=self._columns)

    def register(self, unet: torch.nn.Module) -> list[Any]:
        """Put the hooks on; returns their handles."""
        handles = [
            unet.register_forward_pre_hook(self._begin_call, with_kwargs=True),
            unet.register_forward_hook(self._end_call),
        ]
        for name, module in self._layers.items():
            handles.append(module.to_q.register_forward_hook(self._keep(self._queries, name)))
            handles.append(module.to_k.register_forward_hook(self._keep(self._keys, name)))
        return handles

    @staticmethod
    def _keep(store: dict[str, torch.Tensor], name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            store[name] = output

        return hook

    def _begin_call(self, unet: torch.nn.Module, inputs: tuple, keywords: dict[str, Any]) -> None:
        self.forget_call()
        sample = inputs[0] if inputs else keywords["sample"]
        self._latent_size = tuple(sample.shape[-2:])

    def forget_call(self) -> None:
        """Drop references to the activations of an unfinished call."""
        self._queries.clear()
        self._keys.clear()

    @torch.no_grad()
    def _end_call(self, unet: torch.nn.Module, inputs: tuple, output: Any) -> None:
        if self._queries.keys() != self._layers.keys() or self._keys.keys() != self._layers.keys():
            missed = sorted(self._layers.keys() - (self._queries.keys() & self._keys.keys()))
            raise RuntimeError(f"cross-attention {missed[0]} made no query or key: its projections are bypassed")
        if self.calls == 0:
            self._check_shapes()
            self._allocate()
        elif self.calls == self._capacity:
            self._stored = [torch.cat([stored, torch.empty_like(stored)]) for stored in self._stored]
            self._capacity *= 2
        for names, stored in zip(self._members, self._stored, strict=True):
            self._store_group(names, stored[self.calls])
        self.calls += 1
        self.forget_call()

    def _check_shapes(self) -> None:
        for name in self._layers:
            rows, tokens = self._queries[name].shape[0], self._keys[name].shape[1]
            if rows != self._total_rows:
                guidance = "with" if self._total_rows > self._batch else "without"
                raise ValueError(
                    f"the U-Net was called with {rows} rows: expected {self._total_rows} "
                    f"({self._batch} images {guidance} guidance)"
                )
            if tokens != self._groups.shape[1]:
                raise ValueError(f"{name} reads {tokens} tokens: groups have {self._groups.shape[1]}")

    def _allocate(self) -> None:
        """Group the layers by positions and heads, in call order, and reserve room for every step."""
        members: dict[tuple[int, int, int, float], list[str]] = {}
        for name, query in self._queries.items():
            layer = self._layers[name]
            members.setdefault((query.shape[1], layer.heads, query.shape[2], layer.scale), []).append(name)
        device = next(iter(self._queries.values())).device
        self._groups = self._groups.to(device=device, dtype=torch.float32)
        columns = self._groups.shape[2]
        self._members = list(members.values())
        self._stored = [
            torch.empty(
                (self._capacity, len(names), self._batch, heads if self._keep_heads else 1, columns, positions),
                dtype=self._dtype,
                device=device,
            )
            for (positions, heads, _, _), names in members.items()
        ]

    def _store_group(self, names: list[str], stored: torch.Tensor) -> None:
        """Probabilities per word of layers of one shape, into ``stored [layers, B, heads or 1, W, positions]``."""
        heads, positions = self._layers[names[0]].heads, stored.shape[-1]
        chunk = max(1, MAX_SCORE_ELEMENTS // (self._batch * heads * positions * self._groups.shape[1]))
        for start in range(0, len(names), chunk):
            part = names[start : start + chunk]
            # Positions last throughout: what is stored then lies as it is computed.
            keys, queries = self._per_head(self._keys, part, heads), self._per_head(self._queries, part, heads)
            scores = torch.bmm(keys.mul_(self._layers[part[0]].scale), queries.mT)
            probabilities = scores.softmax(-2).unflatten(0, (len(part), self._batch, heads))
            words = torch.matmul(self._groups.mT[:, None], probabilities)
            stored[start : start + chunk] = words if self._keep_heads else words.mean(2, keepdim=True)

    def _per_head(self, projected: dict[str, torch.Tensor], names: list[str], heads: int) -> torch.Tensor:
        """``[rows, n, heads * d]`` of each layer to fp32 ``[layers * B * heads, n, d]`` of the branch captured."""
        branch = torch.stack([projected[name][self._rows] for name in names]).float()
        return branch.unflatten(3, (heads, -1)).transpose(2, 3).flatten(0, 2)

    def _resolution(self, positions: int) -> tuple[int, int]:
        """``(h, w)`` of a layer: the latent size halved (rounding up) until the number of positions fits."""
        height, width = self._latent_size
        while height * width > positions:
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width != positions:
            raise ValueError(f"{positions} positions do not come from halving latents of {self._latent_size}")
        return height, width


@contextmanager
def capture_attention(
    denoiser: torch.nn.Module,
    groups: torch.Tensor,
    *,
    batch: int,
    guidance: bool,
    steps: int,
    columns: Sequence[str] | None = None,
    branch: Literal["positive", "negative"] = "positive",
    attentions: Sequence[str] = TEXT_READING,
    dtype: torch.dtype = torch.float16,
    keep_heads: bool = True,
    text_share: bool = True,
) -> Iterator[AttentionCapture | JointAttentionCapture]:
    """Capture the attention that the image pays to the text in every denoiser call inside the ``with`` block.

    Args:
        denoiser: a diffusers U-Net (SD1, SD2 and SDXL have the same cross-attention modules), or the joint transformer
            of SD3 or Flux (see ``joint_attention`` for what its maps are).
        groups: ``[batch or 1, L, W]`` token position to column, rows summing to one (``PromptWords.matrix``).
        batch: number of images generated at once.
        guidance: whether the denoiser is called with ``2 * batch`` rows, ``[negative, positive]``. For Flux: whether
            it is called twice with ``batch`` rows, positive first (``true_cfg_scale``); its distilled guidance is one
            call, without.
        steps: denoiser calls expected (of one branch); room is reserved for as many and doubled when there are more.
        columns: names of the ``W`` columns.
        branch: which half to capture under guidance.
        attentions: see ``cross_attention_layers``; U-Nets only.
        dtype: of the stored cube; scores and softmax are fp32 always.
        keep_heads: False stores the mean over the heads as one head: 24 times less for Flux.
        text_share: whether to keep ``AttentionGroup.text_share`` of a joint transformer. The word maps need the text
            keys only; the share needs the scores against all image keys again, as many as the layer itself computes.

    Yields:
        The capture; ``capture.cube()`` gives the result, inside the block or after it.

    Raises:
        ValueError: on groups of a wrong shape or with rows that do not sum to one, on a denoiser whose
            attention cannot be captured, and at the first call if its rows or tokens differ.
        RuntimeError: at the end of a call that bypassed a captured layer.
    """
    groups = groups[None] if groups.ndim == 2 else groups
    if groups.ndim != 3 or groups.shape[0] not in (1, batch):
        raise ValueError(f"groups have shape {tuple(groups.shape)}: expected [{batch} or 1, tokens, columns]")
    if not torch.allclose(groups.sum(-1).float(), torch.ones(()), atol=1e-5):
        raise ValueError("rows of groups do not sum to one: expected every token in exactly one column")
    names = tuple(map(str, range(groups.shape[2]))) if columns is None else tuple(columns)
    if len(names) != groups.shape[2]:
        raise ValueError(f"{len(names)} column names for {groups.shape[2]} columns")
    if branch == "negative" and not guidance:
        raise ValueError("without guidance there is no negative branch to capture")
    if steps < 1 or batch < 1:
        raise ValueError(f"steps is {steps} and batch {batch}: expected at least 1")
    options = {"batch": batch, "steps": steps, "columns": names, "dtype": dtype, "keep_heads": keep_heads}
    if is_joint_transformer(denoiser):
        if tuple(attentions) != TEXT_READING:
            raise ValueError(f"attentions are {tuple(attentions)}: they are a U-Net's, joint attention has no choice")
        options |= {"guidance": guidance, "branch": branch, "text_share": text_share}
        capture = JointAttentionCapture(denoiser, groups, **options)
    else:
        rows = slice(batch) if branch == "negative" or not guidance else slice(batch, 2 * batch)
        total_rows = 2 * batch if guidance else batch
        layers = cross_attention_layers(denoiser, attentions)
        capture = AttentionCapture(layers, groups, rows=rows, total_rows=total_rows, **options)
    handles: list[Any] = []
    try:
        handles += capture.register(denoiser)
        yield capture
    finally:
        for handle in handles:
            handle.remove()
        capture.forget_call()
