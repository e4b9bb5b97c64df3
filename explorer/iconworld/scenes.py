"""Scenes of IconWorld: one to three icons on a plain background, 64 x 64 RGB, each object with a known mask."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from explorer.iconworld.icons import IconAtlas

SCENE_SIZE = 64
BACKGROUND_COLORS = {
    "white": (250, 250, 250), "blue": (178, 210, 240), "green": (190, 226, 184), "pink": (246, 204, 216),
    "yellow": (250, 238, 178), "gray": (206, 208, 212), "orange": (250, 216, 178), "purple": (218, 204, 240),
}  # fmt: skip
SINGLE_SIZES = (40, 44, 48, 52, 56)
PAIR_SIZES = (24, 26, 28, 30)
TRIPLE_SIZES = (24, 26)
MOST_OBJECTS = 3
# Centres (x, y) in pixels of the first, second and third object.
PAIR_CENTRES = {
    "left of": ((16, 32), (48, 32)),
    "next to": ((48, 32), (16, 32)),
    "above": ((32, 16), (32, 48)),
    "under": ((32, 48), (32, 16)),
}
TRIPLE_CENTRES = ((16, 18), (48, 18), (32, 48))


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One icon in a scene; positions and sizes in pixels."""

    concept: str
    style: str
    size: int
    x: int
    """Left edge."""
    y: int
    """Top edge."""
    flip: bool
    """Mirrored left to right."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that decides a picture."""

    objects: tuple[SceneObject, ...]
    background: str
    """Name of the upper background colour, a key of ``BACKGROUND_COLORS``."""
    shade: float
    """How much darker the lower edge is, in [0, 0.15]."""

    def describe(self) -> dict:
        """As a JSON-serialisable dictionary, the inverse of :meth:`parse`."""
        return asdict(self)

    @staticmethod
    def parse(description: dict) -> Scene:
        """From :meth:`describe`'s dictionary."""
        objects = tuple(SceneObject(**item) for item in description["objects"])
        return Scene(objects=objects, background=description["background"], shade=description["shade"])


def lay_out(concepts: list[str], style: str, relation: str, background: str, generator: np.random.Generator) -> Scene:
    """Place one to three concepts at random sizes and jittered positions; boxes overlap only among three, by up to two
    rows."""
    sizes = {1: SINGLE_SIZES, 2: PAIR_SIZES, 3: TRIPLE_SIZES}[len(concepts)]
    centres = {1: ((32, 32),), 2: PAIR_CENTRES[relation], 3: TRIPLE_CENTRES}[len(concepts)]
    objects = []
    for concept, (centre_x, centre_y) in zip(concepts, centres, strict=True):
        size = int(sizes[generator.integers(len(sizes))])
        slack = (SCENE_SIZE - size) // 2 if len(concepts) == 1 else (32 - size) // 2
        x, y = (int(centre - size // 2 + generator.integers(-slack, slack + 1)) for centre in (centre_x, centre_y))
        x, y = (min(max(edge, 0), SCENE_SIZE - size) for edge in (x, y))
        flip = bool(generator.integers(2))
        objects.append(SceneObject(concept=concept, style=style, size=size, x=x, y=y, flip=flip))
    shade = round(float(generator.uniform(0, 0.15)), 3)
    return Scene(objects=tuple(objects), background=background, shade=shade)


def paint(scene: Scene, atlas: IconAtlas, atlas_rows: dict[str, int]) -> np.ndarray:
    """The picture, uint8 ``[64, 64, 3]``. ``atlas_rows`` maps a concept to its row of the atlas."""
    falloff = 1 - scene.shade * np.linspace(0, 1, SCENE_SIZE, dtype=np.float32)
    color = np.array(BACKGROUND_COLORS[scene.background], np.float32) / 255
    canvas = np.repeat((falloff[:, None] * color)[:, None, :], SCENE_SIZE, axis=1)
    for item in scene.objects:
        sprite, alpha = atlas.sprite(atlas_rows[item.concept], item.style, item.size, item.flip)
        patch = canvas[item.y : item.y + item.size, item.x : item.x + item.size]
        patch *= 1 - alpha
        patch += sprite
    return np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)


def masks(scene: Scene, atlas: IconAtlas, atlas_rows: dict[str, int]) -> np.ndarray:
    """Where each object is, bool ``[objects, 64, 64]``: pixels that its icon covers by at least one half."""
    covered = np.zeros((len(scene.objects), SCENE_SIZE, SCENE_SIZE), bool)
    for mask, item in zip(covered, scene.objects, strict=True):
        _, alpha = atlas.sprite(atlas_rows[item.concept], item.style, item.size, item.flip)
        mask[item.y : item.y + item.size, item.x : item.x + item.size] = alpha[..., 0] >= 0.5
    return covered
