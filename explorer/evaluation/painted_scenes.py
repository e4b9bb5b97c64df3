"""Attention on painted scenes, where it is known which pixels are the object.

A picture that a model makes has no true mask. A scene has one: it is encoded, noised, and shown to the U-Net with its
caption, and the map of the concept's word is compared with the object's mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from explorer.attention.capture import capture_attention
from explorer.attention.prompts import is_joint, text_ranges
from explorer.attention.words import word_selection
from explorer.checkpoints.noise_schedule import noised, training_noise
from explorer.iconworld.autoencoder import encode_images
from explorer.iconworld.grammar import photo_of
from explorer.iconworld.scenes import masks
from explorer.iconworld.world import World, draw_single, paint_all
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

TIMESTEPS = (200, 500, 800)
MASK_STREAM = 401


NO_WORLD = "it takes the true outlines of concepts in pictures, which painted scenes alone have"


def scenes_obstacle(pipeline: DiffusionPipeline, world: World | None, concepts: ConceptList) -> str:
    """Why a pipeline cannot be shown painted scenes of the concepts; empty if it can."""
    if world is None:
        return NO_WORLD
    if is_joint(pipeline):
        return f"painted scenes are shown to a U-Net, and a {type(pipeline).__name__} has none"
    if getattr(pipeline, "text_encoder_2", None) is not None:
        return f"painted scenes are shown to a U-Net of one text encoder, and a {type(pipeline).__name__} has two"
    return "" if world.concepts == concepts.names else NO_WORLD


def paint_singles(world: World, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene of every concept of a world, with nothing else in it.

    Returns:
        Pictures uint8 ``[concepts, 64, 64, 3]``, and bool ``[concepts, 64, 64]``: which pixels are the object.
    """
    generator = np.random.default_rng([seed, MASK_STREAM])
    scenes = [draw_single(world, concept, generator) for concept in world.concepts]
    covered = np.stack([masks(scene, world.atlas, world.atlas_rows)[0] for scene in scenes])
    return paint_all(world, scenes), covered


@torch.no_grad()
def scene_maps(pipeline: DiffusionPipeline, world: World, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps of the concept's word and masks of the object, for one scene of every concept.

    Maps are means over heads and over three noise levels, which are those of training, whatever the sampler; the layers
    are those that maps of drawings are of.

    Returns:
        fp32 ``[layers, concepts, h, w]``, attention probabilities, and ``[concepts, h, w]``, how much of each position
        the object covers, in [0, 1]; both on the CPU.

    Raises:
        ValueError: if the U-Net was trained on other noise
            (:func:`~explorer.checkpoints.noise_schedule.training_noise`).
    """
    signal = training_noise(pipeline.scheduler, pipeline.unet.config).signal.to(pipeline.device)
    images, covered = (torch.from_numpy(each) for each in paint_singles(world, seed))
    latents = encode_images(pipeline.vae, images)
    prompts = [photo_of(concept) for concept in world.concepts]
    groups = torch.stack(
        [word_selection(text_ranges(pipeline), prompt, (concept,))
         for prompt, concept in zip(prompts, world.concepts, strict=True)]
    )  # fmt: skip
    device = pipeline.device
    text, _ = pipeline.encode_prompt(prompts, device, 1, do_classifier_free_guidance=False)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    with capture_attention(
        pipeline.unet, groups, batch=len(prompts), guidance=False, steps=len(TIMESTEPS)
    ) as capture:  # fmt: skip
        for timestep in TIMESTEPS:
            timesteps = torch.full((len(prompts),), timestep, device=device)
            pipeline.unet(noised(latents, noise, signal[timesteps]), timesteps, encoder_hidden_states=text)
    cube = capture.cube()
    maps = torch.stack([cube.layer_maps(image=row)[:, 0].cpu() for row in range(len(prompts))], dim=1)
    return maps, torch.nn.functional.adaptive_avg_pool2d(covered.float()[:, None], maps.shape[-2:])[:, 0]
