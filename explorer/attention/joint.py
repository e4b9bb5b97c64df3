"""Text attention of joint-attention transformers (MM-DiT: SD3, Flux), captured beside the generation.

In joint attention (Esser et al. 2024, section 4) a query reads the keys of text and image in one softmax, so a row of
its image-to-text block sums to less than one. The block is kept as two quantities, whose product it is:

- the *word maps*: the block renormalised over the text keys, ``softmax(Q_image K_text^T / sqrt(d))``, summed over each
  word's tokens. Their rows sum to one, so that they compare with those of cross-attention;
- the *text share*: the row's sum before that, how much of an image token's attention goes to the text at all.

As for a U-Net, the attention processors stay as they are and hooks that return nothing keep what the layers have
computed anyway: after the norms of queries and keys, and turned by the same rotary embedding. Each layer is worked off
as it ends, in blocks of queries: no attention matrix is ever whole, and one layer's queries and keys are held at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from explorer.attention.hooks import argument
from explorer.attention.maps import AttentionGroup
from explorer.attention.storage import AttentionCapture

MAX_SCORE_ELEMENTS = 1 << 24  # 64 MiB of fp32 scores at once; longer pictures are worked off in blocks of queries
JOINT_TRANSFORMERS = ("SD3Transformer2DModel", "FluxTransformer2DModel")
FLUX = "FluxTransformer2DModel"
IMAGE_IDS_POSITION = 4
"""Of ``img_ids`` among the arguments of Flux's transformer."""
_JOINT_LAYER = re.compile(r"(single_)?transformer_blocks\.\d+\.attn")


def is_joint_transformer(denoiser: torch.nn.Module) -> bool:
    """Whether this is a transformer whose joint attention can be captured."""
    return type(denoiser).__name__ in JOINT_TRANSFORMERS


def joint_attention_layers(transformer: torch.nn.Module) -> dict[str, Any]:
    """The attention modules in which image and text meet, by name, in call order.

    Flux has them in its double-stream and in its single-stream blocks. The second attention of SD 3.5's dual blocks
    (``attn2``) reads the image alone and is not among them.

    Raises:
        ValueError: if this is another kind of model, or a layer's processor computes something else than the plain
            joint softmax (perturbed attention, IP-Adapter, SD3 with fused projections).
    """
    from diffusers.models.attention_processor import JointAttnProcessor2_0
    from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

    if not is_joint_transformer(transformer):
        raise ValueError(f"{type(transformer).__name__} is given: expected one of {', '.join(JOINT_TRANSFORMERS)}")
    layers = {name: module for name, module in transformer.named_modules() if _JOINT_LAYER.fullmatch(name)}
    for name, module in layers.items():
        if not isinstance(module.processor, JointAttnProcessor2_0 | FluxAttnProcessor):
            raise ValueError(
                f"{name} computes its attention by {type(module.processor).__name__}: expected JointAttnProcessor2_0 "
                "or FluxAttnProcessor"
            )
    return layers


class JointAttention:
    """Where a joint transformer's attention has its parts; see :class:`~explorer.attention.hooks.TextAttention`."""

    network, sample_name, text_position = "transformer", "hidden_states", 1
    layer_keywords = ("image_rotary_emb",)

    def __init__(self, transformer: torch.nn.Module):
        self.layers = joint_attention_layers(transformer)
        self.flux = self.guides_by_calls = type(transformer).__name__ == FLUX
        self.patch = 1 if self.flux else transformer.config.patch_size

    def projections(self, layer: Any) -> dict[str, torch.nn.Module]:
        """Queries and keys: the norms where there are any. A single-stream block has text and image in one sequence."""
        found = {"query": layer.norm_q or layer.to_q, "key": layer.norm_k or layer.to_k}
        if layer.added_kv_proj_dim is not None:
            found["text key"] = layer.norm_added_k or layer.add_k_proj
        return found

    def text_value(self, layer: Any) -> torch.nn.Module:
        """Which has the image behind the text in a single-stream block."""
        return layer.to_v if layer.added_kv_proj_dim is None else layer.add_v_proj

    def output(self, layer: Any) -> torch.nn.Module | None:
        """The image's output projection; a single-stream block has none of its own."""
        return None if layer.added_kv_proj_dim is None else layer.to_out[0]

    def probabilities(self, layer: Any, kept: Mapping[str, Any], tokens: int) -> torch.Tensor:
        """The text's block of the joint softmax; its rows sum to the text share."""
        blocks = joint_softmax(*self.parts(layer, kept, tokens))
        return torch.cat([words * share[..., None] for _, words, share in blocks], dim=2)

    def parts(
        self, layer: Any, kept: Mapping[str, Any], tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image queries, text keys and image keys of a layer, fp32 ``[B, heads, positions, d]``, as its softmax has
        them."""
        query, key = (kept[part] for part in ("query", "key"))
        if not self.flux:
            return tuple(_split_heads(part, layer.heads) for part in (query, kept["text key"], key))
        if "text key" not in kept:  # a single-stream block: text and image are one sequence, text first
            query, text_key, key = query[:, tokens:], key[:, :tokens], key[:, tokens:]
        else:
            text_key = kept["text key"]
        turn = kept["image_rotary_emb"]
        return (
            _turn(query, turn, slice(tokens, None)),
            _turn(text_key, turn, slice(tokens)),
            _turn(key, turn, slice(tokens, None)),
        )


class JointCapture(AttentionCapture):
    """Collects the text attention of every transformer call."""

    def __init__(self, transformer: torch.nn.Module, *arguments: Any, text_share: bool, **options: Any):
        super().__init__(transformer, *arguments, **options)
        self._order = {name: index for index, name in enumerate(self._layers)}
        self._with_share = text_share
        self._grid: tuple[int, int] | None = None
        self._done: set[str] = set()

    def _grouped(self, kept: list[torch.Tensor]) -> tuple[AttentionGroup, ...]:
        words, *share = (stored.unflatten(-1, self._grid) for stored in kept)
        layers = tuple(self._layers)
        return (AttentionGroup(layers=layers, probabilities=words, text_share=share[0] if share else None),)

    def _register(self, handles: list[Any]) -> None:
        super()._register(handles)
        for name, layer in self._layers.items():
            handles.append(layer.register_forward_hook(self._end_layer(name)))

    def _forget_call(self) -> None:
        super()._forget_call()
        self._done.clear()

    def _begin(self, sample: torch.Tensor, inputs: tuple, keywords: dict[str, Any]) -> None:
        super()._begin(sample, inputs, keywords)
        if self._grid is None:
            image_ids = argument(inputs, keywords, IMAGE_IDS_POSITION, "img_ids") if self._attention.flux else None
            self._grid = self._measure(sample, image_ids)

    def _measure(self, sample: torch.Tensor, image_ids: torch.Tensor | None) -> tuple[int, int]:
        """``(h, w)`` of the image tokens: from the latents, for Flux (which packs them) from the tokens' ids."""
        if image_ids is None:
            return sample.shape[-2] // self._attention.patch, sample.shape[-1] // self._attention.patch
        # As Python's numbers: the ids have the model's precision, in which a product of two sides may not exist.
        rows, columns = (int(image_ids.flatten(0, -2)[:, axis].max()) + 1 for axis in (1, 2))
        if rows * columns != sample.shape[1]:
            raise ValueError(
                f"the transformer reads {sample.shape[1]} image tokens, their ids span {rows} x {columns}: "
                "expected the tokens of one picture"
            )
        return rows, columns

    def _end_layer(self, name: str) -> Any:
        def hook(layer: torch.nn.Module, inputs: tuple, output: Any) -> None:
            if self._following:
                kept = self._take(name)
                with self._graph():
                    self._store_layer(name, *self._attention.parts(layer, kept, self._tokens))
                self._done.add(name)

        return hook

    def _finish(self) -> None:
        if missed := [name for name in self._layers if name not in self._done]:
            raise RuntimeError(f"joint attention {missed[0]} was not called: its block is bypassed")

    def _of_text(self, probabilities: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return probabilities / share.clamp_min(torch.finfo(share.dtype).tiny)[..., None]

    def _store_layer(self, name: str, query: torch.Tensor, text_key: torch.Tensor, key: torch.Tensor) -> None:
        """Word maps and text share of one layer, block by block of its queries."""
        batch, heads, positions, _ = query.shape
        if not self._stored:
            shape = (len(self._layers), batch, heads if self._keep_heads else 1)
            self._stored = [self._room(*shape, self._groups.shape[2], positions)]
            self._stored += [self._room(*shape, positions)] if self._with_share else []
        words, *share = (stored[self.calls, self._order[name]] for stored in self._stored)
        if name in self._edited:
            words[...], edited_share = self._edited.pop(name)
            for kept in share:
                kept[...] = edited_share
            return
        for block, probabilities, text in joint_softmax(query, text_key, key if share else None):
            words[..., block] = self._over_heads((probabilities @ self._groups[:, None]).mT)
            for kept in share:
                kept[..., block] = self._over_heads(text)


def joint_softmax(
    query: torch.Tensor, text_key: torch.Tensor, key: torch.Tensor | None
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor | None]]:
    """The text's block of the softmax over text and image, block by block of the queries: no matrix is ever whole.

    Args:
        query: of the image, ``[B, heads, positions, d]``.
        text_key: ``[B, heads, L, d]``.
        key: of the image, ``[B, heads, positions, d]``; None if the share is not wanted.

    Yields:
        Which queries, the softmax over the text alone ``[B, heads, block, L]``, and the text share
        ``[B, heads, block]``; their product is the joint softmax's.
    """
    batch, heads, positions, width = query.shape
    block = max(1, MAX_SCORE_ELEMENTS // (batch * heads * (positions + text_key.shape[2])))
    query = query * width**-0.5
    for start in range(0, positions, block):
        part = query[:, :, start : start + block]
        scores = part @ text_key.mT
        share = None if key is None else (scores.logsumexp(-1) - (part @ key.mT).logsumexp(-1)).sigmoid()
        yield slice(start, start + block), scores.softmax(-1), share


def _split_heads(projected: torch.Tensor, heads: int) -> torch.Tensor:
    """SD3's ``[B, positions, heads * d]``, or ``[B, heads, positions, d]`` behind a norm, to the latter in fp32."""
    split = projected.unflatten(2, (heads, -1)).transpose(1, 2) if projected.ndim == 3 else projected
    return split.float()


def _turn(projected: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor] | None, of: slice) -> torch.Tensor:
    """Flux's ``[B, positions, heads, d]``, turned by the rotary embedding of its positions, heads first in fp32."""
    from diffusers.models.embeddings import apply_rotary_emb

    if rotary is not None:
        projected = apply_rotary_emb(projected, (rotary[0][of], rotary[1][of]), sequence_dim=1)
    return projected.transpose(1, 2).float()
