"""Which part of a denoiser a tensor is of, told by its name and the configuration: groups of modules, blocks, levels.

Names alone do not tell self- from cross-attention: in blocks that a U-Net's configuration builds with
``only_cross_attention``, ``attn1`` reads the text as well. Pure: no torch, so that a page can list grafts as it opens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

ALL = "all"
CROSS_KEYS_VALUES, CROSS_QUERIES_OUTPUT = "cross-attention-keys-values", "cross-attention-queries-output"
CROSS_ATTENTION, SELF_ATTENTION, FEED_FORWARD = "cross-attention", "self-attention", "feed-forward"
NORMS_PROJECTIONS, TRANSFORMER_BLOCKS = "transformer-norms-projections", "transformer-blocks"
CONVOLUTIONS, TIME_EMBEDDING = "convolutions", "time-embedding"
TEXT_KEYS_VALUES, TEXT_QUERIES_OUTPUT = "text-keys-values", "text-queries-output"
PICTURE_ATTENTION, SHARED_ATTENTION, ATTENTION = "picture-attention", "shared-attention", "attention"
MODULATION, EMBEDDERS = "modulation", "embedders"

_OF_UNET = (CROSS_KEYS_VALUES, CROSS_QUERIES_OUTPUT, SELF_ATTENTION, FEED_FORWARD, NORMS_PROJECTIONS)
_OF_JOINT = (TEXT_KEYS_VALUES, TEXT_QUERIES_OUTPUT, PICTURE_ATTENTION, SHARED_ATTENTION)
UNET_GROUPS: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in (*_OF_UNET, CONVOLUTIONS, TIME_EMBEDDING)},
    CROSS_ATTENTION: (CROSS_KEYS_VALUES, CROSS_QUERIES_OUTPUT),
    TRANSFORMER_BLOCKS: _OF_UNET,
    ALL: (*_OF_UNET, CONVOLUTIONS, TIME_EMBEDDING),
}
"""Of a U-Net: every group with the smallest ones that it is made of; each tensor is in one smallest group."""
JOINT_GROUPS: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in (*_OF_JOINT, FEED_FORWARD, MODULATION, TIME_EMBEDDING, EMBEDDERS)},
    ATTENTION: _OF_JOINT,
    TRANSFORMER_BLOCKS: (*_OF_JOINT, FEED_FORWARD, MODULATION),
    ALL: (*_OF_JOINT, FEED_FORWARD, MODULATION, TIME_EMBEDDING, EMBEDDERS),
}
"""Of a joint transformer. ``text-keys-values`` is what the picture reads of the text, as cross-attention is in a U-Net;
Flux's single-stream blocks project both by one weight (``shared-attention``)."""
NOT_HERE = {
    **dict.fromkeys(
        (CROSS_KEYS_VALUES, CROSS_QUERIES_OUTPUT, CROSS_ATTENTION, SELF_ATTENTION),
        f"picture and text attend to one another jointly there: expected {TEXT_KEYS_VALUES}, {TEXT_QUERIES_OUTPUT}, "
        f"{PICTURE_ATTENTION}, {SHARED_ATTENTION} or {ATTENTION}",
    ),
    CONVOLUTIONS: f"it has none but the one that cuts patches, which is among {EMBEDDERS}",
    NORMS_PROJECTIONS: f"its norms have no weights of their own but {MODULATION}",
}
"""Groups of U-Nets that joint transformers lack, and why."""


def groups_of(config: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    """The groups of a denoiser by its ``config.json``."""
    return UNET_GROUPS if "UNet" in config.get("_class_name", "") else JOINT_GROUPS


def smallest_group(name: str, config: Mapping[str, Any]) -> str:
    """The one smallest group that a tensor of this name is in."""
    return _group_in_unet(name, config) if groups_of(config) is UNET_GROUPS else _group_in_joint(name)


def chosen_tensors(
    names: Iterable[str], config: Mapping[str, Any], group: str, block: str | None = None, resolution: int | None = None
) -> list[str]:
    """Names of a group's tensors, sorted; those of one block or resolution where either is given.

    Args:
        names: of all tensors of the denoiser.
        config: its ``config.json``.
        group: one of :func:`groups_of`.
        block: such as ``down_blocks.0``, ``mid_block`` or ``transformer_blocks.3``.
        resolution: side of the latents that a U-Net's block works on, ``sample_size`` halved with every level.

    Raises:
        ValueError: for a group that this kind of denoiser lacks, or a block or resolution without such tensors.
    """
    known = groups_of(config)
    if group not in known:
        why = NOT_HERE.get(group, "") if known is JOINT_GROUPS else ""
        reason = f": {why}" if why else f": expected one of {', '.join(known)}"
        raise ValueError(f"{config.get('_class_name')} has no group {group!r}{reason}")
    blocks = None if resolution is None else blocks_at(config, resolution)
    found = sorted(
        name for name in names
        if smallest_group(name, config) in known[group]
        and (block is None or name.startswith(f"{block}."))
        and (blocks is None or block_of(name) in blocks)
    )  # fmt: skip
    if not found:
        where = "".join((f" in block {block!r}" if block is not None else "",
                         f" at resolution {resolution}" if resolution is not None else ""))  # fmt: skip
        raise ValueError(f"{config.get('_class_name')} has no tensors of {group}{where}")
    return found


def block_of(name: str) -> str | None:
    """The block that a tensor is in; None for what is before, behind or beside them."""
    first, *rest = name.split(".")
    if first == "mid_block":
        return first
    return f"{first}.{rest[0]}" if first.endswith("_blocks") else None


def blocks_of(names: Iterable[str]) -> list[str]:
    """All blocks of a denoiser, in the order in which a picture passes through them."""
    places = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2, "transformer_blocks": 0, "single_transformer_blocks": 1}
    found = {block for name in names if (block := block_of(name)) is not None}
    return sorted(found, key=lambda block: (places[block.split(".")[0]], int(f"0{block.partition('.')[2]}")))


def blocks_at(config: Mapping[str, Any], resolution: int) -> set[str]:
    """Blocks of a U-Net that work on latents of this side, its own picture taken.

    Raises:
        ValueError: if it has no such level, or is no U-Net.
    """
    if groups_of(config) is not UNET_GROUPS:
        raise ValueError(f"{config.get('_class_name')} works at one resolution: expected none, or a block")
    levels = len(config["block_out_channels"])
    sides = [config["sample_size"] >> level for level in range(levels)]
    if resolution not in sides:
        raise ValueError(f"resolution is {resolution}: expected one of {', '.join(map(str, sides))}")
    level = sides.index(resolution)
    lowest = {"mid_block"} if level == levels - 1 else set()
    return {f"down_blocks.{level}", f"up_blocks.{levels - 1 - level}"} | lowest


def parameter_share(shapes: Shapes, names: Iterable[str]) -> float:
    """Share of a denoiser's parameters in the tensors named, 0 to 1."""
    return sum(math.prod(shapes[name]) for name in names) / sum(map(math.prod, shapes.values()))


def _group_in_unet(name: str, config: Mapping[str, Any]) -> str:
    parts = name.split(".")
    if "attentions" in parts:
        if "ff" in parts:
            return FEED_FORWARD
        attention = next((part for part in parts if part in ("attn1", "attn2")), None)
        if attention is None:
            return NORMS_PROJECTIONS
        if attention == "attn1" and not _only_cross_attention(parts, config):
            return SELF_ATTENTION
        return CROSS_KEYS_VALUES if {"to_k", "to_v"} & set(parts) else CROSS_QUERIES_OUTPUT
    of_time = parts[0] in ("time_embedding", "add_embedding", "class_embedding") or "time_emb_proj" in parts
    return TIME_EMBEDDING if of_time else CONVOLUTIONS


def _only_cross_attention(parts: list[str], config: Mapping[str, Any]) -> bool:
    """Whether the block of a tensor was built with ``only_cross_attention``, as diffusers' U-Net decides it."""
    stated = config.get("only_cross_attention", False)
    if parts[0] == "mid_block":
        middle = config.get("mid_block_only_cross_attention")
        return bool(stated is True if middle is None else middle)
    if isinstance(stated, bool):
        return stated
    level = int(parts[1])
    return bool(stated[level] if parts[0] == "down_blocks" else stated[len(stated) - 1 - level])


def _group_in_joint(name: str) -> str:
    parts = name.split(".")
    if not parts[0].endswith("transformer_blocks"):
        return TIME_EMBEDDING if parts[0] == "time_text_embed" else MODULATION if parts[0] == "norm_out" else EMBEDDERS
    module = parts[2]
    if module in ("attn", "attn2"):
        if parts[0] == "single_transformer_blocks":
            return SHARED_ATTENTION
        if parts[3] in ("add_k_proj", "add_v_proj", "norm_added_k"):
            return TEXT_KEYS_VALUES
        return TEXT_QUERIES_OUTPUT if parts[3] in ("add_q_proj", "to_add_out", "norm_added_q") else PICTURE_ATTENTION
    return MODULATION if module.startswith("norm") else FEED_FORWARD
