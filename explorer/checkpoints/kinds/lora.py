"""A LoRA (diffusers or kohya layout, or a folder that peft saved), merged into a copy of its base's networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.families import FAMILY_NAMES, TRANSFORMER_FAMILIES, Family, is_lora, lora_family
from explorer.checkpoints.kinds.base import WITH_COMMAND, CheckpointKind, Contents
from explorer.checkpoints.kinds.pipeline_folder import component_classes
from explorer.checkpoints.kinds.single_file import lone_file, read_file
from explorer.checkpoints.lora import CHANGED_NETWORKS, apply_lora, merged_tensors, networks_changed, strength
from explorer.checkpoints.lora_layout import lora_problem
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_checks import described_network
from explorer.checkpoints.weight_files import Shapes, WeightError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint


class LoRA(CheckpointKind):
    """A file of low-rank updates."""

    name, title, on_base, own_networks, is_file = "lora", "LoRA", True, False, True

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents | None:
        file = lone_file(place)
        try:
            header = None if file is None else read_file(place, file)
        except (WeightError, OSError):
            return None  # a file that cannot be read is taken for a whole model
        if header is None or not is_lora(header.shapes):
            return None
        family = lora_family(header.shapes)
        if family in TRANSFORMER_FAMILIES:
            name = FAMILY_NAMES[family]
            problem = f"it is a LoRA for {name}: only those for U-Nets (SD 1.x, SD 2.x, SDXL) can be used"
        else:
            problem = lora_problem(file, header.shapes, place.read_json)
        return Contents(kind=self.name, family=family, headers={"file": header}, problem=problem)

    def settings(self, checkpoint: Checkpoint) -> dict[str, Any]:
        return strength(checkpoint)

    def missing_base(self, family: Family) -> str:
        of_family = "" if family == "unknown" else f" of the family {FAMILY_NAMES[family]}"
        return f"it is a LoRA, which changes another model: name the pipeline folder{of_family} {WITH_COMMAND}"

    def denoiser_sources(self, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
        return (checkpoint, _base_of(checkpoint))

    def changes(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        return networks_changed(checkpoint)

    def denoiser_shapes(self, checkpoint: Checkpoint) -> Shapes:
        base = _base_of(checkpoint)
        return base.ways.denoiser_shapes(base)

    def read_denoiser(
        self, checkpoint: Checkpoint, names: Iterable[str], dtype: torch.dtype | None = None
    ) -> dict[str, torch.Tensor]:
        base = _base_of(checkpoint)
        classes = component_classes(base.place)
        networks = {
            name: described_network(base.place.component(name), classes[name], base.headers[name].shapes)
            for name in CHANGED_NETWORKS if name in classes
        }  # fmt: skip
        return merged_tensors(checkpoint, networks, base.ways.read_denoiser(base, names), dtype)

    def assemble(self, checkpoint: Checkpoint, whole: DiffusionPipeline, dtype: torch.dtype) -> DiffusionPipeline:
        return apply_lora(whole, checkpoint)


def _base_of(checkpoint: Checkpoint) -> Checkpoint:
    """The whole pipeline that it changes; headers alone are read."""
    from explorer.checkpoints.registry import read_checkpoint

    return read_checkpoint(checkpoint.lender)
