"""What a stock pipeline reads of a prompt: by which network, and at which text positions.

SD3 reads CLIP's positions (two encoders side by side in one embedding) and T5's behind them, Flux those of T5 alone,
with CLIP for the pooled vector. Neither masks padding, so the image attends to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.attention.words import PromptWords, TextRange, words_of_ranges

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

T5_POSITIONS = {"StableDiffusion3Pipeline": 256, "FluxPipeline": 512}
"""``max_sequence_length`` of each pipeline by default: T5 tokens that the transformer reads, padding included."""
FLUX = "FluxPipeline"
T5_ENCODERS = (("StableDiffusion3Pipeline", "text_encoder_3"), (FLUX, "text_encoder_2"))
"""Which of a pipeline's text encoders is T5; the others are CLIP's."""


def is_joint(pipeline: DiffusionPipeline) -> bool:
    """Whether the pipeline denoises by a joint transformer (SD3, Flux)."""
    return type(pipeline).__name__ in T5_POSITIONS


def denoiser_of(pipeline: DiffusionPipeline) -> Any:
    """The transformer of SD3 and Flux, the U-Net of the others."""
    return pipeline.transformer if is_joint(pipeline) else pipeline.unet


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


def encoder_ranges(pipeline: DiffusionPipeline) -> dict[str, TextRange]:
    """For every text encoder that there is, by the pipeline's name for it, the positions that it reads itself.

    That holds for encoders of which the denoiser sees a pooled vector alone, too (Flux's CLIP).
    """
    kind, found = type(pipeline).__name__, {}
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        if getattr(pipeline, name, None) is None:
            continue
        tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
        reads_t5 = (kind, name) in T5_ENCODERS
        found[name] = TextRange(
            tokenizer=tokenizer, length=T5_POSITIONS[kind] if reads_t5 else tokenizer.model_max_length,
            starts=not reads_t5, expands=kind != "StableDiffusion3Pipeline",
        )  # fmt: skip
    return found


def prompt_words(pipeline: DiffusionPipeline, prompt: str) -> PromptWords:
    """The words of a prompt and the text positions of each, as the pipeline's denoiser reads them.

    Raises:
        ValueError: if the prompt has more tokens than the model reads, or a tokenizer has no character offsets.
    """
    return words_of_ranges(text_ranges(pipeline), prompt)
