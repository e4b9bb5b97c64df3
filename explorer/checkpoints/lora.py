"""A LoRA (low-rank update W + s alpha/r B A, Hu et al. 2021) merged into a copy of its base's networks.

Merged, every layer is a plain one again, so that attention is captured as in any other model, and the base's own
networks are never touched. The sum is done here, module by module: diffusers 0.42 gives attention projections the alpha
that most modules have, where their own differs (huggingface/diffusers#3910).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from explorer.checkpoints.components import check_networks, with_components
from explorer.checkpoints.lora_layout import (
    MAX_ALPHA,
    PEFT_PREFIX,
    adapter_config,
    check_config,
    factor_of,
    lora_modules,
)
from explorer.checkpoints.lora_modules import TEXT_ENCODERS, flat, places_of, split_component
from explorer.checkpoints.weight_files import JsonReader, WeightError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

MAX_SCALE = 10.0
METADATA = "lora_adapter_metadata"
"""Entry of a file's header under which diffusers keeps peft's configurations, the network's name in front of each."""
PEFT_CLASSES = {
    "UNet2DConditionModel": "unet",
    "CLIPTextModel": "text_encoder",
    "CLIPTextModelWithProjection": "text_encoder_2",
}
"""Which network a peft adapter is for, by the class in its configuration."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a LoRA adds to one module: ``factor * up @ down``."""

    component: str
    """Network of the pipeline."""
    module: str
    """Name of the module in the network."""
    down: torch.Tensor
    """``[r, in]``, or of a convolution ``[r, in, h, w]``."""
    up: torch.Tensor
    """``[out, r]``, or of a convolution ``[out, r, 1, 1]``."""
    factor: float
    """``alpha / r``."""


def apply_lora(whole: DiffusionPipeline, checkpoint: Checkpoint) -> DiffusionPipeline:
    """A pipeline with the LoRA merged in; what it does not change is shared with ``whole``.

    Its strength s is ``config["scale"]`` of the manifest, 1 where the manifest names none. A module's alpha is the one
    in the file, or in peft's configuration; where neither names one it is the rank, as everywhere.

    Raises:
        ValueError: naming the checkpoint, if the scale is out of range, the file holds anything but plain updates, or
            not every one of them finds its place in the base.
    """
    scale = _scale(checkpoint)
    try:
        updates = read_updates(checkpoint.files[0], whole, checkpoint.place.read_json)
    except WeightError as error:
        raise _refusal(checkpoint, f"it does not fit its base {checkpoint.base.name}: {error}") from error
    changed = {"unet", *(update.component for update in updates)}
    pipeline = with_components(whole, **{name: copy.deepcopy(getattr(whole, name)) for name in sorted(changed)})
    for update in updates:
        _add(update, getattr(pipeline, update.component).get_submodule(update.module), scale)
    check_networks(checkpoint.name, pipeline)
    return pipeline


def strength(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is said beside its file of how strong a sound LoRA is: ``scale`` where it is not 1, and peft's ``adapter``;
    empty where the file alone decides."""
    said = {"scale": scale} if (scale := checkpoint.config.get("scale", 1.0)) != 1 else {}
    config = adapter_config(checkpoint.files[0], checkpoint.headers["file"].shapes, checkpoint.place.read_json)
    return said if config is None else said | {"adapter": config}


def read_updates(file: Path, whole: DiffusionPipeline, read_json: JsonReader) -> list[Update]:
    """Every update in a file with its place in a pipeline's networks.

    Raises:
        WeightError: naming the tensor or the module that cannot be read or has no place, or two for one place.
    """
    networks = {name: getattr(whole, name, None) for name in ("unet", *TEXT_ENCODERS)}
    places = {name: places_of(network, name) for name, network in networks.items() if network is not None}
    try:
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dictionary
            metadata = (stored.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError) as error:
        raise WeightError(f"{file.name} is not readable: {error}") from error
    configs = _configurations(adapter_config(file, tensors, read_json), tensors, metadata, places)
    updates: dict[tuple[str, str], Update] = {}
    for name, parts in lora_modules(tensors).items():
        of_peft = name.startswith(PEFT_PREFIX)
        component, module = (*configs, name.removeprefix(PEFT_PREFIX)) if of_peft else split_component(name)
        if component not in places:
            raise WeightError(f"{name} changes {component}, which the base lacks")
        place = places[component].get(flat(module))
        if place is None:
            raise WeightError(f"{name} has no place in {component}")
        if (component, place) in updates:
            raise WeightError(f"{name} is a second update of {component}.{place}")
        down, up = tensors[parts["down"]], tensors[parts["up"]]
        _check_matrices(name, down, up, networks[component].get_submodule(place).weight)
        factor = _factor(module, parts, tensors, configs.get(component))
        updates[component, place] = Update(component=component, module=place, down=down, up=up, factor=factor)
    return list(updates.values())


def _configurations(
    config: dict[str, Any] | None,
    tensors: dict[str, torch.Tensor],
    metadata: str | None,
    places: dict[str, dict[str, str]],
) -> dict[str, dict[str, Any]]:
    """Peft's configuration of each network that has one: from the file beside it (``config``), or diffusers' header."""
    if config is not None:
        return {_component_of_peft(config, tensors, places): config}
    if metadata is None:
        return {}
    try:
        entries = json.loads(metadata)
        found = {
            network: {name.removeprefix(f"{network}."): value for name, value in entries.items()
                      if name.startswith(f"{network}.")}
            for network in places
        }  # fmt: skip
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightError(f"{METADATA} in its header is not readable JSON") from error
    configs = {network: config for network, config in found.items() if config}
    for config in configs.values():
        check_config(config)
    return configs


def _component_of_peft(config: dict[str, Any], names: Collection[str], places: dict[str, dict[str, str]]) -> str:
    """The network that an adapter is for: by the class that it names, or the only one with all of its modules."""
    mapping = config.get("auto_mapping")
    base = PEFT_CLASSES.get(str(mapping.get("base_model_class"))) if isinstance(mapping, dict) else None
    if base is not None:
        return base
    modules = [flat(name.removeprefix(PEFT_PREFIX)) for name in lora_modules(names)]
    fitting = [network for network, known in places.items() if all(module in known for module in modules)]
    if len(fitting) != 1:
        raise WeightError(f"its modules lie in {' and '.join(fitting) or 'no network'} of the base: expected in one")
    return fitting[0]


def _factor(
    module: str, parts: dict[str, str], tensors: dict[str, torch.Tensor], config: dict[str, Any] | None
) -> float:
    rank = len(tensors[parts["down"]])
    if "alpha" not in parts:
        return 1.0 if config is None else factor_of(config, module, rank)
    alpha = tensors[parts["alpha"]]
    if config is not None:
        raise WeightError(f"it has both {parts['alpha']} and a configuration of peft's: expected one")
    if alpha.numel() != 1 or not abs(float(alpha)) <= MAX_ALPHA:
        raise WeightError(f"{parts['alpha']} is {alpha.tolist()!r:.80}: expected one number up to {MAX_ALPHA:g}")
    return float(alpha) / rank


def _check_matrices(name: str, down: torch.Tensor, up: torch.Tensor, weight: torch.Tensor) -> None:
    """Refuse matrices whose product is not of the weight's shape; sides of length one at the end do not matter."""
    outputs, inputs = up.shape, down.shape
    fits = len(inputs) > 1 and inputs[0] > 0 and _padded(inputs[1:]) == _padded(weight.shape[1:])
    fits = fits and _padded(outputs) == _padded((len(weight), inputs[0]))
    if not fits:
        raise WeightError(
            f"{name} is {list(outputs)} times {list(inputs)}: the weight in the base is {list(weight.shape)}"
        )
    for matrix in (down, up):
        if not matrix.is_floating_point():
            raise WeightError(f"{name} is of {matrix.dtype}: expected floating-point numbers")


def _padded(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape with sides of length one behind it, which files write or leave out."""
    return (*shape, *(1,) * (4 - len(shape)))


def _add(update: Update, layer: Any, scale: float) -> None:
    """``W + scale * factor * up @ down`` in place, summed in fp32 whatever the layer's precision."""
    import torch

    with torch.no_grad():
        down, up = (matrix.to(layer.weight.device).float().flatten(1) for matrix in (update.down, update.up))
        change = (scale * update.factor) * (up @ down).reshape(layer.weight.shape)
        layer.weight.copy_(layer.weight.float() + change)


def _scale(checkpoint: Checkpoint) -> float:
    scale = checkpoint.config.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= MAX_SCALE:
        raise _refusal(checkpoint, f"its manifest says scale {scale!r}: expected a number up to {MAX_SCALE:g}")
    return float(scale)


def _refusal(checkpoint: Checkpoint, reason: str) -> ValueError:
    return ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {reason}")
