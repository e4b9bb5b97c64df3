"""A whole pipeline: a diffusers folder with ``model_index.json``; and the parts of such a folder, checked unloaded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.attention.words import LEXICON_NAME, read_lexicon
from explorer.checkpoints.components import NETWORKS, check_networks, complete_tokenizers, load_component
from explorer.checkpoints.families import Family, pipeline_family, unet_family
from explorer.checkpoints.kinds.base import CheckpointKind, Contents, KindName
from explorer.checkpoints.model_folder import BARE_UNET_CLASS, ModelFolder
from explorer.checkpoints.part_fit import check_fit
from explorer.checkpoints.reasons import reason_of
from explorer.checkpoints.weight_checks import check_component
from explorer.checkpoints.weight_files import WeightError, WeightHeader
from explorer.core.bounded_files import MAX_JSON_BYTES, load_json

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

REQUIRED_NETWORKS = {
    "StableDiffusionPipeline": ("unet",),
    "StableDiffusionXLPipeline": ("unet",),
    "StableDiffusion3Pipeline": ("transformer", "vae", "text_encoder", "text_encoder_2"),
    "FluxPipeline": ("transformer", "vae", "text_encoder", "text_encoder_2"),
}
"""Folders without which a pipeline of each class cannot be used; SD3's third text encoder (T5) may be left out."""
PIPELINE_CLASSES = tuple(REQUIRED_NETWORKS)
WEIGHT_CLASSES = (
    BARE_UNET_CLASS,
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "AutoencoderKL",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "T5EncoderModel",
)
OTHER_PARTS = {
    "scheduler": ("diffusers", ("Scheduler",)),
    "tokenizer": ("transformers", ("Tokenizer", "TokenizerFast")),
    "feature_extractor": ("transformers", ("ImageProcessor", "ImageProcessorFast", "FeatureExtractor")),
}
"""Parts of a pipeline that have no weights: their library, and how the names of their classes end."""
TEXT_SUFFIXES = (".json", ".txt", ".model")
"""Of what libraries read whole."""
MAX_PART_FILES = 10_000
"""Entries of one component's folder."""
DENOISERS = ("unet", "transformer")
MAX_SAMPLE_SIZE = 1024
"""Latents along one side of the picture that a network draws where no size is asked for."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")
"""A tokenizer's folder holds at least one of them: its vocabulary."""


class PipelineFolder(CheckpointKind):
    """What ``save_pretrained`` of a pipeline writes."""

    name, title = "pipeline", "pipeline folder"

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents | None:
        return describe_components(place, self.name) if place.has_index else None

    def check(self, checkpoint: Checkpoint) -> None:
        check_part_texts(checkpoint.place)
        for component, class_name in component_classes(checkpoint.place).items():
            check_component(checkpoint.place.component(component), class_name)
        super().check(checkpoint)


def load_pipeline_folder(folder: ModelFolder, name: str, dtype: torch.dtype) -> DiffusionPipeline:
    """The stock pipeline of a folder that nothing is known against, on the CPU.

    Args:
        name: of the checkpoint that it is loaded for, for messages.

    Raises:
        ValueError: naming the checkpoint and what is wrong with it.
    """
    import diffusers

    kind, path = folder.index()["_class_name"], folder.path
    networks: dict[str, Any] = {
        component: load_component(folder.part(component), class_name, dtype)
        for component, class_name in component_classes(folder).items()
    }
    options: dict[str, Any] = {}
    if kind == "StableDiffusionPipeline":
        options = {"safety_checker": None, "requires_safety_checker": False}
        if not (path / "feature_extractor").is_dir():  # the safety checker's, which is not loaded either
            options["feature_extractor"] = None
    elif kind == "StableDiffusion3Pipeline" and "text_encoder_3" not in networks:
        options = {"text_encoder_3": None, "tokenizer_3": None}
    named = name if path.name == Path(name).name else f"{name}, on its base {path.name},"
    try:
        pipeline = getattr(diffusers, kind).from_pretrained(
            path, use_safetensors=True, local_files_only=True, **networks, **options
        )
    except Exception as error:  # what a library raises over tokenizers of any content is not foreseeable
        raise ValueError(f"checkpoint {named} cannot be loaded: {reason_of(error)}") from error
    check_networks(named, pipeline)
    complete_tokenizers(named, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def component_classes(folder: ModelFolder) -> dict[str, str]:
    """Components of a checkpoint folder that have weights, by folder name, with their class names.

    Raises:
        WeightError: if ``model_index.json`` is not readable, names another kind of pipeline, gives a network a class
            that is not known here, or lacks a network that this kind needs.
    """
    if not folder.has_index:
        return {"unet": BARE_UNET_CLASS}
    kind, entries = _named_parts(folder)
    if kind not in PIPELINE_CLASSES:
        raise WeightError(f"it is a {kind}: expected one of {', '.join(PIPELINE_CLASSES)}")
    classes = {name: entry[1] for name, entry in entries.items() if name in NETWORKS}
    for name, class_name in classes.items():
        if class_name not in WEIGHT_CLASSES:
            raise WeightError(f"model_index.json names a {class_name} as {name}: expected one of {WEIGHT_CLASSES}")
    missing = [name for name in REQUIRED_NETWORKS[kind] if name not in classes]
    if missing:
        raise WeightError(f"model_index.json names no {'U-Net' if missing[0] == 'unet' else missing[0]}")
    return classes


def _named_parts(folder: ModelFolder) -> tuple[Any, dict[str, list[Any]]]:
    """What kind of pipeline ``model_index.json`` says it is, and library and class of the parts that it has."""
    index = folder.index()
    parts = {name: entry for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]}
    return index.get("_class_name"), parts


def check_parts_without_weights(folder: ModelFolder) -> None:
    """Check that a pipeline folder has its scheduler and the vocabulary of every tokenizer that it names, and that what
    libraries open there are regular files of bounded size.

    Without these diffusers fails late, makes a tokenizer that knows no word, or never ends.

    Raises:
        WeightError: naming what is missing, refused or does not fit.
    """
    _, named = _named_parts(folder)
    for name in ("scheduler", *sorted(name for name in named if name.startswith("text_encoder"))):
        part = name.replace("text_encoder", "tokenizer")
        if part not in named:
            raise WeightError(f"model_index.json names no {part}")
    for name, entry in sorted(named.items()):
        library, endings = OTHER_PARTS.get("tokenizer" if name.startswith("tokenizer") else name, (None, ()))
        if name == "safety_checker":
            continue  # never loaded
        if library is None and name not in NETWORKS:
            raise WeightError(f"model_index.json names the part {name}, which is not known here")
        if library and not (entry[0] == library and isinstance(entry[1], str) and entry[1].endswith(endings)):
            raise WeightError(f"model_index.json names {entry} as {name}: expected a {endings[0]} of {library}")
        list(part_files(folder.path / name))
    folder.config("scheduler/scheduler_config.json")
    for name in sorted(name for name in named if name.replace("tokenizer", "text_encoder") in named):
        if name.startswith("tokenizer") and not any((folder.path / name / file).is_file() for file in TOKENIZER_FILES):
            raise WeightError(f"{name}/ holds no vocabulary: expected {', '.join(TOKENIZER_FILES[:-1])} "
                              f"or {TOKENIZER_FILES[-1]}")  # fmt: skip
        try:
            folder.once(folder.path / name / LEXICON_NAME, lambda path: read_lexicon(path.parent))
        except (ValueError, OSError) as error:
            raise WeightError(str(error)) from error
    check_fit(folder)


def check_part_texts(folder: ModelFolder) -> None:
    """Read every JSON file of a pipeline's parts, which libraries read without limits of depth.

    Raises:
        WeightError: naming the first that is no JSON within the limits.
    """
    for name in _named_parts(folder)[1]:
        for path in part_files(folder.path / name) if name in NETWORKS or name.startswith(tuple(OTHER_PARTS)) else ():
            try:
                if path.suffix == ".json":
                    folder.once(path, load_json, keep=False)
            except (ValueError, OSError) as error:
                raise WeightError(f"{name}/{path.name} is not readable JSON: {error}") from error


def part_files(folder: Path) -> Iterator[Path]:
    """Files in one part's folder, but for hidden ones; none where there is no such folder.

    Raises:
        WeightError: naming what is no regular file, or too long for a text, or if there are too many.
    """
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count >= MAX_PART_FILES:
                raise WeightError(f"{folder.name}/ holds more than {MAX_PART_FILES:,} files")
            path = Path(entry.path)
            try:
                status = path.stat()
            except OSError:  # a link that leads nowhere; reading it gives the reason
                continue
            if stat.S_ISDIR(status.st_mode) or entry.name.startswith("."):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise WeightError(f"{folder.name}/{entry.name} is no regular file")
            if path.suffix in TEXT_SUFFIXES and status.st_size > MAX_JSON_BYTES:
                raise WeightError(f"{folder.name}/{entry.name} has {status.st_size:,} bytes: "
                                  f"expected at most {MAX_JSON_BYTES:,}")  # fmt: skip
            yield path


def describe_components(folder: ModelFolder, kind: KindName) -> Contents:
    """What a whole pipeline's folder holds, or that of a U-Net alone; headers up to the first component that is broken,
    and why it is."""
    headers: dict[str, WeightHeader] = {}
    family: Family = pipeline_family(folder)
    problem = None
    try:
        for component in component_classes(folder):
            place = folder.component(component)
            list(part_files(place.path))
            headers[component] = place.weights()
            size = (config := place.config()).get("sample_size")
            sides = size if isinstance(size, list) else [size]
            if component in DENOISERS and any(isinstance(side, int) and side > MAX_SAMPLE_SIZE for side in sides):
                raise WeightError(f"its configuration has the sample_size {size}: expected at most {MAX_SAMPLE_SIZE}")
        if folder.has_index:
            check_parts_without_weights(folder)
        else:
            family = unet_family(config)
    except (WeightError, OSError) as error:
        problem = str(error)
    return Contents(kind=kind, family=family, headers=headers, problem=problem)
