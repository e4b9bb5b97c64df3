"""Which kind of checkpoint lies at a path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from explorer.checkpoints.kinds.base import CheckpointKind, Contents, KindName
from explorer.checkpoints.kinds.graft import GraftKind
from explorer.checkpoints.kinds.hub import HubSnapshot
from explorer.checkpoints.kinds.lora import LoRA
from explorer.checkpoints.kinds.pipeline_folder import PipelineFolder
from explorer.checkpoints.kinds.single_file import SingleFile
from explorer.checkpoints.kinds.unet import UNet
from explorer.checkpoints.kinds.unusable import Pickle, Unreadable
from explorer.checkpoints.model_folder import ModelFolder, unreadable_problem

KINDS: Mapping[KindName, CheckpointKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (Pickle(), GraftKind(), LoRA(), SingleFile(), HubSnapshot(), PipelineFolder(), UNet(), Unreadable())
    }
)
"""Every kind by its name, in the order of asking: the first that describes a place has it."""


def read_contents(place: ModelFolder, config: Mapping[str, Any]) -> Contents:
    """Recognise what lies at a place; what is wrong with it is in ``problem``, nothing is raised.

    Args:
        config: of its manifest.
    """
    try:
        if place.path.is_dir():
            os.scandir(place.path).close()  # a folder that may not be listed would look empty
        return next(found for kind in KINDS.values() if (found := kind.describe(place, config)) is not None)
    except OSError as error:
        return Contents(kind="unreadable", problem=unreadable_problem(place.path, error))
