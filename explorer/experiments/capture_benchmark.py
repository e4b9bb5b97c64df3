"""What capture and live comparison cost, against the same work without them in the same run.

Runs are interleaved and every figure is a ratio within one round, so that a machine whose speed drifts, or
that is shared, moves both sides alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.experiments.generation import (
    GenerationRequest,
    compare,
    encode_prompts,
    generate,
    initial_noise,
)

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


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
        import numpy as np

        return float(np.quantile(np.divide(self.seconds, self.bare_seconds), share))

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable summary."""
        import numpy as np

        low, high = self.spread
        return {
            "ratio": self.ratio,
            "ratio_lower_quartile": low,
            "ratio_upper_quartile": high,
            "seconds": float(np.median(self.seconds)),
            "bare_seconds": float(np.median(self.bare_seconds)),
            "rounds": len(self.seconds),
        }


def capture_cost(pipeline: DiffusionPipeline, request: GenerationRequest, rounds: int) -> CostRatio:
    """A whole generation with capture against the same without; the goal on a CPU is 1.05."""
    return interleave(
        lambda: generate(pipeline, request, capture=True),
        lambda: generate(pipeline, request, capture=False),
        rounds,
    )


def comparison_cost(pipelines: dict[str, DiffusionPipeline], request: GenerationRequest, rounds: int) -> CostRatio:
    """A live comparison with capture against the models' bare U-Net calls; the goal is 1.15.

    Bare: as many U-Net calls on the same latents and embeddings, guidance as one batch, and nothing else: no
    text encoding, no scheduler, no decoding.
    """
    bare_calls = [_bare_unet_calls(pipeline, request) for pipeline in pipelines.values()]
    return interleave(lambda: list(compare(pipelines, request)), lambda: [calls() for calls in bare_calls], rounds)


def interleave(measured: Callable[[], Any], bare: Callable[[], Any], rounds: int) -> CostRatio:
    """Time both in every round, taking turns at going first, after one round that is not counted.

    Raises:
        ValueError: if ``rounds`` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: expected at least 1")
    measured(), bare()
    seconds: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds):
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            seconds[which].append(_seconds_of((measured, bare)[which]))
    return CostRatio(seconds=tuple(seconds[0]), bare_seconds=tuple(seconds[1]))


def check_pair(names: Sequence[str]) -> None:
    """Refuse a comparison of fewer than two models.

    Raises:
        ValueError: naming what was given.
    """
    if len(set(names)) < 2:
        raise ValueError(f"checkpoints given: {', '.join(names) or 'none'}; expected at least two different ones")


def _bare_unet_calls(pipeline: DiffusionPipeline, request: GenerationRequest) -> Callable[[], None]:
    import torch

    embeddings = encode_prompts(pipeline, request)
    texts = [embeddings["prompt_embeds"]]
    if request.guided:
        texts.insert(0, embeddings["negative_prompt_embeds"])
    text = torch.cat([part.repeat_interleave(request.images, dim=0) for part in texts])
    noise = initial_noise(pipeline, request).to(pipeline.device)
    latents = torch.cat([noise] * len(texts))
    pipeline.scheduler.set_timesteps(request.steps)
    timesteps = pipeline.scheduler.timesteps.to(pipeline.device)

    @torch.no_grad()
    def calls() -> None:
        for timestep in timesteps:
            pipeline.unet(latents, timestep, encoder_hidden_states=text, return_dict=False)

    return calls


def _seconds_of(work: Callable[[], Any]) -> float:
    """Wall-clock seconds, waiting for the GPU where there is one."""
    import torch

    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
