"""A LoRA (low-rank update W + s alpha/r B A, Hu et al. 2021) merged into a copy of its base's networks.

Merged, every layer is a plain one again, so that attention is captured as in any other model, and the base's own
networks are never touched. The sum is done here, module by module: diffusers 0.42 gives attention projections the alpha
that most modules have, where their own differs (huggingface/diffusers#3910).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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
from explorer.checkpoints.shared_weights import copy_sharing
from explorer.checkpoints.weight_files import JsonReader, WeightError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

CHANGED_NETWORKS = ("unet", *TEXT_ENCODERS)
"""Networks of a pipeline that a LoRA can change."""
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

    @property
    def weight(self) -> str:
        """Name of the tensor that it changes."""
        return f"{self.module}.weight"


def apply_lora(whole: DiffusionPipeline, checkpoint: Checkpoint) -> DiffusionPipeline:
    """A pipeline with the LoRA merged in; whatever tensor it does not change is that of ``whole``.

    Its strength s is ``config["scale"]`` of the manifest, 1 where the manifest names none. A module's alpha is the one
    in the file, or in peft's configuration; where neither names one it is the rank, as everywhere.

    Raises:
        ValueError: naming the checkpoint, if the scale is out of range, the file holds anything but plain updates, or
            not every one of them finds its place in the base.
    """
    import torch

    networks = {name: getattr(whole, name, None) for name in CHANGED_NETWORKS}
    updates, scale = _updates_of(checkpoint, networks), _scale(checkpoint)
    changed: dict[str, list[Update]] = {"unet": []}
    for update in updates:
        changed.setdefault(update.component, []).append(update)
    copies = {name: copy_sharing(networks[name], {update.weight for update in of_network})
              for name, of_network in changed.items()}  # fmt: skip
    pipeline = with_components(whole, **copies)
    with torch.no_grad():
        for update in updates:
            weight = copies[update.component].get_submodule(update.module).weight
            weight.copy_(_merged(weight, update, scale))
    check_networks(checkpoint.name, pipeline)
    return pipeline


def merged_tensors(
    checkpoint: Checkpoint, networks: Mapping[str, Any], stored: Mapping[str, torch.Tensor], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Tensors of the U-Net with the LoRA merged in, as :func:`apply_lora` merges it, without a pipeline.

    Args:
        networks: of the base, by name; they need no values.
        stored: tensors of the base's U-Net by name, which stay as they are. Those that the LoRA does not change are
            given back.
        dtype: of the pipeline that they are for; None for fp32.

    Raises:
        ValueError: as :func:`apply_lora`.
    """
    import torch

    updates, scale = _updates_of(checkpoint, networks), _scale(checkpoint)
    found = {update.weight: update for update in updates if update.component == "unet" and update.weight in stored}
    changed = {name: _merged(stored[name].to(dtype or torch.float32), update, scale)
               for name, update in found.items()}  # fmt: skip
    return {**stored, **changed}


def networks_changed(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of the base's networks that a sound LoRA changes, sorted; by its header and configuration alone.

    Of a peft adapter that names no class, and does not lie in the base's U-Net, it is a text encoder, whichever.
    """
    names = checkpoint.headers["file"].shapes
    config, modules = adapter_config(checkpoint.files[0], names, checkpoint.place.read_json), lora_modules(names)
    if config is None:
        return tuple(sorted({split_component(module)[0] for module in modules}))
    if (named := _class_of_peft(config)) is not None:
        return (named,)
    unet = checkpoint.whole.component("unet").weights().shapes
    of_unet = all(f"{module.removeprefix(PEFT_PREFIX)}.weight" in unet for module in modules)
    return ("unet" if of_unet else "text_encoder",)


def strength(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is said beside its file of how strong a sound LoRA is: ``scale`` where it is not 1, and peft's ``adapter``;
    empty where the file alone decides."""
    said = {"scale": scale} if (scale := checkpoint.config.get("scale", 1.0)) != 1 else {}
    config = adapter_config(checkpoint.files[0], checkpoint.headers["file"].shapes, checkpoint.place.read_json)
    return said if config is None else said | {"adapter": config}


def read_updates(file: Path, networks: Mapping[str, Any], read_json: JsonReader) -> list[Update]:
    """Every update in a file with its place in a pipeline's networks, given by name; None for one that it lacks.

    Raises:
        WeightError: naming the tensor or the module that cannot be read or has no place, or two for one place.
    """
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
    if (named := _class_of_peft(config)) is not None:
        return named
    modules = [flat(name.removeprefix(PEFT_PREFIX)) for name in lora_modules(names)]
    fitting = [network for network, known in places.items() if all(module in known for module in modules)]
    if len(fitting) != 1:
        raise WeightError(f"its modules lie in {' and '.join(fitting) or 'no network'} of the base: expected in one")
    return fitting[0]


def _class_of_peft(config: dict[str, Any]) -> str | None:
    """The network that an adapter is for by the class in its configuration; None where that names none of them."""
    mapping = config.get("auto_mapping")
    return PEFT_CLASSES.get(str(mapping.get("base_model_class"))) if isinstance(mapping, dict) else None


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


def _updates_of(checkpoint: Checkpoint, networks: Mapping[str, Any]) -> list[Update]:
    try:
        return read_updates(checkpoint.files[0], networks, checkpoint.place.read_json)
    except WeightError as error:
        raise _refusal(checkpoint, f"it does not fit its base {checkpoint.base.name}: {error}") from error


def _merged(weight: torch.Tensor, update: Update, scale: float) -> torch.Tensor:
    """``W + scale * factor * up @ down``, summed in fp32, in the precision of ``weight`` and on its device."""
    down, up = (matrix.to(weight.device).float().flatten(1) for matrix in (update.down, update.up))
    change = (scale * update.factor) * (up @ down).reshape(weight.shape)
    return (weight.float() + change).to(weight.dtype)


def _scale(checkpoint: Checkpoint) -> float:
    scale = checkpoint.config.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= MAX_SCALE:
        raise _refusal(checkpoint, f"its manifest says scale {scale!r}: expected a number up to {MAX_SCALE:g}")
    return float(scale)


def _refusal(checkpoint: Checkpoint, reason: str) -> ValueError:
    return ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {reason}")
