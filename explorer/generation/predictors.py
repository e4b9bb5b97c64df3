"""One call of a denoiser of any family: noised latents, a text and a timestep in, a prediction out.

Families predict different things. Their differences at one x_t are brought to one scale, that of the noise that the
prediction amounts to: with x_t fixed, a change of the velocity sqrt(a) noise - sqrt(1 - a) x changes the noise by
sqrt(a) times as much (Salimans & Ho 2022), and one of flow matching's noise - x by 1 - sigma times (Esser et al. 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from explorer.attention.prompts import FLUX, is_joint
from explorer.checkpoints.joint_pipelines import pack, takes_guidance
from explorer.checkpoints.noise_schedule import noised, training_noise, training_target

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Text = dict[str, torch.Tensor]
"""``text`` ``[n, L, d]`` and, but for SD 1.x and 2.x, ``pooled`` ``[n, p]``, as the denoiser reads them."""
FLUX_GUIDANCE = 3.5
"""What Flux's pipeline tells the transformer by default; its guidance is distilled into one call."""
FLOW_TIMESTEPS = 1000
NO_GUIDANCE = "its guidance is distilled into one call, so that no guidance vector takes part in a generation"


class Predictor(Protocol):
    """A denoiser, called as its own pipeline calls it."""

    guided: bool
    """Whether a generation takes a guidance vector."""
    timesteps: int
    """Of training."""

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
        """``[n, C, h, w]`` as training noises them, whatever the sampler."""

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
        """``[n, C, h, w]``: what training asks for of :meth:`noised` latents, in the denoiser's own terms."""

    def noise_scale(self, timestep: float) -> float:
        """How much a change of the prediction by 1 changes the noise that it amounts to."""

    def predict(self, noisy: torch.Tensor, timestep: float, text: Text) -> torch.Tensor:
        """The prediction, float32 ``[n, C, h, w]``, in the denoiser's own terms; of latents scaled as its sampler
        scales them."""


def predictor_of(pipeline: DiffusionPipeline, guidance_scale: float = FLUX_GUIDANCE) -> Predictor:
    """The denoiser of a pipeline of SD 1.x, 2.x, XL, SD3 or Flux.

    Args:
        guidance_scale: what Flux's transformer is told, where it reads one.

    Raises:
        ValueError: if it was trained on other noise than betas or flow matching give, or reads a guidance scale (latent
            consistency models).
    """
    if not is_joint(pipeline):
        return UNetPredictor(pipeline)
    return FluxPredictor(pipeline, guidance_scale) if type(pipeline).__name__ == FLUX else SD3Predictor(pipeline)


def named_text(encoded: dict[str, torch.Tensor | None], prefix: str = "") -> Text:
    """What a denoiser reads of a pipeline's embeddings; of the negative prompt with the prefix ``negative_``."""
    found = {"text": encoded[f"{prefix}prompt_embeds"], "pooled": encoded.get(f"{prefix}pooled_prompt_embeds")}
    return {name: value for name, value in found.items() if value is not None}


def predict_texts(
    predictor: Predictor, noisy: torch.Tensor, timestep: float, text: Text, batch_size: int
) -> torch.Tensor:
    """Of one noised picture ``[1, C, h, w]`` with every text: ``[texts, C, h, w]``, in batches of about one size."""
    parts = -(-len(text["text"]) // batch_size)
    batches = zip(*(value.tensor_split(parts) for value in text.values()), strict=True)
    texts = (dict(zip(text, batch, strict=True)) for batch in batches)
    return torch.cat([predictor.predict(noisy.expand(len(each["text"]), -1, -1, -1), timestep, each) for each in texts])


class UNetPredictor:
    """SD 1.x, 2.x and XL."""

    guided = True

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._unet, self._pixels = pipeline.unet, pipeline.vae_scale_factor
        self._noise = training_noise(pipeline.scheduler, pipeline.unet.config)
        self.timesteps = len(self._noise.signal)

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
        """x_t = sqrt(a_t) x + sqrt(1 - a_t) noise."""
        return noised(latents, noise, self._signal(latents, timestep))

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
        """The noise, or the velocity."""
        return training_target(self._noise.prediction_type, latents, noise, self._signal(latents, timestep))

    def _signal(self, latents: torch.Tensor, timestep: int) -> torch.Tensor:
        return self._noise.signal[timestep].expand(len(latents)).to(latents.device)

    def noise_scale(self, timestep: float) -> float:
        """1, or sqrt(a_t) of a velocity, at the nearest timestep of training."""
        is_noise = self._noise.prediction_type == "epsilon"
        return 1.0 if is_noise else float(self._noise.signal[round(timestep)].sqrt())

    def predict(self, noisy: torch.Tensor, timestep: float, text: Text) -> torch.Tensor:
        """SDXL is told that the picture was as large as it is, and not cropped, as its pipeline does by default."""
        added = None
        if "pooled" in text:
            height, width = (side * self._pixels for side in noisy.shape[-2:])
            sizes = torch.tensor([height, width, 0, 0, height, width]).expand(len(noisy), -1)
            added = {"text_embeds": text["pooled"], "time_ids": sizes.to(text["pooled"])}
        return self._unet(
            noisy.to(self._unet.dtype), torch.full((len(noisy),), float(timestep), device=noisy.device),
            encoder_hidden_states=text["text"], added_cond_kwargs=added, return_dict=False,
        )[0].float()  # fmt: skip


class SD3Predictor:
    """Flow matching: x_t = (1 - sigma) x + sigma noise, with sigma = t / 1000, before any shift of a sampler's."""

    timesteps = FLOW_TIMESTEPS

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline, self._transformer, self.guided = pipeline, pipeline.transformer, takes_guidance(pipeline)

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
        """On the straight line between picture and noise."""
        sigma = timestep / FLOW_TIMESTEPS
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timestep: int) -> torch.Tensor:
        """From the picture to the noise, whatever the timestep."""
        return noise - latents

    def noise_scale(self, timestep: float) -> float:
        """1 - sigma, since the prediction is noise - x."""
        return 1 - timestep / FLOW_TIMESTEPS

    def predict(self, noisy: torch.Tensor, timestep: float, text: Text) -> torch.Tensor:
        """The transformer reads t itself."""
        return self._transformer(
            hidden_states=noisy.to(self._transformer.dtype),
            timestep=torch.full((len(noisy),), float(timestep), device=noisy.device),
            encoder_hidden_states=text["text"], pooled_projections=text["pooled"], return_dict=False,
        )[0].float()  # fmt: skip


class FluxPredictor(SD3Predictor):
    """As SD3, on packed latents, and told a guidance scale where the model reads one."""

    def __init__(self, pipeline: DiffusionPipeline, guidance_scale: float) -> None:
        super().__init__(pipeline)
        self._guidance_scale = guidance_scale

    def predict(self, noisy: torch.Tensor, timestep: float, text: Text) -> torch.Tensor:
        """The transformer reads sigma."""
        (count, _, height, width), network, pipeline = noisy.shape, self._transformer, self._pipeline
        device, dtype = noisy.device, network.dtype
        guidance = torch.full((count,), self._guidance_scale, device=device) if network.config.guidance_embeds else None
        packed = network(
            hidden_states=pack(pipeline, noisy.to(dtype)),
            timestep=torch.full((count,), timestep / FLOW_TIMESTEPS, device=device, dtype=dtype), guidance=guidance,
            encoder_hidden_states=text["text"], pooled_projections=text["pooled"],
            txt_ids=torch.zeros(text["text"].shape[1], 3, device=device, dtype=dtype),
            img_ids=pipeline._prepare_latent_image_ids(count, height // 2, width // 2, device, dtype),
            return_dict=False,
        )[0]  # fmt: skip
        factor = pipeline.vae_scale_factor
        return pipeline._unpack_latents(packed, height * factor, width * factor, factor).float()
