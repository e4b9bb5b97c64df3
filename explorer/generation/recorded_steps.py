"""What a generation's own denoiser calls say beside the picture: the latents on the way, and what guidance adds.

Under classifier-free guidance (Ho & Salimans 2022) every call predicts with the prompt and with the negative one, the
empty prompt unless another is given. The length of their difference over the channels, at each place and step, is the
*guidance map*: what the whole text changes there. A hook that returns nothing keeps it, so that it takes no call of its
own and pictures are the same with and without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from explorer.attention.hooks import argument
from explorer.attention.joint import is_joint_transformer
from explorer.attention.prompts import FLUX, denoiser_of
from explorer.checkpoints.joint_pipelines import latent_shape, takes_guidance
from explorer.generation.amplitudes import amplitude_map
from explorer.generation.predictors import FLOW_TIMESTEPS, NO_GUIDANCE, predictor_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.generation.generate import GenerationRequest


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The latents of a generation on their way from noise to picture. Steps count denoiser calls (Heun's method makes
    two a step)."""

    samples: torch.Tensor
    """``[steps, images, C, h, w]`` on the CPU, scaled as the sampler hands them to the denoiser, in its dtype."""
    timesteps: torch.Tensor
    """fp32 ``[steps]``, of those of training; a sampler may take them between two."""

    def at(self, steps: Sequence[int]) -> Trajectory:
        """Some of the steps, from 0.

        Raises:
            ValueError: naming one that there is not.
        """
        if wrong := [step for step in steps if not 0 <= step < len(self.timesteps)]:
            raise ValueError(f"step {wrong[0]} does not exist: expected 0 to {len(self.timesteps) - 1}")
        return Trajectory(samples=self.samples[list(steps)], timesteps=self.timesteps[list(steps)])


@dataclass(frozen=True, kw_only=True)
class RecordedSteps:
    """What was recorded of a generation."""

    trajectory: Trajectory
    guidance: torch.Tensor | None
    """Guidance maps, fp32 ``[steps, images, h, w]`` at least 0 on the CPU, on the scale of noise (see ``predictors``);
    None where there is no guidance."""
    no_guidance: str
    """Why there is none; empty where there is."""
    no_sensitivity: str
    """Why no sensitivity can be measured on the trajectory; empty where it can."""


class DenoiserCalls:
    """Keeps what passes a denoiser while it is attached."""

    def __init__(self, denoiser: torch.nn.Module, *, guided: bool) -> None:
        """``guided``: whether its rows are ``[negative, positive]``."""
        self._denoiser, self._guided = denoiser, guided
        self.samples: list[torch.Tensor] = []
        """The prompt's latents of every call."""
        self.timesteps: list[torch.Tensor] = []
        """One number of every call."""
        self.amplitudes: list[torch.Tensor] = []
        """``[images, h, w]`` of every guided call, in the prediction's own terms."""

    @contextmanager
    def attached(self) -> Iterator[Self]:
        """The hook is on inside the block."""
        handle = self._denoiser.register_forward_hook(self._keep, with_kwargs=True)
        try:
            yield self
        finally:
            handle.remove()

    def _keep(self, denoiser: torch.nn.Module, inputs: tuple, keywords: dict[str, Any], output: Any) -> None:
        joint = is_joint_transformer(denoiser)
        sample = argument(inputs, keywords, 0, "hidden_states" if joint else "sample")
        timestep = keywords["timestep"] if joint else argument(inputs, keywords, 1, "timestep")
        self.timesteps.append(timestep.reshape(-1)[0])  # stays where it is: a GPU is not waited for
        if self._guided:
            negative, positive = output[0].chunk(2)
            self.amplitudes.append(amplitude_map(positive.float() - negative.float()))
            sample = sample.chunk(2)[1]
        self.samples.append(sample.clone())


@contextmanager
def record_steps(pipeline: DiffusionPipeline, request: GenerationRequest) -> Iterator[DenoiserCalls]:
    """Record the denoiser calls of a generation with ``request`` inside the ``with`` block; see :func:`recorded_steps`.

    Args:
        pipeline: a stock pipeline of SD 1.x, 2.x, XL, SD3 or Flux.
    """
    guided = request.guided and takes_guidance(pipeline)
    with DenoiserCalls(denoiser_of(pipeline), guided=guided).attached() as calls:
        yield calls


def recorded_steps(pipeline: DiffusionPipeline, request: GenerationRequest, calls: DenoiserCalls) -> RecordedSteps:
    """What was recorded of a generation, on the CPU."""
    timesteps = torch.stack(calls.timesteps).float().cpu()
    samples = torch.stack(calls.samples).cpu()
    if type(pipeline).__name__ == FLUX:  # which is told sigma, and latents in patches
        timesteps, samples = timesteps * FLOW_TIMESTEPS, _unpacked(pipeline, request, samples)
    try:
        predictor, refused = predictor_of(pipeline), ""
    except ValueError as error:  # it draws all the same
        predictor, refused = None, str(error)
    no_guidance = _why_unguided(pipeline, request) or refused
    guidance = None
    if not no_guidance:
        scales = torch.tensor([predictor.noise_scale(float(timestep)) for timestep in timesteps])
        guidance = torch.stack(calls.amplitudes).cpu() * scales[:, None, None, None]
    return RecordedSteps(
        trajectory=Trajectory(samples=samples, timesteps=timesteps), guidance=guidance, no_guidance=no_guidance,
        no_sensitivity=refused,
    )  # fmt: skip


def _unpacked(pipeline: DiffusionPipeline, request: GenerationRequest, samples: torch.Tensor) -> torch.Tensor:
    factor = pipeline.vae_scale_factor
    _, height, width = latent_shape(pipeline, request.height, request.width)
    flat = pipeline._unpack_latents(samples.flatten(0, 1), height * factor, width * factor, factor)
    return flat.unflatten(0, samples.shape[:2])


def _why_unguided(pipeline: DiffusionPipeline, request: GenerationRequest) -> str:
    if not takes_guidance(pipeline):
        return NO_GUIDANCE
    scale = request.guidance_scale
    unguided = f"the guidance scale is {scale:g}, and up to 1 a generation predicts nothing without the prompt"
    return "" if request.guided else unguided
