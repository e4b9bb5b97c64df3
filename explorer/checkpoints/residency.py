"""Which models are in memory: each loaded once and again when its files change, the longest unused given up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from explorer.attention.prompts import denoiser_of
from explorer.checkpoints.kinds.graft import GraftKind
from explorer.checkpoints.pipelines import last_change, load_pipeline, origin_of
from explorer.checkpoints.placement import Offload, free_bytes
from explorer.checkpoints.registry import Checkpoint
from explorer.checkpoints.shared_weights import share_equal_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import DiffusionPipeline

MAX_MODELS = 6
ROOM_PER_BYTE = 3
"""Memory to have free for each byte of weight files: fp16 files become fp32, and a step needs some too."""


class ResidentModels:
    """Models in memory, for one thread; device, precision and offload as ``load_pipeline`` takes them."""

    def __init__(self, device: str = "cpu", precision: str | None = None, offload: Offload | None = None):
        self._place, self._offload = (device, precision), offload
        self._loaded: OrderedDict[Path, tuple[Any, Checkpoint, DiffusionPipeline]] = OrderedDict()
        self._shared: dict[Any, DiffusionPipeline] = {}

    @property
    def names(self) -> list[str]:
        """Of the models in memory, the longest unused first."""
        return [checkpoint.name for _, checkpoint, _ in self._loaded.values()]

    def pipeline(self, checkpoint: Checkpoint, beside: Collection[Path] = ()) -> DiffusionPipeline:
        """The loaded model, others making room; loaded anew if a file of it or of its base changed, or its strength.

        Args:
            beside: folders of those that must stay; two models may have one name, but not one folder.

        Raises:
            ValueError: if it cannot be loaded.
        """
        settings = {} if checkpoint.problem is not None else checkpoint.ways.settings(checkpoint)
        place, version = checkpoint.folder, (checkpoint.base, last_change(checkpoint), settings)
        if place not in self._loaded or self._loaded[place][0] != version:
            self._give_up(place)
            for other in [other for other in self._loaded if other not in beside]:
                if self.has_room(checkpoint) and len(self._loaded) < MAX_MODELS:
                    break
                self._give_up(other)
            pipeline = load_pipeline(checkpoint, *self._place, self._shared, offload=self._offload)
            if self._offload is None:  # whose hooks move the tensors of each network by themselves
                for _, other, beside_it in self._loaded.values():
                    if GraftKind.name in (checkpoint.kind, other.kind):
                        share_equal_tensors(denoiser_of(pipeline), denoiser_of(beside_it))
            self._loaded[place] = (version, checkpoint, pipeline)
        self._loaded.move_to_end(place)
        return self._loaded[place][2]

    def has_room(self, checkpoint: Checkpoint, times: int = 1) -> bool:
        """Whether there is memory for so many models of the checkpoint's size, its base's included."""
        lent = () if checkpoint.base is None else checkpoint.base.rglob("*.safetensors")
        size = sum(path.stat().st_size for path in {*checkpoint.ways.files_read(checkpoint), *lent})
        return free_bytes(self._place[0]) > times * ROOM_PER_BYTE * size

    def _give_up(self, place: Path) -> None:
        """Drop a model, and whole pipelines that no other stands on."""
        if self._loaded.pop(place, None) is not None:
            kept = {origin_of(checkpoint).resolve() for _, checkpoint, _ in self._loaded.values()}
            for key in [key for key in self._shared if key[2][0] not in kept]:
                del self._shared[key]
