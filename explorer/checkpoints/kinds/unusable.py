"""What is listed, with the reason, and never loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.checkpoints.kinds.base import CheckpointKind, Contents
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_files import is_pickle, pickle_refusal


class Pickle(CheckpointKind):
    """A file that can run any code when it is opened."""

    name, title = "pickle", "pickle"

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents | None:
        return Contents(kind=self.name, problem=pickle_refusal(place.path)) if is_pickle(place.path) else None


class Unreadable(CheckpointKind):
    """A place that cannot be looked into, or is not, for a reason that whoever finds it gives."""

    name, title = "unreadable", "folder"
