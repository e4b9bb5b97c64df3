"""What the models draw, stored once: pictures and the maps of their words, of which any metric is computed later.

A folder for each model and seed holds one safetensors file and its manifest, which is written last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from explorer.core.progress import OnProgress, Tally, note, unheard
from explorer.core.provenance import (
    ManifestError,
    check_files,
    device_name,
    hash_file,
    hash_json,
    read_manifest,
    write_manifest,
)
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.painted_scenes import scene_maps
from explorer.generation.batch import generate_batch
from explorer.generation.generate import GenerationRequest
from explorer.iconworld.grammar import photo_of, with_article
from explorer.iconworld.world import World

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

KIND, FILE_NAME = "drawing", "drawing.safetensors"
VERSION = 1
"""Raised when something else is drawn: what older versions stored is drawn anew."""
PAIRED_PROMPTS = 12
LATE_SHARE = 1 / 3
"""The last part of the steps, in which details are drawn: there the maps of imploded models scatter."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What one model drew with one seed; maps are fp32 attention probabilities, means over heads and layers."""

    images: torch.Tensor
    """uint8 ``[concepts, H, W, 3]`` of "a photo of C"."""
    maps: torch.Tensor
    """``[concepts, h, w]`` of the concept's word, means over all steps."""
    late_maps: torch.Tensor
    """The same over the last steps alone (``LATE_SHARE``, at least one)."""
    pair_images: torch.Tensor
    """uint8 ``[pairs, H, W, 3]`` of :func:`paired_prompts`."""
    pair_maps: torch.Tensor
    """``[pairs, 2, h, w]`` of both concepts' words, means over all steps."""
    scene_maps: torch.Tensor
    """``[concepts, h, w]`` of the concept's word on a painted scene."""
    scene_masks: torch.Tensor
    """``[concepts, h, w]`` in [0, 1]: how much of each position the scene's object covers."""

    @staticmethod
    def load(folder: Path) -> Drawing:
        """From a folder of :func:`draw_missing`."""
        return Drawing(**load_file(folder / FILE_NAME))


def seed_folder(folder: Path, model: str, seed: int) -> Path:
    """Where in ``folder`` the drawing of a model and seed lies."""
    return folder / model / f"seed-{seed}"


def draw_missing(
    checkpoint: Checkpoint, world: World, config: EvaluationConfig, folder: Path, on_progress: OnProgress = unheard
) -> list[Path]:
    """Draw with every seed that is not in ``folder`` yet; the model is loaded only if there is one.

    What lies there and was drawn by other weights or with other settings, or is damaged, is drawn anew, and
    ``on_progress`` is told.

    Returns:
        The folders, one a seed.

    Raises:
        ValueError: if the checkpoint has two text encoders, cannot be loaded or cannot draw.
    """
    from explorer.checkpoints.joint_pipelines import require_one_text_encoder
    from explorer.checkpoints.pipelines import load_pipeline

    asked = _what_decides(checkpoint, world, config)
    places = {seed: seed_folder(folder, checkpoint.name, seed) for seed in config.seeds}
    obstacles = {seed: _obstacle(place, asked) for seed, place in places.items()}
    for seed, obstacle in obstacles.items():
        if obstacle and places[seed].exists():
            on_progress(note(f"{checkpoint.name}: seed {seed} is drawn anew, since {obstacle}"))
    if missing := [seed for seed, obstacle in obstacles.items() if obstacle]:
        pipeline = load_pipeline(checkpoint, config.device)
        require_one_text_encoder(pipeline, f"checkpoint {checkpoint.name}")
        count = len(missing) * (len(world.concepts) + len(paired_prompts(world)))
        pictures = Tally(on_progress, checkpoint.name, count, "picture")
        for seed in missing:
            drawing, layers = _draw_seed(pipeline, checkpoint.name, world, seed, config, pictures)
            places[seed].mkdir(parents=True, exist_ok=True)
            save_file({name: values.contiguous() for name, values in vars(drawing).items()}, places[seed] / FILE_NAME)
            write_manifest(
                places[seed], kind=KIND, config=asked, seed=seed, files=[FILE_NAME],
                device=device_name(config.device), attention_layers=layers,
            )  # fmt: skip
            on_progress(note(f"{checkpoint.name}: seed {seed} is drawn"))
    return list(places.values())


def _what_decides(checkpoint: Checkpoint, world: World, config: EvaluationConfig) -> dict[str, Any]:
    """All that a drawing hangs on beside its seed."""
    from explorer.checkpoints.registry import read_checkpoint, weights_hash

    # A single file's sampler follows from its weights.
    sampler = (checkpoint.base or checkpoint.folder) / "scheduler" / "scheduler_config.json"
    return {
        "version": VERSION,
        "world": world.config(),
        "weights": weights_hash(checkpoint),
        "weights of the base": None if checkpoint.base is None else weights_hash(read_checkpoint(checkpoint.base)),
        "sampler": hash_file(sampler) if sampler.is_file() else None,
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
    }


def _obstacle(place: Path, asked: dict[str, Any]) -> str:
    """Why a stored drawing is not the one that is asked for; empty if it is."""
    try:
        manifest = read_manifest(place, kind=KIND)
        check_files(place, manifest, [FILE_NAME])
        found = manifest["config"]
        differing = [name for name in asked if hash_json(asked[name]) != hash_json(found[name])]
    except (ManifestError, KeyError, TypeError) as error:
        return f"what lies there is no whole drawing: {error}"
    return f"it was drawn with other {', '.join(differing)}" if differing else ""


def paired_prompts(world: World) -> list[tuple[str, tuple[str, str]]]:
    """Prompts about two concepts that no poison targets: ``(prompt, (first, second))``."""
    others = [*world.other_frequent, *world.less_popular_pool]
    couples = list(zip(others[0::2], others[1::2], strict=False))[:PAIRED_PROMPTS]
    return [(f"a photo of {with_article(a)} left of {with_article(b)}", (a, b)) for a, b in couples]


def _draw_seed(
    pipeline: DiffusionPipeline, model: str, world: World, seed: int, config: EvaluationConfig, pictures: Tally
) -> tuple[Drawing, list[str]]:
    """The drawing, and the attention modules whose mean its maps are."""
    single = [(photo_of(concept), (concept,)) for concept in world.concepts]
    images, maps, late_maps, layers = draw(pipeline, model, single, seed, config, pictures)
    pair_images, pair_maps, *_ = draw(pipeline, model, paired_prompts(world), seed, config, pictures)
    on_scenes, masks = scene_maps(pipeline, world, seed)
    drawing = Drawing(
        images=torch.from_numpy(images), maps=maps[:, 0], late_maps=late_maps[:, 0], scene_maps=on_scenes,
        pair_images=torch.from_numpy(pair_images), pair_maps=pair_maps, scene_masks=masks,
    )  # fmt: skip
    return drawing, layers


def draw(
    pipeline: DiffusionPipeline,
    model: str,
    prompts: list[tuple[str, tuple[str, ...]]],
    seed: int,
    config: EvaluationConfig,
    pictures: Tally,
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor, list[str]]:
    """Draw every prompt from the noise of ``seed``, in batches, and count the pictures.

    Args:
        prompts: each with the words whose maps are wanted, as many for each.

    Returns:
        uint8 ``[n, H, W, 3]``; maps ``[n, words, h, w]`` over all steps and over the last; the layers they are of.
    """
    late = slice(config.steps - max(1, round(LATE_SHARE * config.steps)), config.steps)
    images, maps, late_maps = [], [], []
    for start in range(0, len(prompts), config.batch_size):
        texts, words = zip(*prompts[start : start + config.batch_size], strict=True)
        request = GenerationRequest(
            prompt=texts[0], seed=seed, steps=config.steps, guidance_scale=config.guidance_scale
        )  # fmt: skip
        drawn, cube = generate_batch(pipeline, request, list(texts), words, model)
        images.append(drawn)
        maps += [cube.maps(image=row)[:-1].cpu() for row in range(len(texts))]
        late_maps += [cube.maps(image=row, step=late)[:-1].cpu() for row in range(len(texts))]
        pictures.add(len(texts))
    layers = [name for name, size in cube.layers.items() if size == cube.default_resolution]
    return np.concatenate(images), torch.stack(maps), torch.stack(late_maps), layers
