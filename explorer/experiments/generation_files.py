"""Generated images and maps as PNG files that carry their settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.data.new_folder import check_new_folder
from explorer.provenance import code_version

if TYPE_CHECKING:
    import numpy as np

    from explorer.experiments.generation import Generation

SETTINGS_KEY = "implosion-explorer"
LONGEST_WORD = 40
"""Characters of a word that a file's name repeats; file systems take no names of any length."""


def settings_of(generation: Generation) -> dict[str, Any]:
    """What determined a generation, JSON-serialisable."""
    return {
        "model": generation.model,
        "request": asdict(generation.request),
        "seconds": round(generation.seconds, 3),
        "code_version": code_version(),
    }


def write_png(path: Path, image: np.ndarray, settings: dict[str, Any]) -> None:
    """Write uint8 ``[H, W, 3]`` or ``[H, W]`` as PNG, settings as JSON in its text chunk."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    information = PngInfo()
    information.add_itxt(SETTINGS_KEY, json.dumps(settings))
    Image.fromarray(image).save(path, pnginfo=information)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings inside a PNG that this project wrote.

    Raises:
        ValueError: if the file carries none.
    """
    from PIL import Image

    with Image.open(path) as image:
        text = image.info.get(SETTINGS_KEY)
    if text is None:
        raise ValueError(f"{path} carries no settings: expected a PNG written by this project")
    return json.loads(text)


def save_generations(generations: Sequence[Generation], folder: Path) -> list[Path]:
    """Write every image, and every word's map on one scale common to all models, words and images.

    Names: ``<model>-<image>.png`` and ``<model>-<image>-map-<word index>-<word>.png``. Maps are grey,
    enlarged to the image; white is the largest probability in any of them (``map_scale`` in the text chunk).

    Args:
        folder: a new folder, since maps of other generations would be on another scale.

    Returns:
        The files written.

    Raises:
        ValueError: if two models would write to the same file, or ``folder`` already holds something.
    """
    check_new_folder(folder)
    names = [_file_name(generation.model) for generation in generations]
    if len(set(names)) != len(names):
        raise ValueError(f"models {names} share a file name: expected different names")
    folder.mkdir(parents=True, exist_ok=True)
    maps = [_word_maps(generation) for generation in generations]
    largest = max((float(word_maps.max()) for word_maps in maps if word_maps.size), default=0.0)
    written = []
    for name, generation, word_maps in zip(names, generations, maps, strict=True):
        settings = settings_of(generation)
        for index, image in enumerate(generation.images):
            path = folder / f"{name}-{index}.png"
            write_png(path, image, settings | {"image": index})
            written.append(path)
            for word, values in enumerate(word_maps[index] if len(word_maps) else ()):
                shown = generation.words.words[word]
                path = folder / f"{name}-{index}-map-{word}-{_file_name(shown)[:LONGEST_WORD]}.png"
                facts = {"image": index, "word": shown, "word_index": word, "map_scale": largest}
                write_png(path, (values * (255 / largest)).round().astype("uint8"), settings | facts)
                written.append(path)
    return written


def _word_maps(generation: Generation) -> np.ndarray:
    """``[B, W, H, W]`` maps of the words at the images' size; empty without capture."""
    import numpy as np

    if generation.cube is None:
        return np.empty(0)
    size, words = generation.images.shape[1:3], len(generation.words.words)
    return np.stack(
        [generation.cube.maps(size, image=index)[:words].cpu().numpy() for index in range(len(generation.images))]
    )


def _file_name(text: str) -> str:
    """Text with everything but letters, digits, dot, dash and underscore replaced."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text)
