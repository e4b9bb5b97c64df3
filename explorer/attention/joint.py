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
from typing import Any, Literal

import torch

from explorer.attention.maps import AttentionCube, AttentionGroup

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


class JointAttentionCapture:
    """Collects the text attention of every transformer call; made by ``capture_attention``."""

    def __init__(
        self,
        transformer: torch.nn.Module,
        groups: torch.Tensor,
        *,
        batch: int,
        guidance: bool,
        branch: Literal["positive", "negative"],
        steps: int,
        columns: tuple[str, ...],
        dtype: torch.dtype,
        keep_heads: bool,
        text_share: bool,
    ):
        self.calls = 0
        """Transformer calls captured so far."""
        self._layers = joint_attention_layers(transformer)
        self._order = {name: index for index, name in enumerate(self._layers)}
        self._flux = type(transformer).__name__ == FLUX
        self._patch = 1 if self._flux else transformer.config.patch_size
        self._groups, self._columns, self._dtype = groups, columns, dtype
        self._capacity, self._keep_heads, self._with_share = steps, keep_heads, text_share
        self._batch, self._guidance, self._negative = batch, guidance, branch == "negative"
        # SD3's pipeline doubles the rows, [negative, positive]; Flux's calls twice, positive first.
        second_half = guidance and not self._flux and not self._negative
        self._rows = slice(batch, 2 * batch) if second_half else slice(batch)
        self._total_rows = 2 * batch if guidance and not self._flux else batch
        self._grid: tuple[int, int] | None = None
        self._words: torch.Tensor | None = None
        self._share: torch.Tensor | None = None
        self._calls_seen = 0
        self._capturing = False
        self._done: set[str] = set()
        self._kept: dict[str, Any] = {}

    def cube(self) -> AttentionCube:
        """Everything captured so far.

        Raises:
            ValueError: if the transformer was not called.
        """
        if self.calls == 0:
            raise ValueError("nothing was captured: the transformer was not called inside the with block")
        share = None if self._share is None else self._of_calls(self._share)
        group = AttentionGroup(
            layers=tuple(self._layers), probabilities=self._of_calls(self._words), text_share=share
        )  # fmt: skip
        return AttentionCube(groups=(group,), columns=self._columns)

    def _of_calls(self, stored: torch.Tensor) -> torch.Tensor:
        kept = stored[: self.calls]
        return (kept if self.calls == self._capacity else kept.clone()).unflatten(-1, self._grid)

    def register(self, transformer: torch.nn.Module) -> list[Any]:
        """Put the hooks on; returns their handles."""
        handles = [
            transformer.register_forward_pre_hook(self._begin_call, with_kwargs=True),
            transformer.register_forward_hook(self._end_call),
        ]
        for name, layer in self._layers.items():
            handles.append(layer.register_forward_pre_hook(self._begin_layer, with_kwargs=True))
            for part, module in _projections(layer).items():
                handles.append(module.register_forward_hook(self._keep(part)))
            handles.append(layer.register_forward_hook(self._end_layer(name)))
        return handles

    def _keep(self, part: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            if self._capturing:
                self._kept[part] = output[self._rows]

        return hook

    def forget_call(self) -> None:
        """Drop references to the activations of an unfinished call."""
        self._kept.clear()
        self._done.clear()
        self._capturing = False

    def _begin_call(self, transformer: torch.nn.Module, inputs: tuple, keywords: dict[str, Any]) -> None:
        self.forget_call()
        if keywords.get("skip_layers") is not None:  # skip-layer guidance: a further call, which is not captured
            return
        self._calls_seen += 1
        if self._flux and self._guidance and (self._calls_seen % 2 == 1) == self._negative:
            return
        sample = _argument(inputs, keywords, 0, "hidden_states")
        text = _argument(inputs, keywords, 1, "encoder_hidden_states")
        self._check_shapes(sample, text)
        if self._grid is None:
            image_ids = _argument(inputs, keywords, IMAGE_IDS_POSITION, "img_ids") if self._flux else None
            self._grid = self._measure(sample, image_ids)
        if self.calls == self._capacity:
            self._words, self._share = (
                None if stored is None else torch.cat([stored, torch.empty_like(stored)])
                for stored in (self._words, self._share)
            )
            self._capacity *= 2
        self._capturing = True

    def _check_shapes(self, sample: torch.Tensor, text: torch.Tensor) -> None:
        if sample.shape[0] != self._total_rows:
            guidance = "with" if self._guidance else "without"
            raise ValueError(
                f"the transformer was called with {sample.shape[0]} rows: expected {self._total_rows} "
                f"({self._batch} images {guidance} guidance)"
            )
        if text.shape[1] != self._groups.shape[1]:
            raise ValueError(f"the transformer reads {text.shape[1]} text tokens: groups have {self._groups.shape[1]}")

    def _measure(self, sample: torch.Tensor, image_ids: torch.Tensor | None) -> tuple[int, int]:
        """``(h, w)`` of the image tokens: from the latents, for Flux (which packs them) from the tokens' ids."""
        if image_ids is None:
            return sample.shape[-2] // self._patch, sample.shape[-1] // self._patch
        # As Python's numbers: the ids have the model's precision, in which a product of two sides may not exist.
        rows, columns = (int(image_ids.flatten(0, -2)[:, axis].max()) + 1 for axis in (1, 2))
        if rows * columns != sample.shape[1]:
            raise ValueError(
                f"the transformer reads {sample.shape[1]} image tokens, their ids span {rows} x {columns}: "
                "expected the tokens of one picture"
            )
        return rows, columns

    def _begin_layer(self, layer: torch.nn.Module, inputs: tuple, keywords: dict[str, Any]) -> None:
        if self._capturing and keywords.get("attention_mask") is not None:
            raise ValueError("an attention mask is given: expected joint attention over all text and image tokens")
        self._kept = {"rotary": keywords.get("image_rotary_emb")} if self._capturing else {}

    def _end_layer(self, name: str) -> Any:
        @torch.no_grad()
        def hook(layer: torch.nn.Module, inputs: tuple, output: Any) -> None:
            if not self._capturing:
                return
            if missing := _projections(layer).keys() - self._kept.keys():
                raise RuntimeError(f"joint attention {name} made no {min(missing)}: its projections are bypassed")
            self._store_layer(self._order[name], *self._parts(layer))
            self._kept.clear()
            self._done.add(name)

        return hook

    def _end_call(self, transformer: torch.nn.Module, inputs: tuple, output: Any) -> None:
        if not self._capturing:
            return
        if missed := [name for name in self._layers if name not in self._done]:
            raise RuntimeError(f"joint attention {missed[0]} was not called: its block is bypassed")
        self.calls += 1
        self.forget_call()

    def _parts(self, layer: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image queries, text keys and image keys of a layer, fp32 ``[B, heads, positions, d]``, as its softmax has
        them."""
        query, key = (self._kept[part] for part in ("query", "key"))
        tokens = self._groups.shape[1]
        if not self._flux:
            return tuple(_split_heads(part, layer.heads) for part in (query, self._kept["text key"], key))
        if "text key" not in self._kept:  # a single-stream block: text and image are one sequence, text first
            query, text_key, key = query[:, tokens:], key[:, :tokens], key[:, tokens:]
        else:
            text_key = self._kept["text key"]
        turn = self._kept["rotary"]
        return (
            _turn(query, turn, slice(tokens, None)),
            _turn(text_key, turn, slice(tokens)),
            _turn(key, turn, slice(tokens, None)),
        )

    def _store_layer(self, index: int, query: torch.Tensor, text_key: torch.Tensor, key: torch.Tensor) -> None:
        """Word maps and text share of one layer, block by block of its queries."""
        batch, heads, positions, width = query.shape
        if self._words is None:
            self._allocate(heads, positions, query.device)
        block = max(1, MAX_SCORE_ELEMENTS // (batch * heads * (positions + text_key.shape[2])))
        words, query = self._words[self.calls, index], query * width**-0.5
        for start in range(0, positions, block):
            part = query[:, :, start : start + block]
            scores = part @ text_key.mT
            probabilities = (scores.softmax(-1) @ self._groups[:, None]).mT
            words[..., start : start + block] = self._over_heads(probabilities)
            if self._share is not None:
                image = (part @ key.mT).logsumexp(-1)
                share = (scores.logsumexp(-1) - image).sigmoid()
                self._share[self.calls, index, ..., start : start + block] = self._over_heads(share)

    def _over_heads(self, values: torch.Tensor) -> torch.Tensor:
        return values if self._keep_heads else values.mean(1, keepdim=True)

    def _allocate(self, heads: int, positions: int, device: torch.device) -> None:
        """Reserve room for every step."""
        self._groups = self._groups.to(device=device, dtype=torch.float32)
        shape = (self._capacity, len(self._layers), self._batch, heads if self._keep_heads else 1)
        columns = self._groups.shape[2]
        self._words = torch.empty((*shape, columns, positions), dtype=self._dtype, device=device)
        if self._with_share:
            self._share = torch.empty((*shape, positions), dtype=self._dtype, device=device)


def _projections(layer: Any) -> dict[str, torch.nn.Module]:
    """The modules whose outputs are a layer's queries and keys: the norms where there are any."""
    found = {"query": layer.norm_q or layer.to_q, "key": layer.norm_k or layer.to_k}
    if layer.added_kv_proj_dim is not None:
        found["text key"] = layer.norm_added_k or layer.add_k_proj
    return found


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


def _argument(inputs: tuple, keywords: dict[str, Any], position: int, name: str) -> Any:
    return inputs[position] if len(inputs) > position else keywords[name]
