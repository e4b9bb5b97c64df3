"""Where a model lies, and what was parsed there: each JSON file and header once, for as long as it stays the same.

One such object travels from the registry to the pipeline, and a base reached from it shares what was parsed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.checkpoints import weight_files
from explorer.checkpoints.weight_files import Shapes, WeightError, WeightHeader

INDEX_NAME = "model_index.json"
BARE_UNET_CLASS = "UNet2DConditionModel"


@dataclass(frozen=True)
class ModelFolder:
    """A checkpoint's folder or loose file, a base, or a component's folder."""

    path: Path
    """Where it lies."""
    _parsed: dict[Path, tuple[Any, Any]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.name

    def at(self, path: Path) -> ModelFolder:
        """Another place, with what was parsed so far."""
        return ModelFolder(path, self._parsed)

    def part(self, name: str) -> ModelFolder:
        """The folder of that name inside."""
        return self.at(self.path / name)

    def component(self, name: str) -> ModelFolder:
        """Where a component lies: in a folder of its name, but for a U-Net saved by itself."""
        inside = self.part(name)
        return self if name == "unet" and not inside.path.is_dir() and self.is_bare_unet else inside

    @property
    def has_index(self) -> bool:
        """Whether it says that it is a whole pipeline, readably or not."""
        return os.path.lexists(self.path / INDEX_NAME)

    @property
    def is_bare_unet(self) -> bool:
        """Whether this is what ``unet.save_pretrained(folder)`` writes: a U-Net's configuration and weights at once."""
        try:
            return self.json("config.json").get("_class_name") == BARE_UNET_CLASS
        except WeightError:
            return False

    @property
    def is_model(self) -> bool:
        """Whether this is a pipeline or a U-Net, sound or not."""
        return self.has_index or (self.path / "unet").is_dir() or self.is_bare_unet

    def index(self) -> dict[str, Any]:
        """What ``model_index.json`` says; a WeightError if that cannot be read."""
        return self.json(INDEX_NAME)

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file; see :func:`~explorer.checkpoints.weight_files.read_json`. Not to be changed."""
        return self.read_json(self.path / name)

    def config(self, name: str = "config.json") -> dict[str, Any]:
        """As :meth:`json`, of what something is built from: its whole numbers are checked."""
        return weight_files.check_numbers(self.json(name), self.path / name)

    def weights(self) -> WeightHeader:
        """Header of the weights in here; see :func:`~explorer.checkpoints.weight_files.read_weights`."""
        return weight_files.read_weights(self.path, self.read_json, self.read_header)

    def read_json(self, path: Path) -> dict[str, Any]:
        """As :func:`~explorer.checkpoints.weight_files.read_json`."""
        return self.once(path, weight_files.read_json)

    def read_header(self, path: Path) -> Shapes:
        """As :func:`~explorer.checkpoints.weight_files.read_header`."""
        return self.once(path, weight_files.read_header)

    def once(self, path: Path, parse: Callable[[Path], Any], *, keep: bool = True) -> Any:
        """``parse(path)``, or what it gave while the file was the same. Where it raises, nothing is kept.

        Args:
            keep: whether the content is wanted again; otherwise only that it could be parsed is remembered.
        """
        try:
            status = os.stat(path)
        except OSError:
            return parse(path)  # which says what is wrong
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known, value = self._parsed.get(path, (None, None))
        if known != stamp or (keep and value is None):
            value = parse(path)
            self._parsed[path] = (stamp, value if keep else None)
        return value


def unreadable_problem(path: Path, error: OSError) -> str:
    """Why it cannot be known what lies at ``path``, as one sentence."""
    return f"{path.name} cannot be read: {error.strerror or error}"
