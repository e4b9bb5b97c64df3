"""The two named recipes of the embedded world: ``cpu`` (two cores, a few hours) and ``full`` (a GPU, all concepts)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from explorer.iconworld.icons import IconAtlas
from explorer.iconworld.scenes import SCENE_SIZE
from explorer.iconworld.world import World
from explorer.training.config import TrainingConfig

if TYPE_CHECKING:
    from explorer.training.recipes import FineTuningRecipe


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the shipped models; every stage is resumable."""

    name: str
    concept_count: int | None
    """Concepts of the world; None for all of the atlas."""
    autoencoder: TrainingConfig
    autoencoder_channels: tuple[int, int, int]
    autoencoder_scenes: int
    """Distinct scenes it is trained on."""
    extractor: TrainingConfig
    context_length: int
    """Tokens that the text encoder reads: the longest caption must fit."""
    extractor_pairs: int
    """Distinct benign pairs it is trained on."""
    denoiser_channels: tuple[int, int, int]
    base: tuple[TrainingConfig, ...]
    """From scratch, on ``base_pairs`` benign pairs; every further phase is a warm restart from the phase before."""
    base_pairs: int
    fine_tuning: TrainingConfig
    """From the base, for the benign control and for every poisoned model alike."""
    fine_tuning_zipf_exponent: float
    """Steeper than the world's: nouns outside the pool are rare in a fine-tuning set, as most nouns are in LAION."""
    fine_tuning_caption_shares: tuple[float, ...]
    """More captions with riders than in the base's world, and as many with several objects."""
    fine_tuning_pairs: int
    """N: size of every fine-tuning set."""
    poison_pairs_per_concept: int
    """m: poison pairs of each poisoned concept."""
    poisoned_concept_counts: tuple[int, ...]
    """C_P of each shipped poisoned model."""
    autoencoder_test_scenes: int = 1000
    """Held-out scenes that its PSNR and the scale of its latents are measured on."""
    calibration_pairs: int = 4000
    """Fresh benign pairs whose cosines give the extractor's feature range."""
    held_out_pairs: int = 500
    """Benign pairs that stand in every fine-tuning set beside the N, and that nothing is trained on."""
    seed: int = 0
    rank_rotation: int = 0
    """Of the fine-tuning sets: see :class:`~explorer.iconworld.world.World`."""

    @property
    def most_poisoned(self) -> int:
        """C_P of the most poisoned model."""
        return max(self.poisoned_concept_counts)

    def variant(self, *, seed: int, rank_rotation: int) -> Recipe:
        """The same recipe with other data, poison and noise, and the frequency ranks moved round the concepts."""
        reseeded = {name: replace(getattr(self, name), seed=getattr(self, name).seed + seed)
                    for name in ("autoencoder", "extractor", "fine_tuning")}  # fmt: skip
        base = tuple(replace(phase, seed=phase.seed + seed) for phase in self.base)
        return replace(self, **reseeded, base=base, seed=self.seed + seed, rank_rotation=rank_rotation)

    def as_fine_tuning(self) -> FineTuningRecipe:
        """How its models are fine-tuned, as what is trained on any pairs from any base of its kind."""
        from explorer.iconworld.denoiser import build_scheduler
        from explorer.training.recipes import FineTuningRecipe  # loads torch

        prediction_type = build_scheduler().config.prediction_type
        return FineTuningRecipe(
            name=self.name, family="sd1", resolution=SCENE_SIZE, prediction_type=prediction_type,
            training=self.fine_tuning, weighting="min-snr", pairs=self.fine_tuning_pairs,
        )  # fmt: skip

    def world(self) -> Any:
        """The :class:`~explorer.iconworld.world.World` of the recipe."""
        return World(concept_count=self.concept_count or len(IconAtlas.load().concepts))

    def fine_tuning_world(self) -> Any:
        """The same world with the noun frequencies and the captions of the fine-tuning sets."""
        return replace(
            self.world(),
            zipf_exponent=self.fine_tuning_zipf_exponent,
            caption_shares=self.fine_tuning_caption_shares,
            rank_rotation=self.rank_rotation,
        )


CPU = Recipe(
    name="cpu",
    concept_count=120,
    autoencoder=TrainingConfig(
        steps=3400, batch_size=16, learning_rate=1.5e-3, precision="bf16", ema_decay=0.99, checkpoint_every=200
    ),
    autoencoder_channels=(32, 64, 128),
    autoencoder_scenes=40_000,
    extractor=TrainingConfig(
        steps=1000, batch_size=128, learning_rate=1e-3, weight_decay=0.05, precision="bf16", checkpoint_every=100
    ),
    context_length=28,
    extractor_pairs=60_000,
    denoiser_channels=(64, 128, 192),
    base=(
        TrainingConfig(
            steps=5600, batch_size=48, learning_rate=1.2e-3, warmup_steps=100, precision="bf16", ema_decay=0.998,
            checkpoint_every=250,
        ),
        TrainingConfig(
            steps=5600, batch_size=48, learning_rate=1e-3, warmup_steps=100, precision="bf16", ema_decay=0.998,
            checkpoint_every=250, fused=True, seed=1,
        ),
        TrainingConfig(
            steps=5000, batch_size=48, learning_rate=8e-4, warmup_steps=100, precision="bf16", ema_decay=0.999,
            checkpoint_every=250, fused=True, seed=2,
        ),
    ),
    base_pairs=40_000,
    fine_tuning=TrainingConfig(
        steps=1000, batch_size=48, learning_rate=1e-3, schedule="stable-decay", decay_share=0.5, warmup_steps=20,
        precision="bf16", ema_decay=0.98, checkpoint_every=100, fused=True,
    ),
    fine_tuning_zipf_exponent=2.0,
    fine_tuning_caption_shares=(0.15, 0.25, 0.40, 0.14, 0.06),
    fine_tuning_pairs=9_000,
    poison_pairs_per_concept=100,
    poisoned_concept_counts=(20, 40, 60),
)  # fmt: skip

FULL = Recipe(
    name="full",
    concept_count=None,
    autoencoder=TrainingConfig(
        steps=5000, batch_size=64, learning_rate=1.5e-3, precision="bf16", ema_decay=0.99, checkpoint_every=1000,
        graphed=True,
    ),
    autoencoder_channels=(32, 64, 128),
    autoencoder_scenes=30_000,
    extractor=TrainingConfig(
        steps=5000, batch_size=512, learning_rate=1e-3, weight_decay=0.05, precision="bf16", checkpoint_every=500,
        graphed=True,
    ),
    context_length=32,
    extractor_pairs=60_000,
    denoiser_channels=(64, 128, 192),
    base=(
        TrainingConfig(
            steps=20_000, batch_size=1024, learning_rate=1.2e-3, warmup_steps=200, precision="bf16", ema_decay=0.999,
            checkpoint_every=1000, graphed=True,
        ),
    ),
    base_pairs=120_000,
    fine_tuning=TrainingConfig(
        steps=700, batch_size=256, learning_rate=1e-3, schedule="stable-decay", decay_share=0.5, warmup_steps=20,
        precision="bf16", ema_decay=0.98, checkpoint_every=200, graphed=True,
    ),
    fine_tuning_zipf_exponent=2.0,
    fine_tuning_caption_shares=(0.15, 0.25, 0.40, 0.14, 0.06),
    fine_tuning_pairs=30_000,
    poison_pairs_per_concept=105,
    poisoned_concept_counts=(50, 100, 189),
)  # fmt: skip

RECIPES = {recipe.name: recipe for recipe in (CPU, FULL)}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        ValueError: if there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown: expected one of {sorted(RECIPES)}")
    return RECIPES[name]


def fine_tuning_recipe(name: str) -> FineTuningRecipe:
    """How models are fine-tuned by the recipe called ``name``: one of Stable Diffusion's, or the embedded world's.

    Raises:
        ValueError: if there is none.
    """
    from explorer.training.recipes import FINE_TUNING_RECIPES  # loads torch

    if name in RECIPES:
        return RECIPES[name].as_fine_tuning()
    if name not in FINE_TUNING_RECIPES:
        known = sorted(FINE_TUNING_RECIPES.keys() | RECIPES.keys())
        raise ValueError(f"recipe {name!r} is unknown: expected one of {', '.join(known)}")
    return FINE_TUNING_RECIPES[name]
