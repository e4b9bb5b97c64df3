"""A pipeline folder that was fetched from the hub, as its manifest says; see :mod:`explorer.checkpoints.hub`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.checkpoints.kinds.base import Contents
from explorer.checkpoints.kinds.pipeline_folder import PipelineFolder
from explorer.checkpoints.model_folder import ModelFolder


class HubSnapshot(PipelineFolder):
    """Loaded as any pipeline folder is."""

    name, title = "hub", "pipeline from the hub"

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents | None:
        return super().describe(place, config) if config.get("hub") else None
