"""A picture that is given, not drawn: noised as in training and shown to a model with a prompt, to see its maps.

The same picture with the same noise is shown to every model, so that maps differ by the models alone. Steps are noise
levels here, from the noisiest down, each of the picture itself: nothing is denoised.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.attention.capture import capture_attention
from explorer.attention.prompts import denoiser_of
from explorer.checkpoints.reasons import cannot_draw
from explorer.generation.generate import Generation, GenerationRequest, check_request, encode_prompts
from explorer.generation.predictors import named_text, predictor_of
from explorer.generation.recorded_steps import DenoiserCalls, recorded_steps
from explorer.iconworld.autoencoder import encode_images

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

TIMESTEPS = (900, 700, 500, 300, 100)
GUIDED = 2.0
"""A scale at which a pipeline encodes the negative prompt too."""


@dataclass(frozen=True, kw_only=True)
class GivenPicture:
    """What is shown."""

    pixels: np.ndarray
    """uint8 ``[H, W, 3]``."""
    words: str
    """What it is, for a reader of the results."""
    mask: np.ndarray | None = None
    """bool ``[H, W]``: which pixels are the object that the prompt names; None where nobody knows."""


def encode_exactly(autoencoder: Any, pictures: torch.Tensor, at_once: int) -> torch.Tensor:
    """:func:`~explorer.iconworld.autoencoder.encode_images` in fp32, whatever the autoencoder is kept in: SDXL's
    overflows in fp16."""
    if (dtype := autoencoder.dtype) == torch.float32:
        return encode_images(autoencoder, pictures, at_once)
    try:
        return encode_images(autoencoder.to(torch.float32), pictures, at_once)
    finally:
        autoencoder.to(dtype)


def show_picture(
    pipeline: DiffusionPipeline,
    given: GivenPicture,
    request: GenerationRequest,
    *,
    model: str = "",
    timesteps: Sequence[int] = TIMESTEPS,
    keep_heads: bool = True,
) -> Generation:
    """Attention and guidance of a given picture at some noise levels, as :func:`~explorer.generation.generate.generate`
    has them of steps.

    Args:
        pipeline: a stock pipeline of SD 1.x, 2.x, XL, SD3 or Flux.
        given: of a size that the model takes.
        request: prompt, negative prompt and the noise's seed; guidance is recorded whatever its scale.
        model: name kept in the result.
        timesteps: of training, 1 to 999.
        keep_heads: every attention head's, or their mean only.

    Returns:
        With the picture itself as its only image, and as many steps as there are timesteps.

    Raises:
        ValueError: for a prompt or a size that the model cannot take, a timestep that it has not, or noise that
            :func:`~explorer.generation.predictors.predictor_of` refuses.
    """
    predictor = predictor_of(pipeline, request.guidance_scale)
    if wrong := [timestep for timestep in timesteps if not 0 < timestep < predictor.timesteps]:
        raise ValueError(f"timestep is {wrong[0]}: expected 1 to {predictor.timesteps - 1}")
    (height, width), guided = given.pixels.shape[:2], predictor.guided
    shown = replace(request, images=1, height=height, width=width, steps=len(timesteps))
    asked = replace(shown, guidance_scale=GUIDED) if guided else shown
    words, started = check_request(pipeline, asked), time.perf_counter()
    denoiser = denoiser_of(pipeline)
    with torch.inference_mode(), cannot_draw(model):
        encoded = encode_prompts(pipeline, asked)
        text = named_text(encoded)
        if guided:
            none = named_text(encoded, "negative_")
            text = {name: torch.cat([none[name], value]) for name, value in text.items()}
        latents = encode_exactly(pipeline.vae, torch.from_numpy(given.pixels[None]), 1)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(request.seed)).to(latents)
        attention = capture_attention(
            denoiser, words.matrix, batch=1, guidance=guided, steps=len(timesteps), columns=words.columns,
            keep_heads=keep_heads,
        )  # fmt: skip
        with attention as maps, DenoiserCalls(denoiser, guided=guided).attached() as calls:
            for timestep in timesteps:
                noisy = predictor.noised(latents, noise, timestep)
                predictor.predict(noisy.expand(len(text["text"]), -1, -1, -1), timestep, text)
    return Generation(
        model=model, request=shown, images=given.pixels[None], words=words, cube=maps.cube(),
        steps=recorded_steps(pipeline, asked, calls), seconds=time.perf_counter() - started,
    )  # fmt: skip
