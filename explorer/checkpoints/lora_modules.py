"""Where a LoRA's modules lie in the networks that it changes, whichever names its file gives them."""

from __future__ import annotations

import re
from typing import Any

from explorer.checkpoints.original_names import PLACES, RESNET

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
PREFIXES = {
    "lora_unet_": "unet", "unet.": "unet",
    "lora_te_": "text_encoder", "lora_te1_": "text_encoder", "text_encoder.": "text_encoder",
    "lora_te2_": "text_encoder_2", "text_encoder_2.": "text_encoder_2",
}  # fmt: skip
"""How kohya-ss and diffusers name the network in front of a module."""


def split_component(module: str) -> tuple[str, str]:
    """The network that a module's name in the file says, and the rest; without a prefix it is the U-Net's."""
    prefix = next((prefix for prefix in PREFIXES if module.startswith(prefix)), None)
    return ("unet", module) if prefix is None else (PREFIXES[prefix], module.removeprefix(prefix))


def flat(name: str) -> str:
    """A module's name with the dots that kohya-ss writes as underscores, and without what old diffusers put between."""
    return name.replace(".processor.", ".").replace(".", "_")


def places_of(network: Any, component: str) -> dict[str, str]:
    """Names of a network's modules that have a weight matrix, by every flat name under which LoRAs know them."""
    names = [name for name, module in network.named_modules() if getattr(module, "weight", None) is not None]
    known = {flat(name): name for name in names if network.get_submodule(name).weight.ndim > 1}
    if component in TEXT_ENCODERS:
        # Transformers 5 dropped the prefix; diffusers of old named the projections as in a U-Net.
        for name in list(known.values()):
            bare = name.removeprefix("text_model.")
            old = re.sub(r"self_attn\.(q|k|v|out)_proj", r"self_attn.to_\1", bare)
            known |= {flat(f"{front}{one}"): name for front in ("", "text_model.") for one in (bare, old)}
        return known
    known |= {flat(name.removesuffix(".0")): name for name in known.values() if name.endswith(".to_out.0")}
    original = _original_places(network)
    for name in list(known.values()):
        for place in (place for place in original if name == place or name.startswith(f"{place}.")):
            rest = name.removeprefix(place).removeprefix(".")
            rest = RESNET.get(rest, rest) if ".resnets." in place else rest
            known[flat(f"{original[place]}.{rest}".removesuffix("."))] = name
    return known


def _original_places(unet: Any) -> dict[str, str]:
    """Names in the original layout (CompVis, Stability AI) of a U-Net's parts, by the names they have here."""
    places = dict(PLACES)
    index = 1
    for at, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            places[f"down_blocks.{at}.resnets.{layer}"] = f"input_blocks.{index}.0"
            places[f"down_blocks.{at}.attentions.{layer}"] = f"input_blocks.{index}.1"
            index += 1
        if block.downsamplers:
            places[f"down_blocks.{at}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
            index += 1
    index = 0
    for at, block in enumerate(unet.up_blocks):
        for layer in range(len(block.resnets)):
            places[f"up_blocks.{at}.resnets.{layer}"] = f"output_blocks.{index}.0"
            places[f"up_blocks.{at}.attentions.{layer}"] = f"output_blocks.{index}.1"
            index += 1
        if block.upsamplers:
            after = 2 if getattr(block, "attentions", None) else 1
            places[f"up_blocks.{at}.upsamplers.0.conv"] = f"output_blocks.{index - 1}.{after}.conv"
    return places
