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
from typing import TYPE_CHECKING, Any

import torch

from explorer.attention.hooks import argument
from explorer.attention.prompts import FLUX, denoiser_of, is_joint
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


class StepRecorder:
    """Keeps what passes the denoiser of a pipeline while it is attached; see :func:`record_steps`."""

    def __init__(self, pipeline: DiffusionPipeline, request: GenerationRequest) -> None:
        self._pipeline, self._request = pipeline, request
        self._guided = request.guided and takes_guidance(pipeline)
        self._samples: list[torch.Tensor] = []
        self._timesteps: list[torch.Tensor] = []
        self._amplitudes: list[torch.Tensor] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The hook is on inside the block."""
        handle = denoiser_of(self._pipeline).register_forward_hook(self._keep, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _keep(self, denoiser: torch.nn.Module, inputs: tuple, keywords: dict[str, Any], output: Any) -> None:
        joint = is_joint(self._pipeline)
        sample = argument(inputs, keywords, 0, "hidden_states" if joint else "sample")
        timestep = keywords["timestep"] if joint else argument(inputs, keywords, 1, "timestep")
        self._timesteps.append(timestep.reshape(-1)[0])  # stays where it is: a GPU is not waited for
        if self._guided:
            negative, positive = output[0].chunk(2)
            self._amplitudes.append(amplitude_map(positive.float() - negative.float()))
            sample = sample.chunk(2)[1]
        self._samples.append(sample.clone())

    def result(self) -> RecordedSteps:
        """What was kept so far.

        Raises:
            ValueError: if nothing was.
        """
        if not self._samples:
            raise ValueError("nothing was recorded: the denoiser was not called")
        timesteps = torch.stack(self._timesteps).float().cpu()
        samples = torch.stack(self._samples).cpu()
        if type(self._pipeline).__name__ == FLUX:  # which is told sigma, and latents in patches
            timesteps, samples = timesteps * FLOW_TIMESTEPS, self._unpacked(samples)
        guidance, why = self._guidance(timesteps)
        return RecordedSteps(
            trajectory=Trajectory(samples=samples, timesteps=timesteps), guidance=guidance, no_guidance=why
        )

    def _unpacked(self, samples: torch.Tensor) -> torch.Tensor:
        factor = self._pipeline.vae_scale_factor
        _, height, width = latent_shape(self._pipeline, self._request.height, self._request.width)
        flat = self._pipeline._unpack_latents(samples.flatten(0, 1), height * factor, width * factor, factor)
        return flat.unflatten(0, samples.shape[:2])

    def _guidance(self, timesteps: torch.Tensor) -> tuple[torch.Tensor | None, str]:
        if not takes_guidance(self._pipeline):
            return None, NO_GUIDANCE
        if not self._guided:
            return None, (
                f"the guidance scale is {self._request.guidance_scale:g}, and up to 1 a generation predicts nothing "
                "without the prompt"
            )
        try:
            predictor = predictor_of(self._pipeline)
        except ValueError as error:  # it draws all the same
            return None, str(error)
        scales = torch.tensor([predictor.noise_scale(float(timestep)) for timestep in timesteps])
        return torch.stack(self._amplitudes).cpu() * scales[:, None, None, None], ""


@contextmanager
def record_steps(pipeline: DiffusionPipeline, request: GenerationRequest) -> Iterator[StepRecorder]:
    """Record the denoiser calls of a generation with ``request`` inside the ``with`` block.

    Args:
        pipeline: a stock pipeline of SD 1.x, 2.x, XL, SD3 or Flux.
        request: what it draws: of it come guidance scale and size.

    Yields:
        The recorder; its ``result`` has what was recorded.
    """
    recorder = StepRecorder(pipeline, request)
    with recorder.attached():
        yield recorder
