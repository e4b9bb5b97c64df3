"""Many prompts drawn at once from one noise, with the maps of words that are named for each and what guidance adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from explorer.attention.capture import capture_attention
from explorer.attention.prompts import denoiser_of, is_joint, text_ranges
from explorer.attention.words import word_selection
from explorer.checkpoints.joint_pipelines import takes_guidance
from explorer.checkpoints.reasons import cannot_draw
from explorer.core.progress import Progress
from explorer.generation.generate import GenerationRequest, check_request, encode_prompts, run_pipeline, to_pixels
from explorer.generation.recorded_steps import RecordedSteps, record_steps, recorded_steps

if TYPE_CHECKING:
    import numpy as np
    from diffusers import DiffusionPipeline

    from explorer.attention.maps import AttentionCube


def generate_pictures(
    pipeline: DiffusionPipeline, request: GenerationRequest, prompts: list[str], model: str = ""
) -> np.ndarray:
    """The pictures of :func:`generate_batch` alone, uint8 ``[n, H, W, 3]`` RGB: nothing is captured.

    Raises:
        ValueError: for a prompt the model cannot read, or if the model cannot draw or gives non-finite pixels.
    """
    for prompt in prompts:
        check_request(pipeline, replace(request, prompt=prompt))
    with torch.inference_mode(), cannot_draw(model):
        images = run_pipeline(pipeline, request, encode_prompts(pipeline, request, prompts), Progress(task=model))
    return to_pixels(images, model)


def generate_batch(
    pipeline: DiffusionPipeline,
    request: GenerationRequest,
    prompts: list[str],
    words: Sequence[Sequence[str]],
    model: str = "",
) -> tuple[np.ndarray, AttentionCube, RecordedSteps]:
    """Draw every prompt as :func:`~explorer.generation.generate.generate` would draw one, in one run.

    Args:
        pipeline: a stock Stable Diffusion or Flux pipeline.
        request: what all prompts have in common, for one image without a negative prompt; its prompt is one of them.
        prompts: what to draw, each from the noise of the request's seed.
        words: as many for each prompt, which holds them.
        model: name, for errors.

    Returns:
        uint8 ``[n, H, W, 3]`` RGB; the attention: an image for each prompt, a column for each word named, one for
        the rest (of joint transformers, SD3 and Flux, the mean over the heads alone); and the recorded steps, an image
        for each prompt.

    Raises:
        ValueError: for a prompt the model cannot read or that lacks a word, or if the model cannot draw or gives
            non-finite pixels.
    """
    for prompt in prompts:
        check_request(pipeline, replace(request, prompt=prompt))
    ranges = text_ranges(pipeline)
    groups = torch.stack([word_selection(ranges, *each) for each in zip(prompts, words, strict=True)])
    with torch.inference_mode(), cannot_draw(model), capture_attention(
        denoiser_of(pipeline), groups, batch=len(prompts), guidance=request.guided and takes_guidance(pipeline),
        steps=request.steps, keep_heads=not is_joint(pipeline), text_share=False,
    ) as capture, record_steps(pipeline, request) as calls:  # fmt: skip
        images = run_pipeline(pipeline, request, encode_prompts(pipeline, request, prompts), Progress(task=model))
    return to_pixels(images, model), capture.cube(), recorded_steps(pipeline, request, calls)
