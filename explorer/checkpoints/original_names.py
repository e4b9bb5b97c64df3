"""Names of a U-Net's tensors in the layout of the original LDM code (CompVis, Stability AI), and in diffusers'.

The two differ in names alone, so that headers tell what a single file holds before anything of it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from explorer.checkpoints.families import SINGLE_FILE_PARTS
from explorer.checkpoints.weight_files import WeightError

PLACES = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
"""Where in the original lies what is in no numbered block, by diffusers' names."""
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
"""Layers of a residual block in the original, by diffusers' names."""
RESAMPLERS = {"op": "downsamplers.0.conv", "conv": "upsamplers.0.conv"}
"""Diffusers' names of down- and upsampling, by the original's."""

_BLOCK = re.compile(r"(?P<side>input|output)_blocks\.(?P<number>\d{1,4})\.(?P<part>[012])\.(?P<rest>.+)")


def original_names(names: Iterable[str], layers_per_block: int) -> dict[str, str]:
    """The U-Net's tensors in a single file: their names there by those that diffusers gives them.

    Args:
        names: of all tensors in the file.
        layers_per_block: of the U-Net's configuration.

    Raises:
        WeightError: naming a tensor of the U-Net that has no place in diffusers', or two for one place.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        for prefix in SINGLE_FILE_PARTS["unet"]:
            if name.startswith(prefix):
                own = _in_diffusers(name.removeprefix(prefix), layers_per_block)
                if own is None or own in found:
                    raise WeightError(f"{name} has no place of its own in diffusers' U-Net: expected the original's")
                found[own] = name
    return found


def _in_diffusers(name: str, layers_per_block: int) -> str | None:
    """Diffusers' name of a tensor; None where the original code has none of this name."""
    for place, original in PLACES.items():
        if name.startswith(f"{original}."):
            return _in_block(place, name.removeprefix(f"{original}."))
    found = _BLOCK.fullmatch(name)
    if found is None:
        return None
    down, rest = found["side"] == "input", found["rest"]
    # Both sides count a block's layers and one more: downsampling here, there one more layer.
    block, layer = divmod(int(found["number"]) - down, layers_per_block + 1)
    around = f"{'down' if down else 'up'}_blocks.{block}"
    first, _, last = rest.partition(".")
    if first in RESAMPLERS:
        return f"{around}.{RESAMPLERS[first]}.{last}"
    kind = {"0": "resnets", "1": "attentions"}.get(found["part"])
    return None if kind is None else _in_block(f"{around}.{kind}.{layer}", rest)


def _in_block(place: str, rest: str) -> str:
    if ".resnets." in place:
        for new, old in RESNET.items():
            if rest.startswith(f"{old}."):
                return f"{place}.{new}{rest.removeprefix(old)}"
    return f"{place}.{rest}"
