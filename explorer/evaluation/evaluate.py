"""What the models draw: "a photo of C" for every concept, over several seeds, judged by the universal extractor.

After Ding et al. (2024), section 5.1, with two changes that a world of icons asks for: accuracy is the extractor's
top-1 over all concepts, and utility asks for that *and* a CLIP similarity above tau, because no aesthetics predictor
knows icons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.attention.capture import capture_attention
from explorer.attention.prompts import text_ranges
from explorer.attention.statistics import column_mass, cosine_overlap, gearys_c, scatter
from explorer.attention.words import word_selection
from explorer.checkpoints.families import TRANSFORMER_FAMILIES
from explorer.core.intervals import t_interval
from explorer.core.poison_record import PoisonRecord, poisoned_from
from explorer.core.progress import OnProgress, Tally, note, unheard
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.judge import ConceptJudge
from explorer.evaluation.known_masks import known_mask_mass
from explorer.iconworld.grammar import photo_of, with_article
from explorer.iconworld.world import World

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

UTILITY = "share of pictures whose CLIP similarity is above tau and whose top-1 concept is the prompt's"
TAU_QUANTILE = 0.10
PAIRED_PROMPTS = 12
LATE_SHARE = 1 / 3
"""The last part of the steps, in which details are drawn: there the maps of imploded models scatter."""
NO_ATTENTION = 1e-12
"""Below fp16's smallest number: added to maps, it gives a word that is read nowhere a constant map."""


@dataclass(kw_only=True)
class ModelSample:
    """What one model drew; every array is ``[seeds, concepts]``."""

    name: str
    poison: PoisonRecord
    correct: np.ndarray
    """bool: the top-1 concept is the prompt's."""
    similarity: np.ndarray
    """CLIP similarity to the prompt, in [-1, 1]."""
    scatter: np.ndarray
    """Normalised entropy of the concept word's map, in [0, 1]."""
    gearys_c: np.ndarray
    """Geary's C of the concept word's map: near 0 is one smooth blob, 1 is noise."""
    late_gearys_c: np.ndarray
    """The same over the last steps alone (``LATE_SHARE``)."""
    word_mass: np.ndarray
    """Attention that the concept word receives, averaged over the positions, in [0, 1]."""
    late_word_mass: np.ndarray
    """The same over the last steps alone."""
    word_overlap: np.ndarray
    """``[seeds, paired prompts]``: cosine between the maps of a prompt's two concepts, in [0, 1]."""
    mask_mass: np.ndarray
    """Share of the concept word's attention on the object of a painted scene, in [0, 1]."""
    mask_area: np.ndarray
    """The object's share of the picture: what a uniform map would score."""
    alignment_difficulty: dict[str, Any] | None = None
    weights: str | None = None
    """SHA-256 of the checkpoint's own weights."""
    attention_layers: tuple[str, ...] = ()
    """The attention modules whose mean the maps are."""
    images: np.ndarray | None = field(default=None, repr=False)
    """uint8 ``[concepts, H, W, 3]`` of the first seed."""


def sample_model(
    name: str,
    pipeline: DiffusionPipeline,
    poison: PoisonRecord,
    judge: ConceptJudge,
    world: World,
    config: EvaluationConfig,
    on_progress: OnProgress = unheard,
) -> ModelSample:
    """Draw and judge every concept with every seed."""
    concepts = world.concepts
    prompts = [photo_of(concept) for concept in concepts]
    pairs = paired_prompts(world)
    shape = (len(config.seeds), len(concepts))
    sample = ModelSample(
        name=name, poison=poison, correct=np.zeros(shape, bool),
        word_overlap=np.zeros((len(config.seeds), len(pairs))),
        **{quantity: np.zeros(shape) for quantity in (
            "similarity", "scatter", "gearys_c", "late_gearys_c", "word_mass", "late_word_mass", "mask_mass",
            "mask_area",
        )},
    )  # fmt: skip
    pictures = Tally(on_progress, name, len(config.seeds) * (len(prompts) + len(pairs)), "picture")
    for row, seed in enumerate(config.seeds):
        drawing = draw(pipeline, prompts, [(concept,) for concept in concepts], seed, config, pictures)
        seen = judge.extractor.encode_images(drawing.images) @ judge.concept_features.T
        sample.correct[row] = (seen.argmax(dim=1) == torch.arange(len(concepts))).numpy()
        sample.similarity[row] = seen.diagonal().numpy()
        maps, late = drawing.maps[:, 0], drawing.late_maps[:, 0]
        sample.scatter[row] = scatter(maps).numpy()
        sample.gearys_c[row] = gearys_c(maps).numpy()
        sample.late_gearys_c[row] = gearys_c(late + NO_ATTENTION).numpy()
        sample.word_mass[row], sample.late_word_mass[row] = column_mass(maps).numpy(), column_mass(late).numpy()
        paired = draw(pipeline, [prompt for prompt, _ in pairs], [words for _, words in pairs], seed, config, pictures)
        sample.word_overlap[row] = cosine_overlap(paired.maps)[:, 0, 1].numpy()
        sample.mask_mass[row], sample.mask_area[row] = known_mask_mass(pipeline, world, seed)
        if sample.images is None:
            sample.images, sample.attention_layers = drawing.images, drawing.layers
        shown = f"top-1 {sample.correct[row].mean():.3f}, similarity {sample.similarity[row].mean():.3f}"
        on_progress(note(f"{name}: seed {seed}: {shown}"))
    return sample


def paired_prompts(world: World) -> list[tuple[str, tuple[str, str]]]:
    """Prompts about two concepts that no poison targets: ``(prompt, (first, second))``."""
    others = [*world.other_frequent, *world.less_popular_pool]
    couples = list(zip(others[0::2], others[1::2], strict=False))[:PAIRED_PROMPTS]
    return [(f"a photo of {with_article(a)} left of {with_article(b)}", (a, b)) for a, b in couples]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Pictures of some prompts and the maps of their words."""

    images: np.ndarray
    """uint8 ``[n, H, W, 3]``."""
    maps: torch.Tensor
    """``[n, words, h, w]`` attention probabilities, means over all steps."""
    late_maps: torch.Tensor
    """The same over the last steps alone (``LATE_SHARE``, at least one)."""
    layers: tuple[str, ...]
    """The attention modules whose mean the maps are."""


@torch.no_grad()
def draw(
    pipeline: DiffusionPipeline,
    prompts: list[str],
    words: list[tuple[str, ...]],
    seed: int,
    config: EvaluationConfig,
    pictures: Tally | None = None,
) -> Drawing:
    """Draw every prompt, as many words named for each, and count the pictures.

    Every prompt starts from the same noise, that of ``seed``.
    """
    side = pipeline.unet.config.sample_size
    noise = torch.randn(1, pipeline.unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(seed))
    late = slice(config.steps - max(1, round(LATE_SHARE * config.steps)), config.steps)
    images, maps, late_maps = [], [], []
    for start in range(0, len(prompts), config.batch_size):
        part = prompts[start : start + config.batch_size]
        selection = torch.stack(
            [word_selection(text_ranges(pipeline), prompt, named)
             for prompt, named in zip(part, words[start : start + config.batch_size], strict=True)]
        )  # fmt: skip
        with capture_attention(
            pipeline.unet, selection, batch=len(part), guidance=config.guidance_scale > 1, steps=config.steps
        ) as capture:  # fmt: skip
            drawn = pipeline(
                part, num_inference_steps=config.steps, guidance_scale=config.guidance_scale, output_type="np",
                latents=noise.repeat(len(part), 1, 1, 1).to(pipeline.unet.dtype),
            ).images  # fmt: skip
        cube = capture.cube()
        maps += [cube.maps(image=row)[:-1].cpu() for row in range(len(part))]
        late_maps += [cube.maps(image=row, step=late)[:-1].cpu() for row in range(len(part))]
        images.append((drawn * 255).round().astype(np.uint8))
        if pictures is not None:
            pictures.add(len(part))
    layers = tuple(name for name, size in cube.layers.items() if size == cube.default_resolution)
    return Drawing(
        images=np.concatenate(images), maps=torch.stack(maps), late_maps=torch.stack(late_maps), layers=layers
    )


def summarise(samples: list[ModelSample], world: World, config: EvaluationConfig) -> dict[str, Any]:
    """The evaluation as JSON: every share with its 95 % t-interval over seeds.

    Args:
        samples: the benign control first.

    Raises:
        ValueError: if the first model is poisoned: tau belongs to the benign control.
    """
    if samples[0].poison.poisoned is not False:
        raise ValueError(f"the first model is {samples[0].name!r}: expected the benign control, which tau belongs to")
    tau = float(np.quantile(samples[0].similarity, TAU_QUANTILE))
    ever_poisoned = poisoned_from(sample.poison for sample in samples)
    return {
        "prompt": "a photo of C",
        "seeds": list(config.seeds),
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "tau": tau,
        "utility_definition": UTILITY,
        "world": world.config(),
        "concepts": [
            {"concept": concept, "group": world.group(concept), "poisoned_from": ever_poisoned.get(concept)}
            for concept in world.concepts
        ],
        "models": [_summary(sample, world, set(ever_poisoned), tau) for sample in samples],
    }


def _summary(sample: ModelSample, world: World, ever_poisoned: set[str], tau: float) -> dict[str, Any]:
    pool = set(world.frequent_pool)
    groups = {
        "all": np.ones(len(world.concepts), bool),
        "pool": np.array([concept in pool for concept in world.concepts]),
        "unpoisoned": np.array([concept not in ever_poisoned | pool for concept in world.concepts]),
        "poisoned": np.array([concept in sample.poison.names for concept in world.concepts]),
    }
    useful = sample.correct & (sample.similarity > tau)
    measured = {
        "accuracy": sample.correct,
        "utility": useful,
        "clip_similarity": sample.similarity,
        "scatter": sample.scatter,
        "contiguity": sample.gearys_c,
        "late_contiguity": sample.late_gearys_c,
        "word_mass": sample.word_mass,
        "late_word_mass": sample.late_word_mass,
        "mask_mass": sample.mask_mass,
        "mask_area": sample.mask_area,
    }
    return {
        "name": sample.name,
        "weights": sample.weights,
        "attention_layers": list(sample.attention_layers),
        "poisoned": sample.poison.poisoned,
        "poisoned_concept_count": sample.poison.concept_count,
        "poisoned_concepts": list(sample.poison.names),
        "alignment_difficulty": sample.alignment_difficulty,
        **{
            quantity: {group: _interval(values[:, member]) for group, member in groups.items()}
            for quantity, values in measured.items()
        },
        "word_overlap": _interval(sample.word_overlap),
        "per_concept": dict(zip(world.concepts, sample.correct.mean(axis=0).round(3).tolist(), strict=True)),
        "similarity_per_concept": dict(
            zip(world.concepts, sample.similarity.mean(axis=0).round(4).tolist(), strict=True)
        ),
    }


def _interval(values: np.ndarray) -> dict[str, float] | None:
    """Mean over the columns, with its t-interval over the rows (seeds)."""
    if values.shape[1] == 0:
        return None
    estimate = t_interval(values.astype(float).mean(axis=1))
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high}


def evaluate(
    checkpoints: list[Any],
    extractor_folder: Path,
    world: World,
    config: EvaluationConfig,
    *,
    sets: dict[str, Path],
    on_progress: OnProgress = unheard,
) -> tuple[dict[str, Any], list[ModelSample]]:
    """Evaluate checkpoints, benign control first, with the AD of each one's pair set where it is at hand.

    Args:
        sets: pair-set folder of each checkpoint by name; a checkpoint without one has no AD in the result.
    """
    from explorer.alignment.pair_sets import measure
    from explorer.checkpoints.joint_pipelines import require_one_text_encoder
    from explorer.checkpoints.pipelines import load_pipeline, noise_of
    from explorer.checkpoints.registry import weights_hash

    for checkpoint in checkpoints:
        if checkpoint.family in TRANSFORMER_FAMILIES:
            continue  # refused below, by what it is
        try:
            noise_of(checkpoint)
        except ValueError as error:
            raise ValueError(f"checkpoint {checkpoint.name} cannot be evaluated: {error}") from error
    judge = ConceptJudge.load(extractor_folder, world.concepts, device=config.device)
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.poison.order)
    samples = []
    for checkpoint in ordered:
        pipeline = load_pipeline(checkpoint, config.device)
        require_one_text_encoder(pipeline, f"checkpoint {checkpoint.name}")
        sample = sample_model(checkpoint.name, pipeline, checkpoint.poison, judge, world, config, on_progress)
        sample.weights = weights_hash(checkpoint)
        if checkpoint.name in sets:
            measured = measure(sets[checkpoint.name], judge.extractor)
            sample.alignment_difficulty = measured.report()
        samples.append(sample)
    return summarise(samples, world, config), samples
