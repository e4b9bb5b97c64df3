"""Token attention maps of a diffusers U-Net or joint transformer, captured beside the generation without changing it.

The lower level, for callers that know how the denoiser will be called; ``record`` finds that out. What is computed lies
in ``unet`` and ``joint``, how calls are followed in ``hooks``.

Convention of the maps: Hertz et al. 2022 (prompt-to-prompt), equation for M = softmax(Q K^T / sqrt(d)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch

from explorer.attention.hooks import Calls, FindCalls
from explorer.attention.joint import JointAttention, JointCapture, is_joint_transformer
from explorer.attention.storage import AttentionCapture
from explorer.attention.unet import TEXT_READING, CrossAttention, CrossAttentionCapture


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
) -> Iterator[AttentionCapture]:
    """Capture the attention that the image pays to the text in every denoiser call inside the ``with`` block.

    Args:
        denoiser: a diffusers U-Net (SD1, SD2 and SDXL have the same cross-attention modules), or the joint transformer
            of SD3 or Flux (see ``joint`` for what its maps are).
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
    calls = Calls(batch=batch, guidance=guidance, steps=steps)
    capture = make_capture(
        denoiser, groups, lambda rows: calls, columns=names, negative=branch == "negative", attentions=attentions,
        dtype=dtype, keep_heads=keep_heads, text_share=text_share,
    )  # fmt: skip
    with capture.attached():
        yield capture


def make_capture(
    denoiser: torch.nn.Module,
    groups: torch.Tensor,
    find: FindCalls,
    *,
    columns: tuple[str, ...],
    negative: bool = False,
    attentions: Sequence[str] = TEXT_READING,
    dtype: torch.dtype = torch.float16,
    keep_heads: bool = True,
    text_share: bool = True,
    gradient: bool = False,
) -> AttentionCapture:
    """A capture that is to be attached; see ``capture_attention``.

    Args:
        find: says how the denoiser is called.
        gradient: keep the probabilities in the graph.
    """
    options = {
        "negative": negative, "columns": columns, "dtype": dtype, "keep_heads": keep_heads, "gradient": gradient
    }  # fmt: skip
    if not is_joint_transformer(denoiser):
        return CrossAttentionCapture(denoiser, CrossAttention(denoiser, attentions), groups, find, **options)
    if tuple(attentions) != TEXT_READING:
        raise ValueError(f"attentions are {tuple(attentions)}: they are a U-Net's, joint attention has no choice")
    return JointCapture(denoiser, JointAttention(denoiser), groups, find, text_share=text_share, **options)
