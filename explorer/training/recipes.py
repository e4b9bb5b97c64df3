"""Fine-tuning Stable Diffusion as in Ding et al. (CCS 2024), section 5.1: named recipes, and the memory each needs.

The paper says: SD 1.5, SD 2.1 and SDXL, each fine-tuned on 50K pairs, autoencoder and text encoder fixed, learning
rate 4e-5, "the released training method for Stable Diffusion" with the hyper-parameters of Rombach et al. (2022). It
does not say how many steps, which batch size, precision, or whether weights were averaged: these are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from explorer.checkpoints.architectures import UNET_CONFIGS, count_parameters
from explorer.checkpoints.families import Family
from explorer.checkpoints.module_groups import ALL, chosen_tensors
from explorer.training.config import TrainingConfig
from explorer.training.loss import check_weighting
from explorer.training.timesteps import check_distribution

PAPER_PAIRS = 50_000
PAPER_LEARNING_RATE = 4e-5
GIBIBYTE = 2**30
LATENT_CHANNELS = 4
AUTOENCODER_FACTOR = 8
TOKENS = 77
TIME_IDS = 6
CHOICES = ("trained_group", "frozen_group", "from_scratch", "timesteps")


@dataclass(frozen=True, kw_only=True)
class FineTuningRecipe:
    """Everything that decides a fine-tuned U-Net but the base and the pairs."""

    name: str
    family: Family
    """The family it was written for; a base of another one is refused."""
    resolution: int
    """Side of the square training pictures, in pixels."""
    prediction_type: str
    """``epsilon`` or ``v_prediction``, as the family's released scheduler says; training goes by the base's own."""
    training: TrainingConfig
    """Learning rate: the paper's. Steps, batch size, precision, averaging, checkpointing: ours."""
    caption_dropout: float = 0.1
    """Share of samples trained on the empty caption for classifier-free guidance; 10 % in the released SD training."""
    weighting: str = "uniform"
    """Of the timesteps, see :func:`~explorer.training.loss.loss_weight`."""
    timesteps: str = "uniform"
    """How they are drawn, see :func:`~explorer.training.timesteps.drawn_timesteps`."""
    trained_group: str = ALL
    """Group of the U-Net's modules that is trained, such as cross-attention; the others stay as they are."""
    frozen_group: str | None = None
    """Group of the U-Net's modules that stays as it is; None for none."""
    from_scratch: bool = False
    """Start from random weights, which hang on the training's seed, in place of the base's U-Net; autoencoder and text
    encoders stay (Ding et al. 2024, Table 4)."""
    pairs: int = PAPER_PAIRS
    """N of the paper; a set of another size is trained on as it is."""

    def __post_init__(self) -> None:
        if self.resolution < AUTOENCODER_FACTOR or self.resolution % AUTOENCODER_FACTOR:
            raise ValueError(f"resolution is {self.resolution}: expected a positive multiple of {AUTOENCODER_FACTOR}")
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}: expected 0 <= share < 1")
        check_weighting(self.weighting)
        check_distribution(self.timesteps)

    @property
    def choices(self) -> dict[str, Any]:
        """Those of ``CHOICES`` that are not their defaults: which groups are trained or stay, whether from scratch, how
        timesteps are drawn. Empty as of before there was a choice."""
        defaults = {each.name: each.default for each in fields(self)}
        chosen = {name: getattr(self, name) for name in CHOICES}
        return {name: value for name, value in chosen.items() if value != defaults[name]}

    def trained_tensors(self, names: Iterable[str], config: Mapping[str, Any]) -> set[str]:
        """Names of the U-Net's tensors that are trained.

        Args:
            names: of all of them.
            config: its ``config.json``.

        Raises:
            ValueError: as :func:`~explorer.checkpoints.module_groups.chosen_tensors`, or if none is left.
        """
        names = list(names)
        found = set(chosen_tensors(names, config, self.trained_group))
        if self.frozen_group is not None:
            found -= set(chosen_tensors(names, config, self.frozen_group))
        if not found:
            raise ValueError(
                f"{self.trained_group} is trained but for {self.frozen_group}: expected some of it to be left"
            )
        return found


def _training(**settings: Any) -> TrainingConfig:
    """Eight passes over 50K pairs in batches of 64, a constant rate as in the released training."""
    shared = {
        "steps": 6250, "batch_size": 64, "learning_rate": PAPER_LEARNING_RATE, "schedule": "constant",
        "warmup_steps": 100, "betas": (0.9, 0.999), "precision": "bf16", "checkpoint_every": 500, "log_every": 50,
    }  # fmt: skip
    return TrainingConfig(**(shared | settings))


SD15 = FineTuningRecipe(
    name="sd15", family="sd1", resolution=512, prediction_type="epsilon",
    training=_training(ema_decay=0.999, accumulation=2),
)  # fmt: skip
SD21 = FineTuningRecipe(
    name="sd21", family="sd2", resolution=768, prediction_type="v_prediction",
    training=_training(ema_decay=0.999, accumulation=4, gradient_checkpointing=True),
)  # fmt: skip
# No average: 2.6 G parameters would take 9.6 GiB more.
SDXL = FineTuningRecipe(
    name="sdxl", family="sdxl", resolution=1024, prediction_type="epsilon",
    training=_training(accumulation=8, gradient_checkpointing=True),
)  # fmt: skip

FINE_TUNING_RECIPES = {recipe.name: recipe for recipe in (SD15, SD21, SDXL)}


def as_recorded(recipe: FineTuningRecipe, config: dict[str, Any]) -> FineTuningRecipe:
    """``recipe`` with the settings that a fine-tuned checkpoint's manifest records under ``config``.

    Raises:
        ValueError: if it records no training, or settings that are none.
    """
    phases = config.get("training")
    if not (isinstance(phases, list) and phases and isinstance(phases[-1], dict)):
        raise ValueError(f"the manifest records the training {phases!r}: expected a list of settings")
    known = {each.name for each in fields(TrainingConfig)}
    settings = {name: value for name, value in phases[-1].items() if name in known}
    own = {name: config[name] for name in ("resolution", "caption_dropout", "weighting", *CHOICES) if name in config}
    try:
        training = TrainingConfig(**settings | {"betas": tuple(settings["betas"])})
        return replace(recipe, training=training, **own)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the manifest records a training without, or with another, {error}") from error


def override(recipe: FineTuningRecipe, **changes: Any) -> FineTuningRecipe:
    """``recipe`` with other settings where a value is not None; fields of the training by their own names."""
    given = {name: value for name, value in changes.items() if value is not None}
    own = {name: given.pop(name) for name in ("resolution", "caption_dropout", "weighting", *CHOICES) if name in given}
    return replace(recipe, training=replace(recipe.training, **given), **own)


def expected_gpu_memory(
    recipe: FineTuningRecipe, unet_config: dict[str, Any] | None = None, *, processes: int = 1
) -> dict[str, int]:
    """Bytes that training needs on each GPU before any activation; for a U-Net of P parameters:

    weights 4 P (fp32), gradients 4 P, AdamW's two moments 8 P, moving average 4 P where one is kept, autocast's
    half-precision copies of the weights 2 P, the buckets in which several processes exchange gradients 4 P, and the
    micro-batch as it is sent: latents and text fp16, noise fp32. Activations are NOT in it: they depend on kernels and
    resolution and were not measured here.

    Args:
        unet_config: architecture; None for the released one of the recipe's family.
        processes: how many share a step.

    Returns:
        ``parameters``, the parts, their sum ``gpu_without_activations``, and three figures on disk if every picture and
        caption is another: ``disk_cache``, the encoded ``pairs``; ``disk_pairs``, their pictures as a pair set, where a
        source is imported; and ``disk_import_peak``, twice that, which the import takes until it is done.
    """
    config = UNET_CONFIGS[recipe.name] if unet_config is None else unet_config
    parameters, training = count_parameters(config), recipe.training
    side = recipe.resolution // AUTOENCODER_FACTOR
    latent = LATENT_CHANNELS * side * side
    text = TOKENS * config["cross_attention_dim"] + (_pooled_width(config) if recipe.family == "sdxl" else 0)
    pictures = recipe.pairs * 3 * recipe.resolution**2
    micro_batch = training.batch_size // (processes * training.accumulation)
    parts = {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "optimizer": 8 * parameters,
        "moving_average": 4 * parameters if training.ema_decay else 0,
        "half_precision_copies": 0 if training.precision == "no" else 2 * parameters,
        "gradient_buckets": 4 * parameters if processes > 1 else 0,
        "micro_batch": micro_batch * (2 * latent + 4 * latent + 2 * text),
    }
    return {
        "parameters": parameters,
        **parts,
        "gpu_without_activations": sum(parts.values()),
        "disk_cache": recipe.pairs * 2 * (latent + text),
        "disk_pairs": pictures,
        # import_pairs learns how many pairs are usable at its end, and copies their pixels then.
        "disk_import_peak": 2 * pictures,
    }


def _pooled_width(unet_config: dict[str, Any]) -> int:
    """Width of SDXL's pooled text: what its added embedding takes besides the six time ids."""
    return unet_config["projection_class_embeddings_input_dim"] - TIME_IDS * unet_config["addition_time_embed_dim"]
