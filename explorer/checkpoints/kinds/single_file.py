"""A whole model in one .safetensors file, in the layout of the original LDM code (CompVis, Stability AI).

Such a file holds weights alone. Configurations, tokenizers and the scheduler (with it epsilon or v-prediction) come
from its base, a diffusers folder of the same family; so do networks that the file lacks. The base needs no weights of
its own for what the file holds. Of a file with averaged weights beside it (``model_ema.``) the plain ones are used, as
in diffusers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.components import check_networks, complete_tokenizers, load_component
from explorer.checkpoints.denoiser import denoiser_config, read_tensors
from explorer.checkpoints.families import FAMILY_NAMES, Family, single_file_family, single_file_parts
from explorer.checkpoints.kinds.base import WITH_COMMAND, CheckpointKind, Contents
from explorer.checkpoints.kinds.pipeline_folder import check_part_texts, component_classes
from explorer.checkpoints.lora_layout import ADAPTER_WEIGHTS, is_adapter
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.original_names import original_names
from explorer.checkpoints.reasons import reason_of
from explorer.checkpoints.weight_checks import check_single_file
from explorer.checkpoints.weight_files import Shapes, WeightError, WeightHeader

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

LOADABLE_FAMILIES = ("sd1", "sd2", "sdxl")
LAYERS_PER_BLOCK = 2
"""Of a U-Net whose configuration states none: diffusers' default."""
SIGMA_PREFIX = "edm_"
"""Of the tensors that mark a single file trained on EDM's noise: ``edm_mean``, ``edm_std``, ``edm_vpred.sigma_max``."""
NOISE_MARKERS = {
    "v_pred": ("prediction_type", "v_prediction", "it was trained for v-prediction"),
    "ztsnr": ("rescale_betas_zero_snr", True, "it was trained to a terminal signal-to-noise ratio of zero"),
}
"""Empty tensors of these names mark how a single file was trained: what its base's scheduler must state, and words."""


class SingleFile(CheckpointKind):
    """Whatever lone .safetensors file is no LoRA."""

    name, title, on_base, is_file = "single-file", "single file", True, True

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents | None:
        file = lone_file(place)
        if file is None:
            return None
        try:
            header = read_file(place, file)
        except (WeightError, OSError) as error:
            return Contents(kind=self.name, problem=str(error))
        family = single_file_family(header.shapes)
        problem = _own_problem(header.shapes, family)
        return Contents(kind=self.name, family=family, headers={"file": header}, problem=problem)

    def missing_base(self, family: Family) -> str:
        return (
            "a single file holds neither tokenizer nor configuration: name a diffusers folder of the same family "
            f"({FAMILY_NAMES[family]}) that lends them, {WITH_COMMAND}"
        )

    def misfit(self, checkpoint: Checkpoint) -> str | None:
        base = checkpoint.whole
        stated = base.json("scheduler/scheduler_config.json")
        for marker, (field, value, words) in NOISE_MARKERS.items():
            if marker in checkpoint.headers["file"].shapes and stated.get(field) != value:
                return f"{words}: the scheduler of its base {base.name} is not configured for it ({field})"
        return None

    def check(self, checkpoint: Checkpoint) -> None:
        base, file = checkpoint.whole, checkpoint.files[0]
        check_part_texts(base)
        check_single_file(checkpoint.place.read_header(file), base, component_classes(base))
        super().check(checkpoint)

    def denoiser_shapes(self, checkpoint: Checkpoint) -> Shapes:
        shapes = checkpoint.headers["file"].shapes
        return {name: shapes[stored] for name, stored in _names_in_file(checkpoint).items()}

    def read_denoiser(
        self, checkpoint: Checkpoint, names: Iterable[str], dtype: torch.dtype | None = None
    ) -> dict[str, torch.Tensor]:
        stored, names = _names_in_file(checkpoint), list(names)
        found = read_tensors(checkpoint.files, [stored[name] for name in names], checkpoint.name)
        return {name: found[stored[name]] for name in names}


def lone_file(place: ModelFolder) -> Path | None:
    """The .safetensors file that is the checkpoint: the path itself, a peft adapter's, or a folder's only one without a
    U-Net."""
    path = place.path
    if path.suffix == ".safetensors" and not path.is_dir():
        return path
    if is_adapter(path):
        return path / ADAPTER_WEIGHTS
    if not path.is_dir() or place.is_model:
        return None
    files = sorted(path.glob("*.safetensors"))
    return files[0] if len(files) == 1 else None


def read_file(place: ModelFolder, file: Path) -> WeightHeader:
    """Header of a checkpoint that is one file."""
    return WeightHeader(files=(file,), shapes=place.read_header(file), size_bytes=file.stat().st_size)


def lent_weights(checkpoint: Checkpoint) -> Iterator[WeightHeader]:
    """Headers of what its base lends to a single file; a WeightError names what the base lacks."""
    base, own = checkpoint.whole, single_file_parts(checkpoint.headers["file"].shapes)
    for component in component_classes(base):
        base.json(f"{component}/config.json")
        if component not in own:
            yield base.part(component).weights()


def load_single_file(path: Path, base: ModelFolder, name: str, dtype: torch.dtype) -> DiffusionPipeline:
    """Convert a single file to a stock pipeline, on the CPU; nothing is looked up elsewhere.

    Args:
        path: the .safetensors file.
        base: pipeline folder that lends configurations, tokenizers, scheduler and missing networks.
        name: of the checkpoint, for messages.
        dtype: of every network.

    Raises:
        ValueError: naming the checkpoint, if the file does not fit the base's configurations.
    """
    import diffusers

    kind = base.index()["_class_name"]
    try:
        lent = _lent_components(base, single_file_parts(base.read_header(path)), dtype)
        pipeline = getattr(diffusers, kind).from_single_file(
            str(path), config=str(base.path), local_files_only=True, dtype=dtype, **lent
        )
    except NotImplementedError as error:  # torch's answer to moving a tensor that the file never filled
        raise ValueError(
            f"checkpoint {name} cannot be loaded: it lacks weights that its base {base.name} has a configuration for"
        ) from error
    except Exception as error:  # what a library raises over a configuration of any content is not foreseeable
        raise ValueError(
            f"checkpoint {name} cannot be loaded: it does not fit the configuration of its base {base.name}: "
            f"{reason_of(error)}"
        ) from error
    check_networks(name, pipeline)
    complete_tokenizers(name, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _lent_components(base: ModelFolder, own: frozenset[str], dtype: torch.dtype) -> dict[str, Any]:
    """What the base gives as it is: networks missing from the file, tokenizers, and no safety checker.

    Handed over as objects because ``from_single_file`` would look for pickles too.
    """
    import transformers

    index = base.index()
    lent: dict[str, Any] = {
        component: load_component(base.part(component), class_name, dtype)
        for component, class_name in component_classes(base).items()
        if component not in own
    }
    for component in ("tokenizer", "tokenizer_2"):
        if component in index:
            tokenizer_class = getattr(transformers, index[component][1])
            lent[component] = tokenizer_class.from_pretrained(base.path / component, local_files_only=True)
    if index["_class_name"] == "StableDiffusionPipeline":
        lent |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return lent


def _names_in_file(checkpoint: Checkpoint) -> dict[str, str]:
    """The U-Net's tensors: their names in the file by those that diffusers gives them."""
    layers = denoiser_config(checkpoint).get("layers_per_block", LAYERS_PER_BLOCK)
    if type(layers) is not int or layers < 1:
        raise WeightError(f"the U-Net of its base {checkpoint.whole.name} has layers_per_block {layers!r}: expected "
                          "one number, as the original layout has")  # fmt: skip
    return original_names(checkpoint.headers["file"].shapes, layers)


def _own_problem(shapes: Shapes, family: Family) -> str | None:
    if family == "unknown":
        return "its tensors are neither those of a Stable Diffusion file nor a LoRA's"
    if family not in LOADABLE_FAMILIES:
        return f"it is a single file of {FAMILY_NAMES[family]}, which is read from diffusers folders only"
    if "unet" not in single_file_parts(shapes):
        return "it is a single file without a U-Net (model.diffusion_model.)"
    if any(name.startswith(SIGMA_PREFIX) for name in shapes):
        return "it was trained with another noise parameterisation (EDM), which its base's scheduler does not follow"
    return None
