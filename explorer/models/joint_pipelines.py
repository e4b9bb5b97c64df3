"""What stock SD3 and Flux pipelines want otherwise than those of U-Nets: latents, text positions, embeddings.

SD3 reads CLIP's positions (two encoders side by side in one embedding) and T5's behind them, Flux those of T5 alone,
with CLIP for the pooled vector. Neither masks padding, so the image attends to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.models.prompt_words import TextRange

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

T5_POSITIONS = {"StableDiffusion3Pipeline": 256, "FluxPipeline": 512}
"""``max_sequence_length`` of each pipeline by default: T5 tokens that the transformer reads, padding included."""
FLUX = "FluxPipeline"
PATCH = 2
"""Latents a side of one image token, in SD3 by convolution and in Flux by packing."""


def is_joint(pipeline: DiffusionPipeline) -> bool:
    """Whether the pipeline denoises by a joint transformer (SD3, Flux)."""
    return type(pipeline).__name__ in T5_POSITIONS


def denoiser_of(pipeline: DiffusionPipeline) -> Any:
    """The transformer of SD3 and Flux, the U-Net of the others."""
    return pipeline.transformer if is_joint(pipeline) else pipeline.unet


def takes_guidance(pipeline: DiffusionPipeline) -> bool:
    """Whether classifier-free guidance doubles the denoiser's rows; Flux has guidance distilled into one call."""
    return type(pipeline).__name__ != FLUX


def require_unet(pipeline: DiffusionPipeline, what: str = "the pipeline") -> None:
    """Refuse a pipeline where only a U-Net will do.

    Raises:
        ValueError: naming ``what`` is refused.
    """
    if is_joint(pipeline):
        raise ValueError(f"{what} is a {type(pipeline).__name__}, which has no U-Net: expected SD 1.x, SD 2.x or SDXL")


def text_ranges(pipeline: DiffusionPipeline) -> tuple[TextRange, ...]:
    """Which tokenizer fills which of the text positions that the image attends to, in order."""
    kind = type(pipeline).__name__
    clip, second = pipeline.tokenizer, getattr(pipeline, "tokenizer_2", None)
    if kind == FLUX:
        return (TextRange(tokenizer=second, length=T5_POSITIONS[kind], starts=False),)
    clip, second = (second, None) if clip is None else (clip, second)
    positions = TextRange(tokenizer=clip, beside=second, length=clip.model_max_length, expands=not is_joint(pipeline))
    if not is_joint(pipeline):
        return (positions,)
    third = None if pipeline.text_encoder_3 is None else pipeline.tokenizer_3
    return positions, TextRange(tokenizer=third, length=T5_POSITIONS[kind], starts=False, expands=False)


def check_negative_prompt(pipeline: DiffusionPipeline, negative_prompt: str) -> None:
    """Refuse a negative prompt for Flux, whose guidance is distilled into one call that reads none.

    Raises:
        ValueError: naming it.
    """
    if type(pipeline).__name__ == FLUX and negative_prompt:
        raise ValueError(f"the negative prompt is {negative_prompt!r}: Flux reads none, expected an empty one")


def latent_shape(pipeline: DiffusionPipeline, height: int | None, width: int | None) -> tuple[int, int, int]:
    """Channels, height and width of the latents of one image; None stands for the pipeline's own size.

    Args:
        height: pixels.
        width: pixels.

    Raises:
        ValueError: if a joint transformer cannot cut an image of this size into its patches.
    """
    denoiser, factor = denoiser_of(pipeline), pipeline.vae_scale_factor
    channels = denoiser.config.in_channels
    if type(pipeline).__name__ == FLUX:
        channels, side = channels // PATCH**2, pipeline.default_sample_size
    else:
        side = denoiser.config.sample_size
    if height is None or width is None:
        return (channels, side, side) if isinstance(side, int) else (channels, *side)
    if is_joint(pipeline):
        for name, pixels in (("height", height), ("width", width)):
            if pixels % (factor * PATCH):
                raise ValueError(f"{name} is {pixels}: this model takes multiples of {factor * PATCH}")
    return channels, height // factor, width // factor


def pack(pipeline: DiffusionPipeline, latents: torch.Tensor) -> torch.Tensor:
    """Latents ``[B, C, h, w]`` as the pipeline takes them: for Flux packed to ``[B, h w / 4, 4 C]``."""
    return pipeline._pack_latents(latents, *latents.shape) if type(pipeline).__name__ == FLUX else latents


def encode_joint_prompts(
    pipeline: DiffusionPipeline, prompt: str, negative_prompt: str, guided: bool
) -> dict[str, torch.Tensor]:
    """Text embeddings of an SD3 or Flux pipeline under the names of its own arguments; one row each.

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
