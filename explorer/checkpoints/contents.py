"""What lies at a path: a pipeline folder, a U-Net alone, a single file, a LoRA. Headers and JSON only, no torch."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explorer.attention.words import read_lexicon
from explorer.checkpoints.components import NETWORKS
from explorer.checkpoints.families import (
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
from explorer.checkpoints.lora_layout import ADAPTER_WEIGHTS, is_adapter, lora_problem
from explorer.checkpoints.part_fit import check_fit
from explorer.checkpoints.weight_files import (
    WeightError,
    WeightHeader,
    is_pickle,
    pickle_refusal,
    read_config,
    read_header,
    read_json,
    read_weights,
)
from explorer.core.bounded_files import MAX_JSON_BYTES, load_json

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
MAX_SAMPLE_SIZE = 1024
"""Latents along one side of the picture that a network draws where no size is asked for."""
LOADABLE_FAMILIES = ("sd1", "sd2", "sdxl")
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")
"""A tokenizer's folder holds at least one of them: its vocabulary."""
SIGMA_PREFIX = "edm_"
"""Of the tensors that mark a single file trained on EDM's noise: ``edm_mean``, ``edm_std``, ``edm_vpred.sigma_max``."""


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
    if not path.is_dir() or is_model_folder(path):
        return None
    files = sorted(path.glob("*.safetensors"))
    return files[0] if len(files) == 1 else None


def is_bare_unet(folder: Path) -> bool:
    """Whether a folder is what ``unet.save_pretrained(folder)`` writes: a U-Net's configuration and weights at once."""
    try:
        return read_json(folder / "config.json").get("_class_name") == UNET_ONLY["unet"]
    except WeightError:
        return False


def is_model_folder(folder: Path) -> bool:
    """Whether a folder is a pipeline or a U-Net, sound or not."""
    return os.path.lexists(folder / "model_index.json") or (folder / "unet").is_dir() or is_bare_unet(folder)


def component_folder(checkpoint: Path, component: str) -> Path:
    """Where a component of a checkpoint folder lies."""
    inside = checkpoint / component
    return checkpoint if component == "unet" and not inside.is_dir() and is_bare_unet(checkpoint) else inside


def component_classes(folder: Path) -> dict[str, str]:
    """Components of a checkpoint folder that have weights, by folder name, with their class names.

    Raises:
        WeightError: if ``model_index.json`` is not readable, names another kind of pipeline, gives a network a class
            that is not known here, or lacks a network that this kind needs.
    """
    if not os.path.lexists(folder / "model_index.json"):
        return UNET_ONLY
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


def _named_parts(folder: Path) -> tuple[Any, dict[str, list[Any]]]:
    """What kind of pipeline ``model_index.json`` says it is, and library and class of the parts that it has."""
    index = read_json(folder / "model_index.json")
    parts = {name: entry for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]}
    return index.get("_class_name"), parts


def check_parts_without_weights(folder: Path) -> None:
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
        list(part_files(folder / name))
    read_config(folder / "scheduler" / "scheduler_config.json")
    for name in sorted(name for name in named if name.replace("tokenizer", "text_encoder") in named):
        if name.startswith("tokenizer") and not any((folder / name / file).is_file() for file in TOKENIZER_FILES):
            raise WeightError(f"{name}/ holds no vocabulary: expected {', '.join(TOKENIZER_FILES[:-1])} "
                              f"or {TOKENIZER_FILES[-1]}")  # fmt: skip
        try:
            read_lexicon(folder / name)
        except (ValueError, OSError) as error:
            raise WeightError(str(error)) from error
    check_fit(folder)


def check_part_texts(folder: Path) -> None:
    """Read every JSON file of a pipeline's parts, which libraries read without limits of depth.

    Raises:
        WeightError: naming the first that is no JSON within the limits.
    """
    for name in _named_parts(folder)[1]:
        for path in part_files(folder / name) if name in NETWORKS or name.startswith(tuple(OTHER_PARTS)) else ():
            try:
                if path.suffix == ".json":
                    load_json(path)
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


def _read_folder(folder: Path) -> Contents:
    whole = os.path.lexists(folder / "model_index.json")
    family: Family = pipeline_family(folder) if whole else "unknown"
    headers: dict[str, WeightHeader] = {}
    problem = None
    try:
        for component in component_classes(folder):
            place = component_folder(folder, component)
            list(part_files(place))
            headers[component] = read_weights(place)
            config = read_config(place / "config.json")
            if component in ("unet", "transformer"):
                _check_sample_size(config)
            if component == "unet" and not whole:
                family = unet_family(config)
        if whole:
            check_parts_without_weights(folder)
    except (WeightError, OSError) as error:
        problem = str(error)
    return Contents(kind="pipeline" if whole else "unet", family=family, headers=headers, problem=problem)


def _check_sample_size(config: dict[str, Any]) -> None:
    size = config.get("sample_size")
    if any(isinstance(side, int) and side > MAX_SAMPLE_SIZE for side in (size if isinstance(size, list) else [size])):
        raise WeightError(f"its configuration has the sample_size {size}: expected at most {MAX_SAMPLE_SIZE}")


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
    if any(name.startswith(SIGMA_PREFIX) for name in shapes):
        return "it was trained with another noise parameterisation (EDM), which its base's scheduler does not follow"
    return None
