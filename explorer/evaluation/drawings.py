"""What the models draw, stored once: pictures and the maps of their words, of which any metric is computed later.

A folder for each model and seed holds one safetensors file and its manifest, which is written last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from explorer.checkpoints.joint_pipelines import latent_shape
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.weights_hash import configurations_hash, hash_of_base, weights_hash
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
from explorer.evaluation.config import DRAWING_VERSION, EvaluationConfig
from explorer.evaluation.painted_scenes import scene_maps, scenes_obstacle
from explorer.evaluation.prompts import Prompts, paired_prompts, single_prompts
from explorer.generation.batch import generate_batch, generate_pictures
from explorer.generation.generate import GenerationRequest, check_request
from explorer.iconworld.world import World
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.attention.maps import AttentionCube
    from explorer.checkpoints.registry import Checkpoint

    Keep = Callable[[AttentionCube, int], tuple[torch.Tensor, ...]]
    """What of one picture's attention is kept, from the cube of its batch and its place there."""

KIND, FILE_NAME, CONFIGURATIONS = "drawing", "drawing.safetensors", "configurations"
LATE_SHARE = 1 / 3
"""The last part of the steps, in which details are drawn: there the maps of imploded models scatter."""
PIXELS_AT_ONCE = 16 * 512**2
NO_PAIRS = "the concept list has fewer than two concepts of the groups other and less popular"
NOT_ASKED = "prompts of two concepts were not asked for"
WITHOUT_MAPS = dict.fromkeys(
    ("maps", "late_maps", "pair_maps", "scene_maps", "scene_masks", "guidance_maps"), "it was drawn without maps"
)
"""What a drawing without maps leaves out, as metrics ask for it."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What one model drew with one seed; maps are fp32 attention probabilities, means over heads and, where they
    have no dimension for them, over the layers that the manifest names (``attention_layers``)."""

    images: torch.Tensor
    """uint8 ``[concepts, H, W, 3]`` of the concepts' prompts."""
    maps: torch.Tensor | None = None
    """``[concepts, h, w]`` of the concept's words, means over all steps; None where maps were not asked for."""
    late_layer_maps: torch.Tensor | None = None
    """``[layers, concepts, h, w]``: every layer's, over the last steps alone (``LATE_SHARE``, at least one)."""
    pair_images: torch.Tensor | None = None
    """uint8 ``[pairs, H, W, 3]`` of :func:`~explorer.evaluation.prompts.paired_prompts`; None where there are none."""
    pair_layer_maps: torch.Tensor | None = None
    """``[layers, pairs, 2, h, w]`` of both concepts' words, means over all steps."""
    scene_layer_maps: torch.Tensor | None = None
    """``[layers, concepts, h, w]`` of the concept's word on a painted scene; None where there are no scenes."""
    scene_masks: torch.Tensor | None = None
    """``[concepts, h, w]`` in [0, 1]: how much of each position the scene's object covers."""
    guidance_maps: torch.Tensor | None = None
    """``[concepts, h, w]`` guidance maps, on the scale of noise, means over all steps; None without guidance."""

    @property
    def late_maps(self) -> torch.Tensor | None:
        """``[concepts, h, w]``: the mean over layers."""
        return _over_layers(self.late_layer_maps)

    @property
    def pair_maps(self) -> torch.Tensor | None:
        """``[pairs, 2, h, w]``: the mean over layers."""
        return _over_layers(self.pair_layer_maps)

    @property
    def scene_maps(self) -> torch.Tensor | None:
        """``[concepts, h, w]``: the mean over layers."""
        return _over_layers(self.scene_layer_maps)

    def measurable(self) -> dict[str, torch.Tensor | None]:
        """What metrics can ask for by name: every field but the pictures, and the means over layers."""
        fields = {name: value for name, value in vars(self).items() if name not in ("images", "pair_images")}
        return fields | {"late_maps": self.late_maps, "pair_maps": self.pair_maps, "scene_maps": self.scene_maps}

    @staticmethod
    def load(folder: Path) -> Drawing:
        """From a folder of :func:`draw_missing`."""
        return Drawing(**load_file(folder / FILE_NAME))

    @staticmethod
    def load_images(folder: Path) -> np.ndarray:
        """``images`` alone, of a drawing of any version."""
        with safe_open(folder / FILE_NAME, framework="np") as stored:
            return stored.get_tensor("images")


def _over_layers(maps: torch.Tensor | None) -> torch.Tensor | None:
    return None if maps is None else maps.mean(dim=0)


def seed_folder(folder: Path, model: str, seed: int) -> Path:
    """Where in ``folder`` the drawing of a model and seed lies."""
    return folder / model / f"seed-{seed}"


def draw_missing(
    checkpoint: Checkpoint,
    concepts: ConceptList,
    config: EvaluationConfig,
    folder: Path,
    world: World | None = None,
    on_progress: OnProgress = unheard,
) -> list[Path]:
    """Draw with every seed that is not in ``folder`` yet; the model is loaded only if there is one.

    What lies there and was drawn by other weights or with other settings, or is damaged, is drawn anew, and
    ``on_progress`` is told.

    Args:
        world: whose concepts these are, so that its scenes can be painted; None where they are of no such world.

    Returns:
        The folders, one a seed. The manifest of each says under ``left_out`` which tensors could not be had, and why.

    Raises:
        ValueError: if the checkpoint cannot be loaded, cannot read a prompt or cannot draw.
    """
    asked = _what_decides(checkpoint, concepts, config, world)
    places = {seed: seed_folder(folder, checkpoint.name, seed) for seed in config.seeds}
    obstacles = {seed: _obstacle(place, asked) for seed, place in places.items()}
    for seed, obstacle in obstacles.items():
        if obstacle and places[seed].exists():
            on_progress(note(f"{checkpoint.name}: seed {seed} is drawn anew, since {obstacle}"))
    if missing := [seed for seed, obstacle in obstacles.items() if obstacle]:
        pipeline = load_pipeline(checkpoint, config.device, config.precision)
        single, paired = _prompts(concepts, config)
        for prompt, _ in single:  # now, not after an hour
            check_request(pipeline, _request(prompt, missing[0], config))
        paired, no_pairs = _readable(pipeline, paired, missing[0], config)
        if no_pairs:
            on_progress(note(f"{checkpoint.name}: {no_pairs}"))
        pictures = Tally(on_progress, checkpoint.name, len(missing) * (len(single) + len(paired)), "picture")
        for seed in missing:
            drawn, no_guidance = _draw_seed(pipeline, checkpoint.name, (single, paired), seed, config, pictures)
            left_out = {"guidance_maps": no_guidance} if no_guidance else {}
            left_out |= _add_scenes(drawn[0], pipeline, concepts, world, seed) if config.maps else WITHOUT_MAPS
            if "pair_maps" in left_out and config.maps:
                left_out["pair_maps"] = no_pairs or (NO_PAIRS if config.two_concepts else NOT_ASKED)
            _store(places[seed], drawn, asked=asked, seed=seed, device=config.device, left_out=left_out)
            on_progress(note(f"{checkpoint.name}: seed {seed} is drawn"))
    return list(places.values())


def _readable(
    pipeline: DiffusionPipeline, paired: Prompts, seed: int, config: EvaluationConfig
) -> tuple[Prompts, str]:  # fmt: skip
    """The prompts of two concepts, or none and why: a model with a closed list of words may know the concepts and not
    the words between them."""
    try:
        for prompt, _ in paired:
            check_request(pipeline, _request(prompt, seed, config))
    except ValueError as error:
        return [], f"prompts of two concepts are left out: {error}"
    return paired, ""


def _add_scenes(
    tensors: dict[str, torch.Tensor], pipeline: DiffusionPipeline, concepts: ConceptList, world: World | None, seed: int
) -> dict[str, str]:
    """Add the painted scenes to a drawing's tensors; returns what is left out of it, and why."""
    left_out = {} if "pair_layer_maps" in tensors else {"pair_maps": NO_PAIRS}
    if obstacle := scenes_obstacle(pipeline, world, concepts):
        return left_out | dict.fromkeys(("scene_maps", "scene_masks"), obstacle)
    tensors["scene_layer_maps"], tensors["scene_masks"] = scene_maps(pipeline, world, seed)
    return left_out


def _store(
    place: Path, drawn: tuple[dict[str, torch.Tensor], list[str]], *, asked: dict[str, Any], seed: int, device: str,
    left_out: dict[str, str],
) -> None:  # fmt: skip
    """Write the tensors to the folder of the seed."""
    tensors, layers = drawn
    place.mkdir(parents=True, exist_ok=True)
    save_file({name: values.contiguous() for name, values in tensors.items()}, place / FILE_NAME)
    write_manifest(
        place, kind=KIND, config=asked, seed=seed, files=[FILE_NAME], device=device_name(device),
        attention_layers=layers, left_out=left_out,
    )  # fmt: skip


def _prompts(concepts: ConceptList, config: EvaluationConfig) -> tuple[Prompts, Prompts]:
    """Of single concepts and, with maps and where they are asked for, of two."""
    return single_prompts(concepts), paired_prompts(concepts) if config.maps and config.two_concepts else []


def _what_decides(
    checkpoint: Checkpoint, concepts: ConceptList, config: EvaluationConfig, world: World | None
) -> dict[str, Any]:
    """All that a drawing hangs on beside its seed."""
    # A single file's sampler follows from its weights.
    sampler = (checkpoint.base or checkpoint.folder) / "scheduler" / "scheduler_config.json"
    return {
        "version": DRAWING_VERSION,
        "prompts": [[prompt, *words] for each in _prompts(concepts, config) for prompt, words in each],
        "maps": None if config.maps else False,  # drawings of before there was a choice have them, and say nothing
        "world": None if world is None else world.config(),
        "weights": weights_hash(checkpoint),
        "weights of the base": hash_of_base(checkpoint),
        CONFIGURATIONS: configurations_hash(checkpoint),
        "sampler": hash_file(sampler) if sampler.is_file() else None,
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "size": config.size,
        "precision": config.precision or "fp32",
    }


def _obstacle(place: Path, asked: dict[str, Any]) -> str:
    """Why a stored drawing is not the one that is asked for; empty if it is."""
    try:
        manifest = read_manifest(place, kind=KIND)
        check_files(place, manifest, [FILE_NAME])
        found = manifest["config"]
        found.setdefault(CONFIGURATIONS, asked[CONFIGURATIONS])  # earlier releases did not record them
        differing = [name for name in asked if hash_json(asked[name]) != hash_json(found.get(name))]
    except (ManifestError, KeyError, AttributeError) as error:
        return f"what lies there is no whole drawing: {error}"
    return f"it was drawn with other {', '.join(differing)}" if differing else ""


def _request(prompt: str, seed: int, config: EvaluationConfig) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt, seed=seed, steps=config.steps, guidance_scale=config.guidance_scale, height=config.size,
        width=config.size,
    )  # fmt: skip


def _draw_seed(
    pipeline: DiffusionPipeline,
    model: str,
    prompts: tuple[Prompts, Prompts],
    seed: int,
    config: EvaluationConfig,
    pictures: Tally,
) -> tuple[tuple[dict[str, torch.Tensor], list[str]], str]:
    """The drawing's tensors but those of scenes, and the attention modules whose mean its maps are; and why there are
    no guidance maps where maps were asked for."""
    single, paired = prompts
    if not config.maps:
        return ({"images": torch.from_numpy(_draw_pictures(pipeline, model, single, seed, config, pictures))}, []), ""
    drawn = draw(pipeline, model, single, seed, config, pictures, _of_one)
    maps, late_maps = drawn.kept
    tensors = {"images": torch.from_numpy(drawn.images), "maps": torch.stack(maps),
               "late_layer_maps": torch.stack(late_maps, dim=1)}  # fmt: skip
    if drawn.guidance is not None:
        tensors["guidance_maps"] = drawn.guidance
    if paired:
        of_two = draw(pipeline, model, paired, seed, config, pictures, _of_two)
        tensors |= {"pair_images": torch.from_numpy(of_two.images), "pair_layer_maps": torch.stack(*of_two.kept, dim=1)}
    return (tensors, drawn.layers), drawn.no_guidance


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Pictures of many prompts from one noise."""

    images: np.ndarray
    """uint8 ``[n, H, W, 3]``."""
    kept: list[list[torch.Tensor]]
    """Of each thing that ``keep`` gives a list over the pictures."""
    layers: list[str]
    """The attention modules of the maps."""
    guidance: torch.Tensor | None
    """fp32 ``[n, h, w]`` guidance maps, means over steps; None where there is no guidance."""
    no_guidance: str
    """Why there is none; empty where there is."""


def draw(
    pipeline: DiffusionPipeline, model: str, prompts: Prompts, seed: int, config: EvaluationConfig, pictures: Tally,
    keep: Keep = lambda cube, row: (),
) -> Drawn:  # fmt: skip
    """Draw every prompt from the noise of ``seed``, in batches, and count the pictures.

    Args:
        prompts: with as many nouns for each.
        keep: what of the attention of each picture is kept, from the cube and the picture's place in it.
    """
    images, kept, guidance = [], [], []
    for part in _batches(pipeline, prompts, config):
        texts, words = zip(*part, strict=True)
        drawn, cube, steps = generate_batch(pipeline, _request(texts[0], seed, config), list(texts), words, model)
        images.append(drawn)
        kept += [keep(cube, row) for row in range(len(texts))]
        guidance += [] if steps.guidance is None else [steps.guidance.mean(0)]
        pictures.add(len(texts))
    return Drawn(
        images=np.concatenate(images), kept=[list(each) for each in zip(*kept, strict=True)],
        layers=cube.default_layers, guidance=torch.cat(guidance) if guidance else None, no_guidance=steps.no_guidance,
    )  # fmt: skip


def _of_one(cube: AttentionCube, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a prompt's concept the map over all steps, ``[h, w]``, and each layer's over the last, ``[layers, h, w]``."""
    late = slice(cube.steps - max(1, round(LATE_SHARE * cube.steps)), cube.steps)
    return cube.maps(image=row)[0].cpu(), cube.layer_maps(image=row, step=late)[:, 0].cpu()


def _of_two(cube: AttentionCube, row: int) -> tuple[torch.Tensor]:
    """Each layer's maps of both concepts of a prompt, over all steps: ``[layers, 2, h, w]``."""
    return (cube.layer_maps(image=row)[:, :-1].cpu(),)


def _draw_pictures(
    pipeline: DiffusionPipeline, model: str, prompts: Prompts, seed: int, config: EvaluationConfig, pictures: Tally
) -> np.ndarray:
    """:func:`draw` without maps, uint8 ``[n, H, W, 3]``."""
    images = []
    for part in _batches(pipeline, prompts, config):
        texts = [prompt for prompt, _ in part]
        images.append(generate_pictures(pipeline, _request(texts[0], seed, config), texts, model))
        pictures.add(len(texts))
    return np.concatenate(images)


def _batches(pipeline: DiffusionPipeline, prompts: Prompts, config: EvaluationConfig) -> Iterator[Prompts]:
    """As many prompts at a time as are drawn at once."""
    _, height, width = latent_shape(pipeline, config.size, config.size)
    at_once = max(1, min(config.batch_size, PIXELS_AT_ONCE // (height * width * pipeline.vae_scale_factor**2)))
    for start in range(0, len(prompts), at_once):
        yield prompts[start : start + at_once]
