"""Text to images with token attention maps, the same noise for every model.

Everything runs through the stock pipeline's own call; this module fixes the noise, encodes a prompt once for
models that share a text encoder, and puts ``record`` around it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.attention.prompts import denoiser_of, is_joint, text_ranges
from explorer.attention.words import PromptWords, check_prompt, words_of_ranges
from explorer.checkpoints.joint_pipelines import (
    check_negative_prompt,
    denoiser_calls,
    encode_joint_prompts,
    latent_shape,
    pack,
)
from explorer.checkpoints.reasons import cannot_draw
from explorer.core.progress import OnProgress, Progress, unheard

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.attention.maps import AttentionCube
    from explorer.generation.recorded_steps import RecordedSteps

MAX_STEPS = 1000
MAX_GUIDANCE_SCALE = 50.0
MAX_IMAGES = 64
MAX_SIDE = 2048
SIDE_MULTIPLE = 8  # stock pipelines take no other sizes

ShouldStop = Callable[[], bool]
EMBEDDING_NAMES = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


class GenerationStopped(Exception):
    """``should_stop`` said so; nothing was returned and no hook was left behind."""


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What to generate; refuses values no model can be asked for.

    Raises:
        ValueError: naming the value and the range expected.
    """

    prompt: str
    """Text, not blank."""
    seed: int
    """Image ``i`` starts from the noise of seed ``seed + i``, whatever the model and the batch size."""
    steps: int = 50
    """Denoising steps, 1 to 1000."""
    guidance_scale: float = 7.5
    """Classifier-free guidance (Ho & Salimans 2022), 0 to 50; up to 1 it is off and costs nothing. Flux was distilled
    to take it as a number (the schnell version reads none) and is called once a step anyway, and so are U-Nets that
    read it (latent consistency models)."""
    negative_prompt: str = ""
    """Text to steer away from; may be empty, and must be for models with distilled guidance."""
    height: int | None = None
    """Pixels, a multiple of 8, with ``width``; without both, each model's own size."""
    width: int | None = None
    """Pixels, a multiple of 8, with ``height``; without both, each model's own size."""
    images: int = 1
    """Number of images, generated as one batch."""

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise ValueError(f"the prompt is {self.prompt!r}: expected at least one word")
        _check_integer("seed", self.seed, 0, 2**63 - 1 - MAX_IMAGES)
        _check_integer("steps", self.steps, 1, MAX_STEPS)
        _check_integer("images", self.images, 1, MAX_IMAGES)
        scale = self.guidance_scale
        if not math.isfinite(scale) or not 0 <= scale <= MAX_GUIDANCE_SCALE:
            raise ValueError(f"guidance scale is {scale}: expected 0 to {MAX_GUIDANCE_SCALE:g}")
        if (self.height is None) != (self.width is None):
            raise ValueError("only one of height and width is given: expected both or neither")
        for name, side in (("height", self.height), ("width", self.width)):
            if side is not None:
                _check_integer(name, side, SIDE_MULTIPLE, MAX_SIDE)
                if side % SIDE_MULTIPLE:
                    raise ValueError(f"{name} is {side}: expected a multiple of {SIDE_MULTIPLE}")

    @property
    def guided(self) -> bool:
        """Whether the denoiser is called for the negative prompt too, if it takes one."""
        return self.guidance_scale > 1


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What one model made of a request."""

    model: str
    """Name the model was given."""
    request: GenerationRequest
    """What was asked for; with the checkpoint it determines the images."""
    images: np.ndarray
    """uint8 ``[B, H, W, 3]`` RGB."""
    words: PromptWords
    """Words of the prompt; the cube's columns are ``words.columns``."""
    cube: AttentionCube | None
    """Attention per step, layer, image, head and word; None if it was not captured."""
    steps: RecordedSteps | None
    """Guidance maps, and the latents on the way; None if nothing was captured."""
    seconds: float
    """Wall-clock time including decoding."""


def check_request(pipeline: DiffusionPipeline, request: GenerationRequest) -> PromptWords:
    """The prompt's words, after checking both prompts against the pipeline's tokenizers.

    Raises:
        ValueError: naming unknown words, the number of tokens of a prompt that is too long, or a size, a number of
            steps or a negative prompt that the model does not take.
    """
    ranges = text_ranges(pipeline)
    for prompt in (request.negative_prompt, request.prompt):
        for text_range in ranges:
            for tokenizer in text_range.tokenizers:
                check_prompt(tokenizer, prompt)
        words = words_of_ranges(ranges, prompt)
    check_negative_prompt(pipeline, request.negative_prompt)
    latent_shape(pipeline, request.height, request.width)
    denoiser_calls(pipeline, request.steps)
    return words


def initial_noise(pipeline: DiffusionPipeline, request: GenerationRequest) -> torch.Tensor:
    """Standard normal latents ``[B, C, h, w]``, on the CPU, where every device's noise is drawn alike."""
    import torch

    shape = latent_shape(pipeline, request.height, request.width)
    draws = [torch.randn(shape, generator=generator) for generator in _generators(request)]
    return torch.stack(draws).to(denoiser_of(pipeline).dtype)


def encode_prompts(
    pipeline: DiffusionPipeline, request: GenerationRequest, prompts: list[str] | None = None
) -> dict[str, torch.Tensor]:
    """Text embeddings under the names of the pipeline's own arguments; two tensors, for SDXL and SD3 four.

    Args:
        prompts: a row each, in place of the request's own prompt.
    """
    import torch

    if is_joint(pipeline):
        return encode_joint_prompts(pipeline, prompts or request.prompt, request.negative_prompt, request.guided)
    with torch.no_grad():
        encoded = pipeline.encode_prompt(
            prompt=prompts or request.prompt,
            negative_prompt=request.negative_prompt or None,  # SDXL has its own empty prompt
            device=pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=request.guided,
        )
    return dict(zip(EMBEDDING_NAMES, encoded, strict=False))


def generate(
    pipeline: DiffusionPipeline,
    request: GenerationRequest,
    *,
    model: str = "",
    capture: bool = True,
    keep_heads: bool = True,
    on_progress: OnProgress = unheard,
    should_stop: ShouldStop | None = None,
    embeddings: dict[str, torch.Tensor] | None = None,
) -> Generation:
    """Generate images from one model; bit-identical with and without capture.

    Args:
        pipeline: a stock Stable Diffusion or Flux pipeline, e.g. from ``load_pipeline``.
        request: what to generate.
        model: name kept in the result.
        capture: whether to keep the token attention maps, the guidance maps and the latents on the way.
        keep_heads: every attention head's, or their mean only.
        on_progress: told after each denoising step.
        should_stop: asked after each step; True ends the generation.
        embeddings: from ``encode_prompts`` of a pipeline with the same text encoder.

    Raises:
        ValueError: for a prompt the model cannot read, or if its parts do not work together or it gives non-finite
            pixels.
        GenerationStopped: if ``should_stop`` said so.
    """
    import torch

    from explorer.attention.record import record
    from explorer.generation.recorded_steps import record_steps, recorded_steps

    words = check_request(pipeline, request)
    started = time.perf_counter()
    maps = calls = None
    with torch.inference_mode(), cannot_draw(model, GenerationStopped), ExitStack() as blocks:
        if capture:
            maps = blocks.enter_context(record(pipeline, words, keep_heads=keep_heads, text_share=True))
            calls = blocks.enter_context(record_steps(pipeline, request))
        embeddings = encode_prompts(pipeline, request) if embeddings is None else embeddings
        images = run_pipeline(pipeline, request, embeddings, Progress(task=model), on_progress, should_stop)
    return Generation(
        model=model,
        request=request,
        images=to_pixels(images, model),
        words=words,
        cube=None if maps is None else maps.cube,
        steps=None if calls is None else recorded_steps(pipeline, request, calls),
        seconds=time.perf_counter() - started,
    )


def compare(
    pipelines: dict[str, DiffusionPipeline],
    request: GenerationRequest,
    *,
    capture: bool = True,
    keep_heads: bool = True,
    on_progress: OnProgress = unheard,
    should_stop: ShouldStop | None = None,
) -> Iterator[Generation]:
    """Generate the same request from several models, one result at a time as they finish.

    Prompts are checked against every model before the first step, and encoded once for all models that share
    text encoder and tokenizer. Nothing is loaded here.

    Args:
        pipelines: models by name.
        request: what to generate; every model starts from the same noise.
        capture: as in :func:`generate`.
        keep_heads: every attention head's, or their mean only.
        on_progress: told after each step; the task is the model's name, the parts are the models.
        should_stop: asked after each step.

    Yields:
        One ``Generation`` a model, in order.

    Raises:
        ValueError: before anything is generated, if a model cannot read the prompt.
        GenerationStopped: if ``should_stop`` said so; results already yielded stay valid.
    """
    for pipeline in pipelines.values():
        check_request(pipeline, request)
    encoded: dict[tuple[int, ...], dict[str, Any]] = {}
    for part, (name, pipeline) in enumerate(pipelines.items()):
        key = _text_side(pipeline)
        if key not in encoded:
            with cannot_draw(name):
                encoded[key] = encode_prompts(pipeline, request)
        yield generate(
            pipeline,
            request,
            model=name,
            capture=capture,
            keep_heads=keep_heads,
            on_progress=partial(_as_part, on_progress, part, len(pipelines)),
            should_stop=should_stop,
            embeddings=encoded[key],
        )


def run_pipeline(
    pipeline: DiffusionPipeline,
    request: GenerationRequest,
    embeddings: dict[str, torch.Tensor],
    begun: Progress,
    on_progress: OnProgress = unheard,
    should_stop: ShouldStop | None = None,
) -> np.ndarray:
    """The stock pipeline's call; images as floats in ``[0, 1]``, ``[B, H, W, 3]``: the request's for every row of the
    embeddings, all from the request's noise."""
    done = 0

    def step_ended(running: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal done
        done += 1
        on_progress(replace(begun, done=done, total=running.num_timesteps))
        if should_stop is not None and should_stop():
            raise GenerationStopped(f"stopped after {done} of {running.num_timesteps} steps")
        return tensors

    rows = len(embeddings["prompt_embeds"])
    # Samplers that add noise (Euler ancestral, LCM) add the same to a picture whatever is drawn beside it.
    generators = [generator for _ in range(rows) for generator in _generators(request)]
    latents = initial_noise(pipeline, request).repeat(rows, 1, 1, 1)
    factor, repeats = pipeline.vae_scale_factor, request.images
    if is_joint(pipeline):  # these pipelines do not repeat embeddings that they are given
        embeddings = {name: rows.repeat_interleave(repeats, dim=0) for name, rows in embeddings.items()}
        repeats = 1
    return pipeline(
        **embeddings,
        height=latents.shape[2] * factor,
        width=latents.shape[3] * factor,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        num_images_per_prompt=repeats,
        generator=generators if len(generators) > 1 else generators[0],
        latents=pack(pipeline, latents),
        output_type="np",
        callback_on_step_end=step_ended,
    ).images


def _generators(request: GenerationRequest) -> list[torch.Generator]:
    import torch

    return [torch.Generator().manual_seed(request.seed + index) for index in range(request.images)]


def to_pixels(images: np.ndarray, model: str) -> np.ndarray:
    """Floats in ``[0, 1]`` to uint8, refusing what a broken model makes."""
    if not np.isfinite(images).all():
        raise ValueError(f"model {model or 'given'} made non-finite pixels: its weights or its precision fail")
    return (images * 255).round().astype(np.uint8)


def _text_side(pipeline: DiffusionPipeline) -> tuple[int, ...]:
    """Identity of everything that turns a prompt into embeddings."""
    names = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2", "tokenizer_3", "text_encoder_3")
    return tuple(id(getattr(pipeline, name, None)) for name in names)


def _as_part(on_progress: OnProgress, part: int, parts: int, progress: Progress) -> None:
    on_progress(replace(progress, part=part, parts=parts))


def _check_integer(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}: expected a whole number from {low} to {high}")
