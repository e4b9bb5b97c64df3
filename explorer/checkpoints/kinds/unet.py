"""A U-Net alone, in ``unet/`` or saved by itself, on a base whose own it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.components import check_network, load_component, with_components
from explorer.checkpoints.families import Family
from explorer.checkpoints.kinds.base import WITH_COMMAND, CheckpointKind, Contents
from explorer.checkpoints.kinds.pipeline_folder import describe_components
from explorer.checkpoints.model_folder import BARE_UNET_CLASS, ModelFolder
from explorer.checkpoints.weight_checks import check_component
from explorer.core.provenance import MANIFEST_NAME

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

WIDTHS = {
    "cross_attention_dim": (1280, "reads text of width {}"),
    "in_channels": (4, "reads latents of {} channels"),
    "out_channels": (4, "gives latents of {} channels"),
}
"""Entries of a U-Net's configuration that its pipeline's other parts must match: diffusers' default, and words."""


class UNet(CheckpointKind):
    """Whatever folder is nothing else is taken for a U-Net, if only to say what it lacks."""

    name, title, on_base, own_networks = "unet", "U-Net", True, False

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents:
        return describe_components(place, self.name)

    def missing_base(self, family: Family) -> str:
        return f"it is a U-Net alone and its {MANIFEST_NAME} names no base pipeline: name one {WITH_COMMAND}"

    def misfit(self, checkpoint: Checkpoint) -> str | None:
        """What keeps it from taking the place of its base's own: other text or latents by their widths, or noise."""
        base, trained_for = checkpoint.whole, checkpoint.config.get("prediction_type")
        own, other = (folder.component("unet").json("config.json") for folder in (checkpoint.place, base))
        for key, (default, words) in WIDTHS.items():
            width, given = own.get(key, default), other.get(key, default)
            if width != given:
                return f"its U-Net {words.format(width)}, that of its base {base.name} {given}"
        if trained_for is not None:
            followed = base.json("scheduler/scheduler_config.json").get("prediction_type", "epsilon")
            if followed != trained_for:
                return f"it was trained for {trained_for}: the scheduler of its base {base.name} follows {followed}"
        return None

    def check(self, checkpoint: Checkpoint) -> None:
        check_component(checkpoint.place.component("unet"), BARE_UNET_CLASS)
        super().check(checkpoint)

    def assemble(self, checkpoint: Checkpoint, whole: DiffusionPipeline, dtype: torch.dtype) -> DiffusionPipeline:
        unet = load_component(checkpoint.place.component("unet"), BARE_UNET_CLASS, dtype)
        check_network(checkpoint.name, "unet", unet)
        return with_components(whole, unet=unet.to(whole.unet.device))
