"""A LoRA (low-rank update W + s B A, Hu et al. 2021) merged into a copy of its base's networks.

Merged, every layer is a plain one again, so that attention is captured as in any other model, and the base's own
networks are never touched. The layouts of diffusers, peft and kohya-ss are read as diffusers reads them.
"""

from __future__ import annotations

import copy
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.models.checkpoint_contents import lone_file
from explorer.models.components import check_networks, with_components
from explorer.models.weight_files import read_header

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.models.checkpoints import Checkpoint

TEXT_ENCODERS = {
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
MAX_SCALE = 10.0


def apply_lora(whole: DiffusionPipeline, checkpoint: Checkpoint) -> DiffusionPipeline:
    """A pipeline with the LoRA merged in; what it does not change is shared with ``whole``.

    Its strength s is ``config["scale"]`` of the manifest, 1 where the manifest names none.

    Raises:
        ValueError: naming the checkpoint, if peft is not installed, the scale is out of range, or not every one of the
            LoRA's tensors finds its place in the base.
    """
    if importlib.util.find_spec("peft") is None:
        raise _refusal(checkpoint, "a LoRA needs the package peft, which is not installed (pip install peft)")
    file = lone_file(checkpoint.folder)
    shapes = read_header(file)
    copies = {"unet": copy.deepcopy(whole.unet)}
    for component, prefixes in TEXT_ENCODERS.items():
        if any(name.startswith(prefixes) for name in shapes):
            if getattr(whole, component, None) is None:
                raise _refusal(checkpoint, f"it changes {component}, which its base {checkpoint.base.name} lacks")
            copies[component] = copy.deepcopy(getattr(whole, component))
    pipeline = with_components(whole, **copies)
    size = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(".alpha"))
    _merge(pipeline, file, size, checkpoint)
    check_networks(checkpoint.name, pipeline)
    return pipeline


def _merge(pipeline: DiffusionPipeline, file: Path, size: int, checkpoint: Checkpoint) -> None:
    """Load the LoRA's ``size`` values into a pipeline, make sure that all of them arrived, and merge them."""
    scale = _scale(checkpoint)
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True, use_safetensors=True)
    except (ValueError, RuntimeError, KeyError, IndexError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refusal(checkpoint, f"it does not fit its base {checkpoint.base.name}: {reason}") from error
    found = sum(
        parameter.numel()
        for network in pipeline.components.values()
        if hasattr(network, "named_parameters")
        for name, parameter in network.named_parameters()
        if ".lora_" in name
    )
    if found != size:
        raise _refusal(checkpoint, f"{found:,} of its {size:,} values find a place in its base {checkpoint.base.name}")
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()


def _scale(checkpoint: Checkpoint) -> float:
    config = checkpoint.manifest.get("config")
    scale = config.get("scale", 1.0) if isinstance(config, dict) else 1.0
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= MAX_SCALE:
        raise _refusal(checkpoint, f"its manifest says scale {scale!r}: expected a number up to {MAX_SCALE:g}")
    return float(scale)


def _refusal(checkpoint: Checkpoint, reason: str) -> ValueError:
    return ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {reason}")
