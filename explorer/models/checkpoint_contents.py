"""What lies at a path: a pipeline folder, a U-Net alone, a single file, a LoRA. Headers and JSON only, no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from explorer.models.lora_layout import ADAPTER_WEIGHTS, is_adapter, lora_problem
from explorer.models.model_families import (
    FAMILY_NAMES,
    Family,
    Shapes,
    is_lora,
    lora_family,
    pipeline_family,
    single_file_family,
    single_file_parts,
    unet_family,
)
from explorer.models.weight_files import (
    WeightError,
    WeightHeader,
    is_pickle,
    pickle_refusal,
    read_header,
    read_json,
    read_weights,
)

Kind = Literal["pipeline", "unet", "single-file", "lora", "hub", "pickle", "unreadable"]

KIND_NAMES: dict[Kind, str] = {
    "pipeline": "pipeline folder",
    "unet": "U-Net",
    "single-file": "single file",
    "lora": "LoRA",
    "hub": "pipeline from the hub",
    "pickle": "pickle",
    "unreadable": "folder",
}
REQUIRED_NETWORKS = {
    "StableDiffusionPipeline": ("unet",),
    "StableDiffusionXLPipeline": ("unet",),
    "StableDiffusion3Pipeline": ("transformer", "vae", "text_encoder", "text_encoder_2"),
    "FluxPipeline": ("transformer", "vae", "text_encoder", "text_encoder_2"),
}
"""Folders without which a pipeline of each class cannot be used; SD3's third text encoder (T5) may be left out."""
PIPELINE_CLASSES = tuple(REQUIRED_NETWORKS)
WEIGHT_CLASSES = (
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "AutoencoderKL",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "T5EncoderModel",
)
UNET_ONLY = {"unet": "UNet2DConditionModel"}
LOADABLE_FAMILIES = ("sd1", "sd2", "sdxl")
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")
"""A tokenizer's folder holds at least one of them: its vocabulary."""
SIGMA_KEYS = ("edm_mean", "edm_vpred.sigma_max")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a path holds, as far as its headers say."""

    kind: Kind
    """What it is."""
    family: Family = "unknown"
    """Which architecture it follows."""
    headers: dict[str, WeightHeader] = field(default_factory=dict)
    """Header of each component read, by folder name; ``file`` for a single file or a LoRA."""
    problem: str | None = None
    """Why it cannot be used, as far as the headers say."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Its own weight files."""
        return tuple(path for header in self.headers.values() for path in header.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of its own weight files."""
        return sum(header.size_bytes for header in self.headers.values())

    @property
    def parameters(self) -> int:
        """Parameters of the U-Net or transformer, or of the LoRA itself; 0 if they cannot be read."""
        if self.kind == "single-file" and "file" in self.headers:
            unet = ("model.diffusion_model.",)
            return self.headers["file"].count(lambda name: name.startswith(unet))
        found = (self.headers.get(part) for part in ("unet", "transformer", "file"))
        return next((header.parameters for header in found if header), 0)


def read_contents(path: Path) -> Contents:
    """Recognise what lies at ``path``; what is wrong with it is in ``problem``, nothing is raised."""
    if is_pickle(path):
        return Contents(kind="pickle", problem=pickle_refusal(path))
    try:
        if path.is_dir():
            os.scandir(path).close()  # a folder that may not be listed would look empty
        file = lone_file(path)
        return _read_folder(path) if file is None else _read_file(file)
    except OSError as error:
        return Contents(kind="unreadable", problem=unreadable_problem(path, error))


def unreadable_problem(path: Path, error: OSError) -> str:
    """Why it cannot be known what lies at ``path``, as one sentence."""
    return f"{path.name} cannot be read: {error.strerror or error}"


def lone_file(path: Path) -> Path | None:
    """The .safetensors file that is the checkpoint: ``path`` itself, a peft adapter's, or a folder's only one without a
    U-Net."""
    if path.suffix == ".safetensors" and not path.is_dir():
        return path
    if is_adapter(path):
        return path / ADAPTER_WEIGHTS
    if not path.is_dir() or (path / "model_index.json").is_file() or (path / "unet").is_dir() or is_bare_unet(path):
        return None
    files = sorted(path.glob("*.safetensors"))
    return files[0] if len(files) == 1 else None


def is_bare_unet(folder: Path) -> bool:
    """Whether a folder is what ``unet.save_pretrained(folder)`` writes: a U-Net's configuration and weights at once."""
    try:
        return read_json(folder / "config.json").get("_class_name") == UNET_ONLY["unet"]
    except WeightError:
        return False


def component_folder(checkpoint: Path, component: str) -> Path:
    """Where a component of a checkpoint folder lies."""
    inside = checkpoint / component
    return checkpoint if component == "unet" and not inside.is_dir() and is_bare_unet(checkpoint) else inside


def component_classes(folder: Path) -> dict[str, str]:
    """Components of a checkpoint folder that have weights, by folder name, with their class names.

    Raises:
        WeightError: if ``model_index.json`` is not readable, names another kind of pipeline, or lacks a network that
            this kind needs.
    """
    if not (folder / "model_index.json").is_file():
        return UNET_ONLY
    index = read_json(folder / "model_index.json")
    kind = index.get("_class_name")
    if kind not in PIPELINE_CLASSES:
        raise WeightError(f"it is a {kind}: expected one of {', '.join(PIPELINE_CLASSES)}")
    entries = {name: entry[1] for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    classes = {name: entry for name, entry in entries.items() if entry in WEIGHT_CLASSES}
    missing = [name for name in REQUIRED_NETWORKS[kind] if name not in classes]
    if missing:
        raise WeightError(f"model_index.json names no {'U-Net' if missing[0] == 'unet' else missing[0]}")
    return classes


def check_parts_without_weights(folder: Path) -> None:
    """Check that a pipeline folder has its scheduler and the vocabulary of every tokenizer that it names.

    Without these diffusers fails late, or makes a tokenizer that knows no word.

    Raises:
        WeightError: naming what is missing.
    """
    index = read_json(folder / "model_index.json")
    named = {name for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]}
    for name in ("scheduler", *sorted(name for name in index if name.startswith("text_encoder"))):
        part = name.replace("text_encoder", "tokenizer")
        if part not in named and (name in named or name == "scheduler"):
            raise WeightError(f"model_index.json names no {part}")
    read_json(folder / "scheduler" / "scheduler_config.json")
    for name in sorted(name for name in named if name.replace("tokenizer", "text_encoder") in named):
        if name.startswith("tokenizer") and not any((folder / name / file).is_file() for file in TOKENIZER_FILES):
            raise WeightError(f"{name}/ holds no vocabulary: expected {', '.join(TOKENIZER_FILES[:-1])} "
                              f"or {TOKENIZER_FILES[-1]}")  # fmt: skip


def predicts_velocity(folder: Path) -> bool:
    """Whether a pipeline folder's scheduler expects v-prediction (Salimans & Ho 2022).

    Raises:
        WeightError: if its scheduler's configuration cannot be read.
    """
    return read_json(folder / "scheduler" / "scheduler_config.json").get("prediction_type") == "v_prediction"


def _read_folder(folder: Path) -> Contents:
    whole = (folder / "model_index.json").is_file()
    family: Family = pipeline_family(folder) if whole else "unknown"
    headers: dict[str, WeightHeader] = {}
    problem = None
    try:
        for component in component_classes(folder):
            place = component_folder(folder, component)
            headers[component] = read_weights(place)
            config = read_json(place / "config.json")
            if component == "unet" and not whole:
                family = unet_family(config)
        if whole:
            check_parts_without_weights(folder)
    except (WeightError, OSError) as error:
        problem = str(error)
    return Contents(kind="pipeline" if whole else "unet", family=family, headers=headers, problem=problem)


def _read_file(path: Path) -> Contents:
    try:
        shapes = read_header(path)
        header = WeightHeader(files=(path,), shapes=shapes, size_bytes=path.stat().st_size)
    except (WeightError, OSError) as error:
        return Contents(kind="single-file", problem=str(error))
    kind: Kind = "lora" if is_lora(shapes) else "single-file"
    family = lora_family(shapes) if kind == "lora" else single_file_family(shapes)
    problem = _lora_problem(path, shapes, family) if kind == "lora" else _single_file_problem(shapes, family)
    return Contents(kind=kind, family=family, headers={"file": header}, problem=problem)


def _lora_problem(path: Path, shapes: Shapes, family: Family) -> str | None:
    if family in ("sd3", "flux"):
        return f"it is a LoRA for {FAMILY_NAMES[family]}: only those for U-Nets (SD 1.x, SD 2.x, SDXL) can be used"
    return lora_problem(path, shapes)


def _single_file_problem(shapes: Shapes, family: Family) -> str | None:
    if family not in LOADABLE_FAMILIES:
        what = "its tensors are neither those of a Stable Diffusion file nor a LoRA's"
        return (
            what
            if family == "unknown"
            else f"it is a single file of {FAMILY_NAMES[family]}, which is read from diffusers folders only"
        )
    if "unet" not in single_file_parts(shapes):
        return "it is a single file without a U-Net (model.diffusion_model.)"
    if any(name in shapes for name in SIGMA_KEYS):
        return "it was trained with another noise parameterisation (EDM), which its base's scheduler does not follow"
    return None
