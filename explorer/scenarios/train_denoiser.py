"""Train IconWorld's U-Net, from scratch or from a base; both encoders are fixed, and read every pair once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.pairs.pair_set import PairSet
from explorer.training.config import TrainingConfig
from explorer.training.encoded_pairs import encode_pair_set
from explorer.training.fine_tune import train_unet
from explorer.training.recipes import FineTuningRecipe

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """The fixed parts of a Stable Diffusion pipeline."""

    autoencoder: Any
    """AutoencoderKL with its scaling factor set."""
    text_encoder: Any
    """CLIPTextModel."""
    tokenizer: Any
    """CLIPTokenizer."""

    def pipeline(self, unet: Any, scheduler: Any) -> StableDiffusionPipeline:
        """The whole pipeline, which holds these very parts."""
        from diffusers import StableDiffusionPipeline

        return StableDiffusionPipeline(
            vae=self.autoencoder, text_encoder=self.text_encoder, tokenizer=self.tokenizer, unet=unet,
            scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip


def train_denoiser(
    unet: Any,
    scheduler: Any,
    pairs: PairSet,
    encoders: Encoders,
    config: TrainingConfig,
    folder: Path,
    *,
    start: str,
    cache: Path | None = None,
    device: str = "cpu",
    **options: Any,
) -> Any:
    """Train ``unet`` on ``pairs`` and return it with its averaged weights.

    Args:
        start: names the initial weights (``seed 0``, or the base's hash); part of the run's identity.
        cache: folder of encoded pairs, which runs may share; ``encoded`` in ``folder`` by default.
        options: ``track``, ``on_progress`` and ``should_stop`` of :func:`~explorer.training.trainer.train`.

    Raises:
        ValueError: if a caption is longer than the text encoder's context, or as
            :func:`~explorer.training.trainer.train`.
    """
    recipe = FineTuningRecipe(
        name="iconworld", family="sd1", resolution=pairs.images.shape[1],
        prediction_type=scheduler.config.prediction_type, training=config, weighting="min-snr",
    )  # fmt: skip
    encoded = encode_pair_set(
        encoders.pipeline(unet, scheduler), pairs, recipe.resolution, cache or folder / "encoded", device=device
    )
    if encoded.conditioning.truncated:
        limit = encoders.tokenizer.model_max_length
        raise ValueError(f"{encoded.conditioning.truncated} captions are too long: expected at most {limit} tokens")
    return train_unet(unet, scheduler, encoded, recipe, folder, start=start, device=device, **options)
