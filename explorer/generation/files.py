"""Generated images and maps as PNG files that carry their settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from explorer.core.folder_lock import locked
from explorer.core.new_folder import check_new_folder
from explorer.core.provenance import code_version, write_json

if TYPE_CHECKING:
    from explorer.generation.generate import Generation

SETTINGS_KEY = "implosion-explorer"
LONGEST_WORD = 40
"""Characters of a word that a file's name repeats; file systems take no names of any length."""
UNFINISHED_NAME = ".unfinished-generation"
"""Names the files that are being written to a folder, and lies there until all of them are."""


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
    information = PngInfo()
    information.add_itxt(SETTINGS_KEY, json.dumps(settings))
    Image.fromarray(image).save(path, pnginfo=information)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings inside a PNG that this project wrote.

    Raises:
        ValueError: if the file carries none.
    """
    with Image.open(path) as image:
        text = image.info.get(SETTINGS_KEY)
    if text is None:
        raise ValueError(f"{path} carries no settings: expected a PNG written by this project")
    return json.loads(text)


def check_folder(folder: Path, option: str = "") -> None:
    """Refuse, before any work, a folder that :func:`save_generations` would refuse.

    Args:
        option: as in :func:`~explorer.core.new_folder.check_new_folder`.

    Raises:
        ValueError: if it holds something, unless writing was cut off there.
    """
    if not (folder / UNFINISHED_NAME).is_file():
        check_new_folder(folder, option)


def save_generations(generations: Sequence[Generation], folder: Path) -> list[Path]:
    """Write every image, and its maps: those of words, and guidance, each kind on one scale common to all models.

    Names: ``<model>-<image>.png``, ``<model>-<image>-map-<word index>-<word>.png`` and ``<model>-<image>-guidance.png``
    (not where there is no guidance). Maps are grey, means over steps, enlarged to the image; white is the largest value
    in any of their kind (``map_scale`` in the text chunk): a probability, or an amplitude of noise.

    Args:
        folder: a new folder, since maps of other generations would be on another scale; or one where writing was cut
            off, whose files are replaced.

    Returns:
        The files written.

    Raises:
        ValueError: if two models would write to the same file, or ``folder`` already holds something.
    """
    names = [_file_name(generation.model) for generation in generations]
    if len(set(names)) != len(names):
        raise ValueError(f"models {names} share a file name: expected different names")
    maps = [(_word_maps(generation), _guidance_maps(generation)) for generation in generations]
    scales = [
        max((float(found.max()) for found in kind if found.size), default=0.0) for kind in zip(*maps, strict=True)
    ]
    files: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}
    for name, generation, (words, guidance) in zip(names, generations, maps, strict=True):
        settings = settings_of(generation)
        for index, image in enumerate(generation.images):
            files[f"{name}-{index}.png"] = (image, settings | {"image": index})
            for word, values in enumerate(words[index] if len(words) else ()):
                shown = generation.words.words[word]
                facts = {"image": index, "word": shown, "word_index": word, "map_scale": scales[0]}
                place = f"{name}-{index}-map-{word}-{_file_name(shown)[:LONGEST_WORD]}.png"
                files[place] = (_grey(values, scales[0]), settings | facts)
            if len(guidance):
                facts = {"image": index, "map": "guidance", "map_scale": scales[1]}
                files[f"{name}-{index}-guidance.png"] = (_grey(guidance[index], scales[1]), settings | facts)
    with locked(folder):
        _remove_unfinished(folder)
        check_new_folder(folder)
        _write_all(folder, files)
    return [folder / name for name in files]


def _write_all(folder: Path, files: dict[str, tuple[np.ndarray, dict[str, Any]]]) -> None:
    """All files or none: their names are written down first, and those of an attempt that fails are removed."""
    write_json(folder / UNFINISHED_NAME, list(files))
    try:
        for name, (image, settings) in files.items():
            write_png(folder / name, image, settings)
    except BaseException:
        _remove_unfinished(folder)
        raise
    (folder / UNFINISHED_NAME).unlink()


def _remove_unfinished(folder: Path) -> None:
    """Remove from ``folder`` what a cut-off :func:`save_generations` wrote there, and nothing else."""
    marker = folder / UNFINISHED_NAME
    if not marker.is_file():
        return
    for name in json.loads(marker.read_text(encoding="utf-8")):
        if Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
    marker.unlink()


def _word_maps(generation: Generation) -> np.ndarray:
    """``[B, W, H, W]`` maps of the words at the images' size; empty without capture."""
    if generation.cube is None:
        return np.empty(0)
    size, words = generation.images.shape[1:3], len(generation.words.words)
    return np.stack(
        [generation.cube.maps(size, image=index)[:words].cpu().numpy() for index in range(len(generation.images))]
    )


def _guidance_maps(generation: Generation) -> np.ndarray:
    """``[B, H, W]`` mean guidance maps at the images' size; empty where there is no guidance, or without capture."""
    import torch

    if generation.steps is None or generation.steps.guidance is None:
        return np.empty(0)
    size, means = generation.images.shape[1:3], generation.steps.guidance.mean(0)
    return torch.nn.functional.interpolate(means[:, None], size=size, mode="bilinear")[:, 0].numpy()


def _grey(values: np.ndarray, white: float) -> np.ndarray:
    """As uint8; all black where nothing is above 0."""
    return (values * (255 / white if white else 0)).round().astype("uint8")


def _file_name(text: str) -> str:
    """Text with everything but letters, digits, dot, dash and underscore replaced."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text)
