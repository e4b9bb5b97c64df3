"""The registry: which checkpoints a folder holds, what they are, and what is wrong with the broken ones.

``scan_checkpoints`` reads JSON and safetensors headers only and imports neither torch nor diffusers, so that
a page can list checkpoints as it opens. ``validate`` compares every tensor's shape with the model its
configuration describes, and reads the weights themselves on request. Neither raises for a broken checkpoint:
``problem`` is one sentence a person understands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.models.weight_files import (
    WeightError,
    WeightHeader,
    is_pickle,
    pickle_refusal,
    read_json,
    read_weights,
)
from explorer.provenance import MANIFEST_NAME, ManifestError, check_files, read_manifest

MAX_DEPTH = 3
PIPELINE_CLASSES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
WEIGHT_CLASSES = ("UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel", "CLIPTextModelWithProjection")
UNET_ONLY = {"unet": "UNet2DConditionModel"}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint folder, whole or broken."""

    name: str
    """Folder relative to the root scanned, e.g. ``iconworld/benign``."""
    folder: Path
    """Where it lies; a file for a loose pickle."""
    base: Path | None
    """For a U-Net alone: the pipeline folder that lends VAE, text encoder, tokenizer and scheduler."""
    manifest: dict[str, Any]
    """Content of ``manifest.json``; empty where there is none."""
    problem: str | None
    """Why it cannot be used; None if nothing is known against it."""
    parameters: int
    """Parameters of the U-Net; 0 if its weights are not readable."""
    size_bytes: int
    """Bytes of the weight files in its own folder."""
    poisoned_concept_count: int
    """C_P, the number of poisoned concepts; 0 for a benign model."""
    poisoned_concepts: tuple[str, ...]
    """Names of the poisoned concepts where the manifest gives them."""


def scan_checkpoints(root: Path | str) -> list[Checkpoint]:
    """Every checkpoint under ``root`` (or ``root`` itself), by number of poisoned concepts, then by name.

    A checkpoint is a folder with ``model_index.json`` (a diffusers pipeline), with ``unet/``, or whose
    manifest names a ``base``; a loose pickle is listed with the reason why it is refused.

    Raises:
        FileNotFoundError: if ``root`` is no folder. A broken checkpoint never raises.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: expected one that holds checkpoints")
    found = [read_checkpoint(path, root=root) for path in _candidates(root, MAX_DEPTH)]
    return sorted(found, key=lambda checkpoint: (checkpoint.poisoned_concept_count, checkpoint.name))


def read_checkpoint(path: Path | str, *, root: Path | None = None) -> Checkpoint:
    """Read one checkpoint without loading it; what is wrong with it is in ``problem``."""
    path = Path(path)
    manifest, problem = _read_manifest(path)
    config = manifest.get("config")
    config = config if isinstance(config, dict) else {}
    whole = (path / "model_index.json").is_file()
    base = path.parent / str(config["base"]) if config.get("base") and not whole else None
    headers: dict[str, WeightHeader] = {}
    count, concepts = 0, ()
    try:
        count, concepts = _poison(config)
        if is_pickle(path):
            raise WeightError(pickle_refusal(path))
        for component in component_classes(path):
            headers[component] = read_weights(path / component)
            read_json(path / component / "config.json")
    except (WeightError, OSError) as error:
        problem = problem or str(error)
    if problem is None and not whole:
        problem = _base_problem(path, base)
    return Checkpoint(
        name=path.relative_to(root).as_posix() if root is not None and path != root else path.name,
        folder=path,
        base=base,
        manifest=manifest,
        problem=problem,
        parameters=headers["unet"].parameters if "unet" in headers else 0,
        size_bytes=sum(header.size_bytes for header in headers.values()),
        poisoned_concept_count=count,
        poisoned_concepts=concepts,
    )


def component_classes(folder: Path) -> dict[str, str]:
    """Components of a checkpoint that have weights, by folder name, with their class names.

    Raises:
        WeightError: if ``model_index.json`` is not readable, names another kind of pipeline or no U-Net.
    """
    if not (folder / "model_index.json").is_file():
        return UNET_ONLY
    index = read_json(folder / "model_index.json")
    kind = index.get("_class_name")
    if kind not in PIPELINE_CLASSES:
        raise WeightError(f"it is a {kind}: expected one of {', '.join(PIPELINE_CLASSES)}")
    entries = {name: entry[1] for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    classes = {name: entry for name, entry in entries.items() if entry in WEIGHT_CLASSES}
    if "unet" not in classes:
        raise WeightError("model_index.json names no U-Net")
    return classes


def validate(checkpoint: Checkpoint, *, thorough: bool = False) -> Checkpoint:
    """The checkpoint with ``problem`` filled in if its weights do not fit its configuration.

    Args:
        checkpoint: as scanned; one with a problem already is returned as it is.
        thorough: also read every weight (none may be NaN or infinite) and compare every file with the SHA-256
            that the manifest gives.
    """
    if checkpoint.problem is not None:
        return checkpoint
    try:
        for component, class_name in component_classes(checkpoint.folder).items():
            folder = checkpoint.folder / component
            header = read_weights(folder)
            _check_shapes(component, _expected_shapes(folder, class_name), header.shapes)
            if thorough:
                _check_finite(header)
        if thorough:
            check_files(checkpoint.folder, checkpoint.manifest)
    except (WeightError, ManifestError) as error:
        return replace(checkpoint, problem=str(error))
    return checkpoint


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    if _is_checkpoint(folder):
        yield folder
    elif depth > 0:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from _candidates(path, depth - 1)
            elif path.is_file() and is_pickle(path):
                yield path


def _is_checkpoint(folder: Path) -> bool:
    if (folder / "model_index.json").is_file() or (folder / "unet").is_dir():
        return True
    config = _read_manifest(folder)[0].get("config")
    return isinstance(config, dict) and "base" in config


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str | None]:
    """The manifest, empty if there is none, and what is wrong with it."""
    if not (folder / MANIFEST_NAME).is_file():
        return {}, None
    try:
        return read_manifest(folder), None
    except ManifestError as error:
        return {}, str(error)


def _base_problem(folder: Path, base: Path | None) -> str | None:
    """What is wrong with the pipeline a U-Net alone is to be used with."""
    if base is None:
        return f"it is a U-Net alone and its {MANIFEST_NAME} names no base pipeline"
    if base.resolve() == folder.resolve() or not (base / "model_index.json").is_file():
        return f"its base pipeline {base.name} is not in {base.parent}"
    problem = read_checkpoint(base).problem
    return None if problem is None else f"its base pipeline {base.name} is broken: {problem}"


def _poison(config: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """C_P and the poisoned concepts' names from a manifest's ``config["poison"]``."""
    poison = config.get("poison") or {}
    concepts = poison.get("concepts", 0) if isinstance(poison, dict) else poison
    if isinstance(concepts, list):
        return len(concepts), tuple(map(str, concepts))
    if not isinstance(concepts, int) or concepts < 0:
        raise WeightError(f"its manifest says {concepts!r} poisoned concepts: expected a count or a list")
    names = poison.get("targets", {}) if isinstance(poison, dict) else ()
    return concepts, tuple(map(str, names))


def _expected_shapes(folder: Path, class_name: str) -> dict[str, tuple[int, ...]]:
    """Tensor shapes of the model a component's configuration describes, without memory for its weights."""
    import diffusers
    import torch
    import transformers

    try:
        with torch.device("meta"):
            if hasattr(diffusers, class_name):
                model = getattr(diffusers, class_name).from_config(read_json(folder / "config.json"))
            else:
                config = transformers.CLIPTextConfig.from_pretrained(folder)
                model = getattr(transformers, class_name)(config)
    except WeightError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise WeightError(f"{folder.name}/config.json describes no {class_name}: {error}") from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check_shapes(component: str, expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
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


def _current_names(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Names as today's libraries give them; older files differ in the text model and in VAE attention."""
    renamed = {}
    for name, shape in shapes.items():
        if name.endswith("position_ids"):  # a constant that older versions stored
            continue
        name = name.removeprefix("text_model.")
        for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
            name = name.replace(f"attentions.0.{old}.", f"attentions.0.{new}.")
        renamed[name] = shape
    return renamed


def _check_finite(header: WeightHeader) -> None:
    from safetensors import SafetensorError, safe_open

    for path in header.files:
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                    if not bool(tensors.get_tensor(name).isfinite().all()):
                        raise WeightError(f"{path.parent.name} has NaN or infinite values in {name}")
        except SafetensorError as error:
            raise WeightError(f"{path.parent.name}/{path.name} is not readable: {error}") from error


def _several(names: set[str]) -> str:
    """The first name, and how many more there are."""
    first = min(names)
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more tensors"
