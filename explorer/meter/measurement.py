"""One model measured: what its prediction owes to the concept's words, to another word, and to the prompt at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from explorer.attention.replaced_words import concept_replacements, neighbour_replacements, replaced
from explorer.checkpoints.joint_pipelines import latent_shape
from explorer.checkpoints.reasons import cannot_draw
from explorer.core.progress import OnProgress, counted, unheard
from explorer.evaluation.prompts import single_prompts
from explorer.generation.generate import GenerationRequest, check_request, encode_prompts
from explorer.generation.given_pictures import GUIDED, encode_exactly
from explorer.generation.predictors import Predictor, Text, named_text, predict_texts, predictor_of
from explorer.meter.amplitudes import amplitude
from explorer.meter.request import MeterRequest
from explorer.meter.shown import Shown
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PICTURES_ENCODED = 4
"""At once: an autoencoder takes more memory than a denoiser."""
UNGUIDED = 1.0
"""A scale at which a pipeline encodes no negative prompt."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was measured of one model, on the scale of noise; T timesteps, n concepts, R draws."""

    kind: tuple[Any, ...]
    """Of the pipeline, and the shape of its latents: amplitudes of another kind do not compare."""
    sensitivity: torch.Tensor
    """fp64 ``[T, n, R]``: amplitude of the change when the concept's words are replaced."""
    word_before: torch.Tensor
    """The same for the word before them; NaN where a prompt begins with the concept."""
    guidance: torch.Tensor | None
    """float32 ``[T, n, C, h, w]``: prediction with the prompt less that with none; None where none is used."""
    denoising_error: torch.Tensor | None
    """fp64 ``[T, n]``: amplitude of the prediction with the prompt less what training asks for; None of noise alone."""


@torch.no_grad()
def read_model(
    pipeline: DiffusionPipeline, concepts: ConceptList, shown: Shown, request: MeterRequest, *, model: str = "",
    on_progress: OnProgress = unheard,
) -> Reading:  # fmt: skip
    """Measure one model; the same request gives the same numbers.

    Every concept's prompt is shown with one noised picture (or noise alone), then with no prompt, then with its words
    replaced by each draw, and with the word before them replaced.

    Args:
        pipeline: a stock pipeline of SD 1.x, 2.x, XL, SD3 or Flux.
        model: name, for errors and progress.

    Raises:
        ValueError: for a prompt that the model cannot read, a timestep or noise that it has not, or predictions that
            are no numbers.
    """
    predictor = predictor_of(pipeline)
    if wrong := [timestep for timestep in request.timesteps if not 0 < timestep < predictor.timesteps]:
        raise ValueError(f"timestep is {wrong[0]}: expected 1 to {predictor.timesteps - 1}")
    prompts = [(prompt, noun) for prompt, (noun,) in single_prompts(concepts)]
    for prompt, _ in prompts:  # now, not after an hour
        check_request(pipeline, _asked(prompt, request, UNGUIDED))
    with cannot_draw(model):
        latents = _latents(pipeline, shown, model)
        shape = latents.shape[1:] if latents is not None else latent_shape(pipeline, request.size, request.size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)).to(pipeline.device)
        none = _text_of_none(pipeline, prompts[0][0], request) if predictor.guided else None
        parts = []
        for row, (prompt, noun) in enumerate(counted(prompts, on_progress, model, "concept")):
            texts = _texts(pipeline, prompt, noun, none, request)
            parts.append(_measured(predictor, None if latents is None else latents[row], noise, texts, request))
    sensitivity, word_before, guidance, error = (
        None if any(part is None for part in found) else torch.stack(found, dim=1) for found in zip(*parts, strict=True)
    )
    if not torch.isfinite(sensitivity).all():
        raise ValueError(
            f"model {model or 'given'} predicts numbers that are not finite: its weights or precision fail"
        )
    return Reading(
        kind=(type(pipeline).__name__, *shape), sensitivity=sensitivity, word_before=word_before, guidance=guidance,
        denoising_error=error,
    )  # fmt: skip


def _asked(prompt: str, request: MeterRequest, scale: float) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt, seed=request.seed, guidance_scale=scale, height=request.size, width=request.size
    )


def _latents(pipeline: DiffusionPipeline, shown: Shown, model: str) -> torch.Tensor | None:
    """float32 ``[n, C, h, w]`` of the pictures shown; None where noise alone is."""
    if shown.pictures is None:
        return None
    return encode_exactly(pipeline.vae, torch.from_numpy(shown.pictures(pipeline, model)), PICTURES_ENCODED)


def _text_of_none(pipeline: DiffusionPipeline, prompt: str, request: MeterRequest) -> Text:
    """What the pipeline reads in a guided generation beside the prompt; SDXL may read zeros."""
    encoded = encode_prompts(pipeline, _asked(prompt, request, GUIDED))
    return named_text(encoded, "negative_")


def _texts(
    pipeline: DiffusionPipeline, prompt: str, noun: str, none: Text | None, request: MeterRequest
) -> list[Text | None]:
    """The prompt; none; the draws in the concept's place; those in the place of the word before it, where there is
    one."""
    asked, options = _asked(prompt, request, UNGUIDED), {"draws": request.draws, "seed": request.seed}
    found = [named_text(encode_prompts(pipeline, asked, [prompt])), none]
    for replacements_of in (concept_replacements, neighbour_replacements):
        replacements = replacements_of(pipeline, prompt, noun, **options)
        if replacements is None:
            found.append(None)
            continue
        with replaced(pipeline, replacements):
            found.append(named_text(encode_prompts(pipeline, asked, [prompt] * request.draws)))
    return found


def _measured(
    predictor: Predictor, latents: torch.Tensor | None, noise: torch.Tensor, texts: list[Text | None],
    request: MeterRequest,
) -> tuple[torch.Tensor | None, ...]:  # fmt: skip
    """One concept: sensitivity and that of the word before ``[T, R]``, guidance vector ``[T, C, h, w]``, and error
    ``[T]``."""
    there = [text for text in texts if text is not None]
    rows = [0 if text is None else len(text["text"]) for text in texts]
    text = {name: torch.cat([each[name] for each in there]) for name in there[0]}
    sensitivity, word_before = (torch.full((len(request.timesteps), request.draws), torch.nan, dtype=torch.float64)
                                for _ in range(2))  # fmt: skip
    guidance, errors = [], []
    for at, timestep in enumerate(request.timesteps):
        noisy = noise[None] if latents is None else predictor.noised(latents[None], noise[None], timestep)
        predicted = predict_texts(predictor, noisy, timestep, text, request.batch_size)
        scale = predictor.noise_scale(timestep)
        own, none, drawn, before = (predicted * scale).split(rows)
        sensitivity[at] = amplitude(drawn - own).cpu()
        if len(before):
            word_before[at] = amplitude(before - own).cpu()
        if len(none):
            guidance.append((own - none)[0].cpu())
        if latents is not None:
            target = predictor.target(latents[None], noise[None], timestep)
            errors.append(amplitude(own - target * scale)[0].cpu())
    stacked = (torch.stack(each) if each else None for each in (guidance, errors))
    return sensitivity, word_before, *stacked
