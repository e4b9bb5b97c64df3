"""Which family a model is of, told by configurations and tensor names alone: no weights are read, no torch imported.

Families differ in architecture, so what tells them apart holds at any size: SDXL conditions on text and picture size,
SD 2.x projects into its transformers linearly, SD 1.x by convolutions; SD3 and Flux attend jointly to picture and text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_files import Shapes, WeightError

Family = Literal["sd1", "sd2", "sdxl", "sd3", "flux", "unknown"]

FAMILY_NAMES: dict[Family, str] = {
    "sd1": "SD 1.x",
    "sd2": "SD 2.x",
    "sdxl": "SDXL",
    "sd3": "SD3",
    "flux": "Flux",
    "unknown": "unknown",
}
TRANSFORMER_PIPELINES: dict[str, Family] = {"StableDiffusion3Pipeline": "sd3", "FluxPipeline": "flux"}
TRANSFORMER_FAMILIES: tuple[Family, ...] = ("sd3", "flux")
"""Families that denoise by a joint transformer, not by a U-Net."""
TEXT_WIDTHS: dict[int, Family] = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
SINGLE_FILE_PARTS = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
"""Name prefixes of each diffusers component in the layout of the original LDM code (CompVis, Stability AI)."""

_LORA_NAME = re.compile(r"lora[._](down|up|A|B)\b|lora_linear_layer|dora_scale|\.(hada|lokr|oft)_")
_LATER_TRANSFORMER_BLOCK = re.compile(r"(attentions?|blocks)[._0-9]*transformer_blocks[._][1-9]")


def unet_family(config: dict[str, Any]) -> Family:
    """Family of a U-Net by its ``config.json``."""
    if config.get("addition_embed_type") == "text_time":
        return "sdxl"
    return "sd2" if config.get("use_linear_projection") else "sd1"


def pipeline_family(folder: ModelFolder) -> Family:
    """Family of a diffusers pipeline folder; ``unknown`` where its JSON files cannot be read or say nothing."""
    try:
        kind = str(folder.index().get("_class_name"))
        if kind in TRANSFORMER_PIPELINES:
            return TRANSFORMER_PIPELINES[kind]
        if kind == "StableDiffusionXLPipeline":
            return "sdxl"
        return unet_family(folder.json("unet/config.json")) if kind == "StableDiffusionPipeline" else "unknown"
    except WeightError:
        return "unknown"


def single_file_parts(names: Iterable[str]) -> frozenset[str]:
    """Components (``unet``, ``vae``, ``text_encoder``, ``text_encoder_2``) that a single file holds."""
    names = list(names)
    return frozenset(
        part for part, prefixes in SINGLE_FILE_PARTS.items() if any(name.startswith(prefixes) for name in names)
    )


def single_file_family(shapes: Shapes) -> Family:
    """Family of a single file in the original layout; ``unknown`` for any other file."""
    if any("joint_blocks.0." in name for name in shapes):
        return "sd3"
    if any("double_blocks.0.img_attn." in name for name in shapes):
        return "flux"
    unet = {name: shape for name, shape in shapes.items() if name.startswith(SINGLE_FILE_PARTS["unet"])}
    if any(".label_emb." in name for name in unet):
        return "sdxl"
    return _family_by_projection(unet, "proj_in.weight")


def is_lora(shapes: Shapes) -> bool:
    """Whether a file holds an update of another model (LoRA, Hu et al. 2021, or a relative) and no whole model."""
    return any(_LORA_NAME.search(name) for name in shapes) and not single_file_parts(shapes)


def lora_family(shapes: Shapes) -> Family:
    """Family of the model a LoRA was made for; ``unknown`` where its tensors fit several."""
    if any("double_blocks" in name or "single_transformer_blocks" in name for name in shapes):
        return "flux"
    if any("joint_blocks" in name for name in shapes):
        return "sd3"
    second_encoder = ("text_encoder_2.", "lora_te2_")
    if any(name.startswith(second_encoder) or _LATER_TRANSFORMER_BLOCK.search(name) for name in shapes):
        return "sdxl"
    inputs = {name: shape for name, shape in shapes.items() if re.search(r"lora[._](down|A)\b", name)}
    for name, shape in inputs.items():
        if re.search(r"attn2[._]to_[kv]", name) and len(shape) == 2 and shape[1] in TEXT_WIDTHS:
            return TEXT_WIDTHS[shape[1]]
    return _family_by_projection({name: shape for name, shape in inputs.items() if "proj_in" in name}, "")


def _family_by_projection(shapes: Shapes, ending: str) -> Family:
    """SD 2.x if the projections into the transformers are linear, SD 1.x if they are convolutions."""
    ranks = {len(shape) for name, shape in shapes.items() if name.endswith(ending)}
    return {2: "sd2", 4: "sd1"}.get(ranks.pop(), "unknown") if len(ranks) == 1 else "unknown"
