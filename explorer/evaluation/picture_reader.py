"""What sees something in the pictures that were drawn, for metrics to ask for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


class PictureReader(Protocol):
    """An extractor's judge, an aesthetics head, a classifier."""

    name: str
    """What it is called in ``evaluation.json``."""

    def read(self, images: np.ndarray) -> dict[str, Any]:
        """What it sees in pictures uint8 ``[n, H, W, 3]``, in the order of the concepts, by the names that metrics ask
        for."""

    def describe(self) -> dict[str, Any]:
        """What decides what it sees, JSON-serialisable."""
