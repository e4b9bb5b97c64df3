"""Whether weights fit the configuration that describes them, tensor by tensor, and whether every value is a number."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from explorer.checkpoints.families import SINGLE_FILE_PARTS
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_files import WEIGHT_STEMS, Shapes, WeightError

MAX_CONSTANTS = 2**24
"""Values of a model that are not in its weights, such as positions."""
PARTS_PER_TENSOR, SPARE_PARTS = 4, 2000
"""How many parameters, buffers and modules a model may have for the tensors of its weights."""
READ_TEXT_NAMES = {
    "text_encoder": (
        "cond_stage_model.transformer.text_model.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.text_model.",
    ),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}
"""Name prefixes of text encoders that diffusers reads from a single file; older files lack the ``text_model.``"""
SCALE_NAMES = (".scale_weight", ".weight_scale", "scaled_fp8", ".comfy_quant")
"""Ends of names that mark weights quantised with scales beside them, as fp8 files have."""
COUNTED_PARTS = {"unet", "vae"}
"""Parts of a single file whose number of values is the same in the original layout and in diffusers'."""


def check_component(folder: ModelFolder, class_name: str) -> None:
    """Compare every tensor's shape in a component's folder with the model its ``config.json`` describes.

    Raises:
        WeightError: naming the first tensor that is missing, extra or of another shape.
    """
    found = folder.weights().shapes
    _check_shapes(folder.name, _expected_shapes(folder, class_name, found), found)


def check_single_file(shapes: Shapes, base: ModelFolder, classes: dict[str, str]) -> None:
    """Compare the number of values in a single file's U-Net and VAE with what the base's configurations describe.

    Args:
        shapes: of the single file's tensors.
        base: the pipeline folder that lends the configurations.
        classes: the base's components with their class names.

    Raises:
        WeightError: if they differ; a size that differs inside shows when the file is loaded.
    """
    for part in sorted(classes):
        own = {name: shape for name, shape in shapes.items() if name.startswith(SINGLE_FILE_PARTS.get(part, ()))}
        if not own:
            check_component(base.part(part), classes[part])
            continue
        described = _expected_shapes(base.part(part), classes[part], own)
        found, expected = _values(own), _values(described)
        if part in COUNTED_PARTS and found != expected:
            raise WeightError(
                f"its {part} has {found:,} values: the configuration of its base {base.name} describes {expected:,}"
            )
    for part, prefixes in READ_TEXT_NAMES.items():
        named = [name for name in shapes if name.startswith(SINGLE_FILE_PARTS[part])]
        if named and not any(name.startswith(prefixes) for name in named):
            raise WeightError(
                f"its {part} has tensors of names that diffusers does not read, such as {min(named)}: expected names "
                f"that start with {' or '.join(prefixes)}"
            )
    if scales := [name for name in shapes if name.endswith(SCALE_NAMES)]:
        raise WeightError(f"its weights are to be multiplied by scales of their own ({min(scales)}), which is not done")


def check_finite(files: Iterable[Path]) -> None:
    """Read every weight.

    Raises:
        WeightError: naming the first tensor with NaN or infinite values, or a file that cannot be read.
    """
    for path in files:
        place = path.parent.name if path.name.startswith(WEIGHT_STEMS) else path.name
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                    if not bool(tensors.get_tensor(name).float().isfinite().all()):
                        raise WeightError(f"{place} has NaN or infinite values in {name}")
        except (SafetensorError, OSError, RuntimeError, TypeError) as error:  # of dtypes that torch cannot read
            raise WeightError(f"{path.parent.name}/{path.name} is not readable: {error}") from error


def _expected_shapes(folder: ModelFolder, class_name: str, found: Shapes) -> Shapes:
    """Tensor shapes of the model that a component's configuration describes; ``found`` as in
    :func:`described_network`."""
    return _described_shapes(_Description(
        class_name=class_name, config=json.dumps(folder.config()), tensors=len(found), values=_values(found),
        path=folder.path,
    ))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Description:
    """All that a component's network hangs on; where its folder lies is not among it."""

    class_name: str
    config: str
    tensors: int
    values: int
    path: Path = field(compare=False)


@lru_cache(maxsize=256)
def _described_shapes(of: _Description) -> Shapes:
    """A folder is checked whenever it is loaded; the network is built once for each configuration."""
    model = _build(of.path, of.class_name, json.loads(of.config), of.tensors, of.values)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _values(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes.values()))


def described_network(folder: ModelFolder, class_name: str, found: Shapes) -> Any:
    """The network that a component's configuration describes, without memory for its weights.

    Args:
        found: in the weights, whose number ends the building of a model that is to have many times as many.

    Raises:
        WeightError: if the configuration describes no such network.
    """
    return _build(folder.path, class_name, folder.config(), len(found), _values(found))


def _build(path: Path, class_name: str, config: dict[str, Any], tensors: int, values: int) -> Any:
    """:func:`described_network` of a folder with this configuration, for weights of so many tensors and values."""
    import diffusers
    import torch
    import transformers

    try:
        with torch.device("meta"), _at_most(tensors):
            if hasattr(diffusers, class_name):
                model = getattr(diffusers, class_name).from_config(config)
            else:
                model_class = getattr(transformers, class_name)
                model = model_class(model_class.config_class.from_pretrained(path))
    except WeightError:
        raise
    except Exception as error:  # what a library raises over a configuration of any content is not foreseeable
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightError(f"{path.name}/config.json describes no {class_name}: {reason}") from error
    if sum(buffer.numel() for buffer in model.buffers()) > values + MAX_CONSTANTS:
        raise WeightError(f"{path.name}/config.json describes a {class_name} of more constants than weights")
    return model


@contextmanager
def _at_most(tensors: int) -> Iterator[None]:
    """Let this thread build a model of about so many tensors, and raise a WeightError in one that goes on and on.

    A model has a few modules and buffers a tensor, whatever its architecture.
    """
    from torch.nn.modules import module

    thread, left = threading.get_ident(), SPARE_PARTS + PARTS_PER_TENSOR * tensors

    def count(*_: object) -> None:
        nonlocal left
        left -= threading.get_ident() == thread
        if left < 0:
            raise WeightError(f"it describes many times as many tensors as its weights have ({tensors:,})")

    handles = [
        register(count)
        for register in (
            module.register_module_parameter_registration_hook,
            module.register_module_buffer_registration_hook,
            module.register_module_module_registration_hook,
        )
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_shapes(component: str, expected: Shapes, found: Shapes) -> None:
    expected, found = _current_names(expected), _current_names(found)
    for name, shape in expected.items():
        if name not in found:
            raise WeightError(f"{component} lacks {_several(expected.keys() - found.keys())}")
        if found[name] != shape:
            raise WeightError(
                f"{component} has {name} of shape {list(found[name])}: its configuration says {list(shape)}"
            )
    if extra := found.keys() - expected.keys():
        raise WeightError(f"{component} has {_several(extra)} that its configuration does not describe")


def _current_names(shapes: Shapes) -> Shapes:
    """Names as today's libraries give them; older files differ in the text model and in VAE attention.

    T5 has one embedding under two names, of which files hold one or both."""
    renamed = {}
    for name, shape in shapes.items():
        if name.endswith("position_ids"):  # a constant that older versions stored
            continue
        name = "shared.weight" if name == "encoder.embed_tokens.weight" else name.removeprefix("text_model.")
        for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
            name = name.replace(f"attentions.0.{old}.", f"attentions.0.{new}.")
        renamed[name] = shape
    return renamed


def _several(names: set[str]) -> str:
    """The first name, and how many more there are."""
    first = min(names)
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more tensors"
