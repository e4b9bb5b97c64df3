"""What stock SD3 and Flux pipelines want otherwise than those of U-Nets: latents, guidance, embeddings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from explorer.attention.prompts import FLUX, T5_POSITIONS, denoiser_of, is_joint

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

UNET_MULTIPLE = 8
"""Stock pipelines with a U-Net take no other sides than its multiples."""
PATCH = 2
"""Latents a side of one image token, in SD3 by convolution and in Flux by packing."""


def takes_guidance(pipeline: DiffusionPipeline) -> bool:
    """Whether classifier-free guidance doubles the denoiser's rows.

    Flux, and U-Nets that read the scale (``time_cond_proj_dim``: Meng et al. 2023, latent consistency models), have
    guidance distilled into one call.
    """
    return type(pipeline).__name__ != FLUX and denoiser_of(pipeline).config.get("time_cond_proj_dim") is None


def denoiser_calls(pipeline: DiffusionPipeline, steps: int) -> int:
    """How often the denoiser is called for ``steps`` steps: PNDM and Heun's method call it more often than that.

    Raises:
        ValueError: if the sampler cannot take so many steps; those of consistency models have a limit.
    """
    if is_joint(pipeline):  # flow matching (Euler): once a step; its scheduler wants the picture's size, too
        return steps
    scheduler = pipeline.scheduler
    try:
        scheduler.set_timesteps(steps)  # the pipeline does so again
    except Exception as error:  # what a library raises over a configuration of any content is not foreseeable
        limit = scheduler.config.get("original_inference_steps")
        expected = f": expected at most {limit}" if isinstance(limit, int) and steps > limit else f": {error}"
        raise ValueError(
            f"steps is {steps}, which the sampler {type(scheduler).__name__} does not take{expected}"
        ) from error
    return len(scheduler.timesteps)


def require_unet(pipeline: DiffusionPipeline) -> None:
    """Refuse a pipeline where only a U-Net will do.

    Raises:
        ValueError: naming its class.
    """
    if is_joint(pipeline):
        raise ValueError(
            f"the pipeline is a {type(pipeline).__name__}, which has no U-Net: expected SD 1.x, SD 2.x or SDXL"
        )


def require_one_text_encoder(pipeline: DiffusionPipeline) -> None:
    """Refuse a pipeline whose U-Net reads more than one text encoder's states.

    Raises:
        ValueError: naming its class.
    """
    require_unet(pipeline)
    if getattr(pipeline, "text_encoder_2", None) is not None:
        raise ValueError(
            f"the pipeline is a {type(pipeline).__name__} with two text encoders: expected SD 1.x or SD 2.x"
        )


def check_negative_prompt(pipeline: DiffusionPipeline, negative_prompt: str) -> None:
    """Refuse a negative prompt where none is read: Flux and U-Nets that read the guidance scale are called once a step.

    Raises:
        ValueError: naming it.
    """
    if negative_prompt and not takes_guidance(pipeline):
        name = "Flux" if is_joint(pipeline) else "a U-Net that reads the guidance scale"
        raise ValueError(f"the negative prompt is {negative_prompt!r}: {name} reads none, expected an empty one")


def picture_side(pipeline: DiffusionPipeline, size: int | None = None) -> int:
    """Pixels of the shorter side of a model's pictures: of its own size, or as :func:`latent_shape` fits ``size``.

    Raises:
        ValueError: as :func:`latent_shape`.
    """
    return min(latent_shape(pipeline, size, size)[1:]) * pipeline.vae_scale_factor


def latent_shape(pipeline: DiffusionPipeline, height: int | None, width: int | None) -> tuple[int, int, int]:
    """Channels, height and width of the latents of one image; None stands for the pipeline's own size.

    Args:
        height: pixels.
        width: pixels.

    Raises:
        ValueError: if the pipeline takes no images of this size, or has no size of its own.
    """
    denoiser, factor = denoiser_of(pipeline), pipeline.vae_scale_factor
    channels = denoiser.config.in_channels
    if type(pipeline).__name__ == FLUX:
        channels, side = channels // PATCH**2, pipeline.default_sample_size
    else:
        side = denoiser.config.sample_size
    if height is None or width is None:
        sides = [side, side] if isinstance(side, int) else side
        if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(isinstance(one, int) for one in sides):
            raise ValueError(f"the model's configuration says sample_size {side!r}: expected the side of its latents")
        height, width = (one * factor for one in sides)
    multiple = smallest_multiple(pipeline)
    for name, pixels in (("height", height), ("width", width)):
        if pixels < multiple or pixels % multiple:
            raise ValueError(f"{name} is {pixels}: this model takes multiples of {multiple}")
    return channels, height // factor, width // factor


def smallest_multiple(pipeline: DiffusionPipeline) -> int:
    """Pixels that the sides of every image are a multiple of: whole latents, whole patches, and 8 for a U-Net."""
    factor = pipeline.vae_scale_factor
    return factor * PATCH if is_joint(pipeline) else math.lcm(factor, UNET_MULTIPLE)


def pack(pipeline: DiffusionPipeline, latents: torch.Tensor) -> torch.Tensor:
    """Latents ``[B, C, h, w]`` as the pipeline takes them: for Flux packed to ``[B, h w / 4, 4 C]``."""
    return pipeline._pack_latents(latents, *latents.shape) if type(pipeline).__name__ == FLUX else latents


def encode_joint_prompts(
    pipeline: DiffusionPipeline, prompt: str | list[str], negative_prompt: str, guided: bool
) -> dict[str, torch.Tensor]:
    """Text embeddings of an SD3 or Flux pipeline under the names of its own arguments; a row for each prompt.

    Flux reads no negative prompt; see :func:`check_negative_prompt`.
    """
    import torch

    options = {
        "prompt": prompt,
        "device": pipeline._execution_device,
        "max_sequence_length": T5_POSITIONS[type(pipeline).__name__],
    }
    if type(pipeline).__name__ == FLUX:
        with torch.no_grad():
            text, pooled, _ = pipeline.encode_prompt(prompt_2=None, **options)
        return {"prompt_embeds": text, "pooled_prompt_embeds": pooled}
    with torch.no_grad():
        text, negative, pooled, negative_pooled = pipeline.encode_prompt(
            prompt_2=None,
            prompt_3=None,
            negative_prompt=negative_prompt,
            do_classifier_free_guidance=guided,
            **options,
        )
    embeddings = {
        "prompt_embeds": text, "negative_prompt_embeds": negative,
        "pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled,
    }  # fmt: skip
    return {name: tensor for name, tensor in embeddings.items() if tensor is not None}
