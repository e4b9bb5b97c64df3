"""What attention capture costs, against the same work without it in the same run.

Runs are interleaved and every figure is a ratio within one round, so that a machine whose speed drifts, or
that is shared, moves both sides alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.benchmarks.capture_peers import (
    daam_capture,
    no_capture,
    our_capture,
    prompt_to_prompt_capture,
)
from explorer.checkpoints.architectures import UNET_CONFIGS
from explorer.checkpoints.joint_pipelines import require_unet
from explorer.checkpoints.placement import check_place, resolve_precision
from explorer.generation.generate import (
    GenerationRequest,
    encode_prompts,
    initial_noise,
)

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

BARE, OURS = "none", "ours"


@dataclass(frozen=True, kw_only=True)
class CostRatio:
    """Seconds of something against its bare counterpart, over interleaved rounds."""

    seconds: tuple[float, ...]
    """Seconds of what is measured, one a round."""
    bare_seconds: tuple[float, ...]
    """Seconds of the counterpart, one a round."""

    @property
    def ratio(self) -> float:
        """Median over the rounds of seconds / bare seconds."""
        return self._quantile(0.5)

    @property
    def spread(self) -> tuple[float, float]:
        """Lower and upper quartile of the ratio."""
        return self._quantile(0.25), self._quantile(0.75)

    def _quantile(self, share: float) -> float:
        return float(np.quantile(np.divide(self.seconds, self.bare_seconds), share))

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable summary."""
        low, high = self.spread
        return {
            "ratio": self.ratio,
            "ratio_lower_quartile": low,
            "ratio_upper_quartile": high,
            "seconds": float(np.median(self.seconds)),
            "bare_seconds": float(np.median(self.bare_seconds)),
            "rounds": len(self.seconds),
        }


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """One guided image's way through a U-Net, without text encoding and without decoding."""

    unet: Any
    scheduler: Any
    latents: torch.Tensor
    """``[1, C, h, w]`` noise."""
    text: torch.Tensor
    """``[2, L, d]``, negative first."""
    conditions: dict[str, Any]
    """Further arguments of the U-Net; SDXL's pooled text and sizes."""
    steps: int
    guidance_scale: float

    def run(self) -> torch.Tensor:
        """The final latents."""
        import torch

        self.scheduler.set_timesteps(self.steps, device=self.latents.device)  # as the stock pipelines do
        latents = self.latents * self.scheduler.init_noise_sigma
        with torch.no_grad():
            for timestep in self.scheduler.timesteps:
                scaled = self.scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
                predicted = self.unet(
                    scaled, timestep, encoder_hidden_states=self.text, return_dict=False, **self.conditions
                )[0]
                negative, positive = predicted.chunk(2)
                guided = negative + self.guidance_scale * (positive - negative)
                latents = self.scheduler.step(guided, timestep, latents, return_dict=False)[0]
        return latents


def pipeline_denoising(pipeline: DiffusionPipeline, request: GenerationRequest) -> Denoising:
    """What ``request`` asks of the pipeline's U-Net.

    Raises:
        ValueError: if the request is for several images, or unguided, or the pipeline has no U-Net.
    """
    require_unet(pipeline)
    if request.images != 1 or not request.guided:
        raise ValueError(
            f"images is {request.images} and guidance scale {request.guidance_scale}: expected one image and a scale "
            "above 1, because prompt-to-prompt and DAAM capture the guided half"
        )
    text, conditions = _unet_text(pipeline, request)
    return Denoising(
        unet=pipeline.unet, scheduler=pipeline.scheduler, text=text, conditions=conditions, steps=request.steps,
        latents=initial_noise(pipeline, request).to(pipeline.device), guidance_scale=request.guidance_scale,
    )  # fmt: skip


def random_denoising(
    architecture: str,
    *,
    steps: int,
    guidance_scale: float,
    device: str,
    precision: str = "fp32",
    unet_config: dict[str, Any] | None = None,
) -> Denoising:
    """A U-Net of ``architecture`` (see ``UNET_CONFIGS``) in its native size, with random weights, noise and text.

    Args:
        precision: ``fp32``, ``fp16`` or ``bf16`` of weights, noise and text.
        unet_config: in place of the architecture's.

    Raises:
        ValueError: if there is no such architecture, ``steps`` is below 1, or this machine lacks the device.
    """
    import torch
    from diffusers import DDIMScheduler, UNet2DConditionModel

    if architecture not in UNET_CONFIGS:
        raise ValueError(f"architecture {architecture!r} is unknown: expected one of {sorted(UNET_CONFIGS)}")
    if steps < 1:
        raise ValueError(f"steps is {steps}: expected at least 1")
    check_place(device, None)
    config = UNET_CONFIGS[architecture] if unet_config is None else unet_config
    dtype = resolve_precision(precision)
    torch.manual_seed(0)
    side, conditions = config["sample_size"], {}
    if "addition_time_embed_dim" in config:
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        conditions = {"added_cond_kwargs": _sizes(torch.randn(2, pooled).to(device, dtype))}
    with torch.device(device):  # where a GPU is, a CPU would take far longer to draw the weights
        unet = UNet2DConditionModel(**config)
    return Denoising(
        unet=unet.eval().to(dtype),
        scheduler=DDIMScheduler(clip_sample=False),
        latents=torch.randn(1, 4, side, side).to(device, dtype),
        text=torch.randn(2, 77, config["cross_attention_dim"]).to(device, dtype),
        conditions=conditions,
        steps=steps,
        guidance_scale=guidance_scale,
    )


def benchmark_capture(
    denoising: Denoising,
    rounds: int,
    *,
    peers: bool = True,
    on_round: Callable[[dict[str, CostRatio]], None] = lambda costs: None,
) -> dict[str, CostRatio]:
    """Seconds of denoising with ours, DAAM's and prompt-to-prompt's capture, each against none.

    All of them take turns within a round. The goal for ours is 1.04 on a CPU and 1.02 on a GPU at SD 1.5's size.

    Args:
        peers: False leaves out what is not ours.
        on_round: told the costs so far after each round.
    """

    def costs(seconds: dict[str, tuple[float, ...]]) -> dict[str, CostRatio]:
        bare = seconds[BARE]
        return {name: CostRatio(seconds=took, bare_seconds=bare) for name, took in seconds.items() if name != BARE}

    works = capture_works(denoising, peers=peers)
    return costs(take_turns(works, rounds, on_round=lambda seconds: on_round(costs(seconds))))


def capture_works(denoising: Denoising, *, peers: bool = True) -> dict[str, Callable[[], None]]:
    """Denoising without capture, with ours and, if asked for, with what others do, by name."""
    tokens = denoising.text.shape[1]
    captures: dict[str, Callable[[Any], Any]] = {
        BARE: no_capture,
        OURS: lambda unet: our_capture(unet, tokens, denoising.steps),
    }
    if peers:
        captures |= {"DAAM-style": daam_capture, "prompt-to-prompt-style": prompt_to_prompt_capture}

    def captured(capture: Callable[[Any], Any]) -> Callable[[], None]:
        def work() -> None:
            with capture(denoising.unet):
                denoising.run()

        return work

    return {name: captured(capture) for name, capture in captures.items()}


def capture_table(costs: dict[str, CostRatio]) -> str:
    """The costs as a Markdown table."""
    lines = ["| capture | seconds | against none (quartiles) |", "|---|---:|---:|"]
    for name, cost in costs.items():
        figures = cost.as_dict()
        spread = f"{figures['ratio_lower_quartile']:.2f} to {figures['ratio_upper_quartile']:.2f}"
        lines.append(f"| {name} | {figures['seconds']:.3g} | {figures['ratio']:.2f} ({spread}) |")
        bare = figures["bare_seconds"]
    return "\n".join([*lines, f"| none | {bare:.3g} | 1 |"])


def interleave(measured: Callable[[], Any], bare: Callable[[], Any], rounds: int) -> CostRatio:
    """Time both with :func:`take_turns`."""
    seconds = take_turns({"measured": measured, "bare": bare}, rounds)
    return CostRatio(seconds=seconds["measured"], bare_seconds=seconds["bare"])


def take_turns(
    works: dict[str, Callable[[], Any]],
    rounds: int,
    *,
    warm_up: bool = True,
    on_round: Callable[[dict[str, tuple[float, ...]]], None] = lambda seconds: None,
) -> dict[str, tuple[float, ...]]:
    """Seconds of every work in every round, after one run of each that is not counted.

    Every work starts a round once in a while: none always follows the same one.

    Args:
        warm_up: False leaves that one run out, where the same works ran before.
        on_round: told the seconds so far after each round.

    Raises:
        ValueError: if ``rounds`` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: expected at least 1")
    for work in works.values() if warm_up else ():
        _seconds_of(work)  # waits for the GPU, so that nothing is left for the first round
    names = list(works)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        first = index % max(1, len(names))
        for name in names[first:] + names[:first]:
            seconds[name].append(_seconds_of(works[name]))
        on_round({name: tuple(series) for name, series in seconds.items()})
    return {name: tuple(series) for name, series in seconds.items()}


def check_pair(names: Sequence[str]) -> None:
    """Refuse a comparison of fewer than two models.

    Raises:
        ValueError: naming what was given.
    """
    if len(set(names)) < 2:
        raise ValueError(f"checkpoints given: {', '.join(names) or 'none'}; expected at least two different ones")


def bare_unet_calls(pipeline: DiffusionPipeline, request: GenerationRequest) -> Callable[[], None]:
    """As many U-Net calls as ``request`` takes, on its latents and embeddings, guidance as one batch, and nothing else:
    no text encoding, no scheduler, no decoding.

    Raises:
        ValueError: if the pipeline has no U-Net.
    """
    import torch

    require_unet(pipeline)
    text, conditions = _unet_text(pipeline, request)
    noise = initial_noise(pipeline, request).to(pipeline.device)
    latents = torch.cat([noise] * (len(text) // len(noise)))
    pipeline.scheduler.set_timesteps(request.steps)
    timesteps = pipeline.scheduler.timesteps.to(pipeline.device)

    @torch.no_grad()
    def calls() -> None:
        for timestep in timesteps:
            pipeline.unet(latents, timestep, encoder_hidden_states=text, return_dict=False, **conditions)

    return calls


def _unet_text(pipeline: DiffusionPipeline, request: GenerationRequest) -> tuple[torch.Tensor, dict[str, Any]]:
    """The U-Net's text rows, negative first where guided, and its further arguments."""
    import torch

    embeddings = encode_prompts(pipeline, request)

    def rows(name: str) -> torch.Tensor:
        parts = [embeddings[name]]
        if request.guided:
            parts.insert(0, embeddings[f"negative_{name}"])
        return torch.cat([part.repeat_interleave(request.images, dim=0) for part in parts])

    pooled = "pooled_prompt_embeds"
    conditions = {} if pooled not in embeddings else {"added_cond_kwargs": _sizes(rows(pooled))}
    return rows("prompt_embeds"), conditions


def _sizes(pooled: torch.Tensor) -> dict[str, torch.Tensor]:
    """SDXL's conditions; a size of zero takes as long as any other."""
    return {"text_embeds": pooled, "time_ids": pooled.new_zeros(len(pooled), 6)}


def _seconds_of(work: Callable[[], Any]) -> float:
    """Wall-clock seconds, waiting for the GPU where there is one."""
    import torch

    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
