"""Sensitivity maps: what one word of the prompt changes at each place of a picture.

The semantic sensitivity map of its paper's Eq. 6: the word's input embedding is replaced by random rows of the token
dictionary, before the text encoder, and the predictions with and without it are compared at one z_t. Here they are
compared on the latents that a generation passed, and kept as amplitudes, draw by draw, on the scale of noise. Draws are
the same for every model that has the same tokenizer, whatever word is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from explorer.attention.replaced_words import concept_replacements, replaced
from explorer.generation.amplitudes import amplitude_map
from explorer.generation.generate import GenerationRequest, encode_prompts
from explorer.generation.predictors import named_text, predict_texts, predictor_of
from explorer.generation.recorded_steps import Trajectory
from explorer.generation.step_maps import DRAWS, OWN, KeptLatents, WordSensitivity, spread_steps, word_sensitivity

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.generation.columns import ComparisonColumn


@torch.inference_mode()
def sensitivity_maps(
    pipeline: DiffusionPipeline,
    request: GenerationRequest,
    word: str,
    trajectory: Trajectory,
    *,
    draws: int = DRAWS,
    batch_size: int = DRAWS + OWN,
) -> torch.Tensor:
    """What a word changes, on latents of the first picture of a generation.

    Args:
        pipeline: the model that made them, or another of its kind.
        request: of the generation; its seed is also that of the draws.
        word: of the prompt; where it stands several times, all of them are replaced at once.
        trajectory: the steps to measure (``Trajectory.at``).
        draws: how often it is replaced.
        batch_size: pictures that the network is shown at once, at most.

    Returns:
        fp32 ``[steps, draws, h, w]``, at least 0, on the CPU. The map is their mean over draws.

    Raises:
        ValueError: if the prompt does not hold the word, there are no draws, or the model is of a kind that
            :func:`~explorer.generation.predictors.predictor_of` refuses.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}: expected at least 1")
    predictor = predictor_of(pipeline, request.guidance_scale)
    asked = replace(request, guidance_scale=1.0, negative_prompt="")
    own = named_text(encode_prompts(pipeline, asked))
    with replaced(pipeline, concept_replacements(pipeline, request.prompt, word, draws=draws, seed=request.seed)):
        drawn = named_text(encode_prompts(pipeline, asked, [request.prompt] * draws))
    text = {name: torch.cat([own[name], drawn[name]]) for name in own}
    maps = []
    for sample, timestep in zip(trajectory.samples[:, 0], trajectory.timesteps.tolist(), strict=True):
        noisy = sample[None].to(own["text"].device)
        predicted = predict_texts(predictor, noisy, timestep, text, batch_size)
        change = (predicted[OWN:] - predicted[:OWN]) * predictor.noise_scale(timestep)
        maps.append(amplitude_map(change).cpu())
    return torch.stack(maps)


def kept_latents(trajectory: Trajectory) -> KeptLatents:
    """Those of the first image at the steps that :func:`spread_steps` chooses."""
    steps = spread_steps(len(trajectory.timesteps))
    chosen = trajectory.at(steps)
    return KeptLatents(steps=steps, samples=chosen.samples[:, 0].float().numpy(), timesteps=chosen.timesteps.numpy())


def column_sensitivity(
    pipeline: DiffusionPipeline, column: ComparisonColumn, word: int, steps: Sequence[int] | None = None
) -> WordSensitivity:
    """What a word changes in a comparison's column.

    Args:
        pipeline: the column's model.
        word: index among the column's words; all places are replaced where the word stands several times.
        steps: some of those whose latents the column keeps; None for all of them.

    Raises:
        ValueError: naming a word or a step that cannot be measured, or as :func:`sensitivity_maps`.
    """
    kept, names = column.latents, column.words[:-2]
    if not 0 <= word < len(names):
        raise ValueError(f"word {word} does not exist: expected 0 to {len(names) - 1}, the words of the prompt")
    steps = kept.steps if steps is None else tuple(steps)
    if wrong := [step for step in steps if step not in kept.steps]:
        raise ValueError(f"step {wrong[0]} has no latents kept: expected some of {list(kept.steps)}")
    trajectory = Trajectory(
        samples=torch.from_numpy(kept.samples)[:, None], timesteps=torch.from_numpy(kept.timesteps)
    ).at([kept.steps.index(step) for step in steps])
    asked = GenerationRequest(**column.settings)
    return word_sensitivity(steps, sensitivity_maps(pipeline, asked, names[word], trajectory))
