"""Icon atlases: about 400 concepts in some drawing styles, as RGBA pictures; the shipped one has three styles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from explorer.core.provenance import ROOT

STYLES = ("noto", "twemoji", "fluent")
"""Of the shipped atlas."""
ICON_SIZE = 64
ATLAS_COLUMNS = 20
ASSETS = ROOT / "assets" / "iconworld"
SPRITES_KEPT = 8192
"""Of each atlas, the latest used ones: more than scenes of 120 concepts have (6480, of 26 KiB on average)."""


def atlas_path(folder: Path, style: str) -> Path:
    """Where the atlas of ``style`` lies in ``folder``."""
    return folder / f"icons-{style}.png"


def index_path(folder: Path) -> Path:
    """Where the list of concepts, in order of frequency rank, lies in ``folder``."""
    return folder / "icons.json"


@dataclass(frozen=True, kw_only=True)
class IconAtlas:
    """Every concept in every style, and sprites of it at any size."""

    concepts: tuple[str, ...]
    """In order of frequency rank: position 0 has rank 1, the most frequent noun."""
    pixels: dict[str, np.ndarray]
    """Per style, RGBA uint8 ``[concepts, ICON_SIZE, ICON_SIZE, 4]``."""
    folder: Path | None = None
    """What it was read from; None for one that was not, and for the shipped one, which is everywhere."""

    @staticmethod
    @cache
    def load(folder: Path = ASSETS) -> IconAtlas:
        """Read the atlas, in the styles that its index names.

        Raises:
            FileNotFoundError: if ``folder`` holds no atlas.
            ValueError: if an atlas picture is too small for the concepts that the index lists.
        """
        if not index_path(folder).is_file():
            raise FileNotFoundError(f"{folder} holds no {index_path(folder).name}: expected what render-icons wrote")
        index = json.loads(index_path(folder).read_text(encoding="utf-8"))
        concepts, shipped = tuple(index["concepts"]), folder == ASSETS
        pixels = {style: _cut(folder, style, len(concepts)) for style in index["sources"]}
        return IconAtlas(concepts=concepts, pixels=pixels, folder=None if shipped else folder)

    @property
    def styles(self) -> tuple[str, ...]:
        """The drawing styles that it has."""
        return tuple(self.pixels)

    def sprite(self, concept: int, style: str, size: int, flip: bool) -> tuple[np.ndarray, np.ndarray]:
        """Premultiplied colour ``[size, size, 3]`` and alpha ``[size, size, 1]``, float32 in [0, 1]."""
        return self._remembered_sprite(concept, style, size, flip)

    @cached_property
    def _remembered_sprite(self) -> Callable[[int, str, int, bool], tuple[np.ndarray, np.ndarray]]:
        @lru_cache(maxsize=SPRITES_KEPT)
        def sprite(concept: int, style: str, size: int, flip: bool) -> tuple[np.ndarray, np.ndarray]:
            return _scaled(self.pixels[style][concept], size, flip)

        return sprite


def _cut(folder: Path, style: str, count: int) -> np.ndarray:
    with Image.open(atlas_path(folder, style)) as picture:
        atlas = np.asarray(picture.convert("RGBA"))
    rows = atlas.shape[0] // ICON_SIZE
    if rows * ATLAS_COLUMNS < count:
        raise ValueError(f"{atlas_path(folder, style)} has room for {rows * ATLAS_COLUMNS} icons: expected {count}")
    cells = atlas.reshape(rows, ICON_SIZE, ATLAS_COLUMNS, ICON_SIZE, 4).swapaxes(1, 2)
    return cells.reshape(-1, ICON_SIZE, ICON_SIZE, 4)[:count]


def _scaled(icon: np.ndarray, size: int, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    # Pillow's box-filtered resize of straight alpha would bleed the colour of transparent pixels
    # into the rim, so colours are premultiplied first.
    pixels = icon.astype(np.float32) / 255
    pixels[..., :3] *= pixels[..., 3:]
    channels = [
        np.asarray(Image.fromarray(pixels[..., channel]).resize((size, size), Image.Resampling.BOX, reducing_gap=None))
        for channel in range(4)
    ]
    scaled = np.stack(channels, axis=-1)
    if flip:
        scaled = scaled[:, ::-1]
    return np.ascontiguousarray(scaled[..., :3]), np.ascontiguousarray(scaled[..., 3:])
