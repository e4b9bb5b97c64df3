"""How a LoRA's file is laid out: which tensors make up each module's update, and what is no plain LoRA.

Read are the layouts of kohya-ss, of diffusers (old and new) and of peft, whose ``adapter_config.json`` lies beside the
weights. Names and JSON only: no weights are read, no torch imported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from explorer.checkpoints.weight_files import JsonReader, Shapes, WeightError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MAX_ALPHA = 1e6
PEFT_PREFIX = "base_model.model."
OTHER_METHODS = {
    "LoHa": r"\.hada_",
    "LoKr": r"\.lokr_",
    "DoRA": r"dora_scale|lora_magnitude_vector",
    "LoCon with a Tucker core": r"\.lora_mid\.",
    "GLoRA": r"\.[ab][12]\.weight$",
    "OFT": r"\.oft_",
    "(IA)3": r"\.on_input$",
    "full difference": r"\.diff(_b)?$|\.[wb]_norm$|\.reshape_weight$",
}
"""LyCORIS and peft's other methods by what their tensors are called."""
HARMLESS = {
    "peft_type", "peft_version", "task_type", "r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "inference_mode",
    "auto_mapping", "base_model_name_or_path", "revision", "megatron_core", "qalora_group_size", "ensure_weight_tying",
    "runtime_config", "eva_config", "init_lora_weights", "bias", "modules_to_save", "trainable_token_indices",
    "lora_bias",
}  # fmt: skip
"""Entries of peft's configuration that are followed here, say nothing of the update, or show in the tensors' names."""
INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to start that leave the base's own weights as they are; PiSSA and its like change them."""

_UPDATE = re.compile(r"(?P<module>.+?)(?:\.lora_linear_layer|\.lora|_lora)[._](?P<part>down|up|A|B)\.weight")
_ALPHA = re.compile(r"(?P<module>.+)\.alpha")
_PARTS = {"down": "down", "A": "down", "up": "up", "B": "up"}
_PLAIN_PATTERN = re.compile(r"\^?[\w.\-]+")


def is_adapter(folder: Path) -> bool:
    """Whether a folder is what ``save_pretrained`` of a peft model writes."""
    return all((folder / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))


def lora_problem(file: Path, shapes: Shapes, json: JsonReader) -> str | None:
    """Why a file's updates cannot be merged, as far as names, shapes and configuration say; None for nothing."""
    try:
        config = adapter_config(file, shapes, json)
        for module, parts in lora_modules(shapes).items():
            down, up = shapes[parts["down"]], shapes[parts["up"]]
            if min(len(down), len(up)) < 2 or not down[0] == up[1] > 0:
                raise WeightError(f"{module} is {list(up)} times {list(down)}: expected two matrices of one rank")
            if config is not None:
                factor_of(config, module.removeprefix(PEFT_PREFIX), down[0])
    except WeightError as error:
        return str(error)
    return None


def lora_modules(names: Collection[str]) -> dict[str, dict[str, str]]:
    """Names of the tensors ``down``, ``up`` and ``alpha`` of every module, by the module's name in the file.

    Raises:
        WeightError: naming another method, a tensor that is no part of a LoRA, or a module of which a part is missing.
    """
    modules: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        for method, pattern in OTHER_METHODS.items():
            if re.search(pattern, name):
                raise WeightError(f"it is no plain LoRA but {method} ({name}): merge it into a pipeline folder")
        found = _UPDATE.fullmatch(name) or _ALPHA.fullmatch(name)
        if found is None:
            raise WeightError(f"it holds {name}, which is no part of a LoRA that can be read")
        parts = modules.setdefault(found["module"], {})
        part = _PARTS[found["part"]] if "part" in found.groupdict() else "alpha"
        if part in parts:
            raise WeightError(f"it holds both {parts[part]} and {name}: expected one")
        parts[part] = name
    for module, parts in modules.items():
        if lacking := [part for part in ("down", "up") if part not in parts]:
            raise WeightError(f"{module} lacks its {' and '.join(lacking)} matrix")
    return modules


def adapter_config(file: Path, names: Collection[str], json: JsonReader) -> dict[str, Any] | None:
    """The configuration beside a file of peft's; None for other layouts.

    Raises:
        WeightError: if there is none, since nothing else says how strong the update is, or it cannot be followed.
    """
    if not any(name.startswith(PEFT_PREFIX) for name in names):
        return None
    if not (file.parent / ADAPTER_CONFIG).is_file():
        raise WeightError(f"it is a peft adapter whose {ADAPTER_CONFIG}, which says how strong it is, is missing")
    config = json(file.parent / ADAPTER_CONFIG)
    check_config(config)
    return config


def check_config(config: dict[str, Any]) -> None:
    """Refuse a configuration of peft's that says more than ``W + alpha / r B A``.

    Raises:
        WeightError: naming the entry.
    """
    start = config.get("init_lora_weights")
    facts = {name: value for name, value in config.items() if name not in HARMLESS and value}
    if config.get("peft_type", "LORA") != "LORA":
        facts = {"peft_type": config["peft_type"]}
    elif not any(start is one or (isinstance(start, str) and start == one) for one in INITIALISATIONS):
        facts = {"init_lora_weights": start}
    if facts:
        name, value = next(iter(facts.items()))
        raise WeightError(f"its configuration says {name}: {value!r:.80}, which cannot be followed: merge it elsewhere")
    for patterns in (config.get("alpha_pattern"), config.get("rank_pattern")):
        if patterns is not None and not isinstance(patterns, dict):
            raise WeightError(f"its configuration has the patterns {patterns!r}: expected an object")
        for pattern in patterns or ():
            if not _PLAIN_PATTERN.fullmatch(pattern):
                raise WeightError(f"its configuration has the pattern {pattern!r}: expected names of modules")


def factor_of(config: dict[str, Any], module: str, rank: int) -> float:
    """``alpha / r`` of a module by a configuration of peft's, ``alpha / sqrt(r)`` where it says so (rsLoRA).

    Args:
        config: checked.
        module: its name below the network.
        rank: that of its matrices.

    Raises:
        WeightError: if it gives no number, or another rank than the matrices have.
    """
    alpha = _by_pattern(config.get("alpha_pattern") or {}, module, config.get("lora_alpha"))
    named = _by_pattern(config.get("rank_pattern") or {}, module, config.get("r"))
    if named != rank:
        raise WeightError(f"{module} is of rank {rank}: its configuration says {named!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= MAX_ALPHA:
        raise WeightError(
            f"its configuration gives {alpha!r:.80} as alpha of {module}: expected a number up to {MAX_ALPHA:g}"
        )
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: dict[str, Any], module: str, otherwise: Any) -> Any:
    """As peft chooses: the first pattern that is the module's name or, without ``^``, an end of it."""
    for pattern, value in patterns.items():
        name = pattern.removeprefix("^")
        if module == name or (pattern == name and module.endswith(f".{name}")):
            return value
    return otherwise
